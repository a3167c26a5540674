//! Routing questions: asked by a thread before or while it sends, with no packet in hand.

use arrayvec::ArrayVec;
use hashbrown::HashMap;
use tracer_common::event::{HopRecord, RouteRecord};

use super::{
    Correlator,
    delivery::ACK,
    flows::address_of,
    in_flight::{Packet, Route},
};
use crate::model::{Flow, Hop, Protocol, Tcp};

/// Questions kept for each thread. `connect` asks three times (`ip_route_connect` without and with the source address
/// that the first answer gives, `ip_route_newports` with the port that was chosen), each time of two tables, and of
/// more where there are routing rules; softirqs ask in between.
const QUESTIONS: usize = 16;

/// The most questions that one path shows: three of four tables. A path has room for them beside all other hops.
const ANSWERS: usize = 12;

/// A question older than this belongs to something else; emulated machines take milliseconds between question and
/// packet. ns.
pub(super) const QUESTION_NS: u64 = 100_000_000;

/// Threads with open questions that are remembered.
const THREADS: usize = 4096;

#[derive(Debug)]
struct Question {
    flow: Flow,
    hop: Hop,
    route: Route,
    /// Whether the thread has sent a packet since.
    is_passed: bool,
}

impl Correlator {
    /// A routing table has answered a question.
    pub(super) fn route(&mut self, record: &RouteRecord) {
        let Some(mut hop) = self.hop_of(record.point, record.backend, record.cpu, record.time_ns) else {
            return;
        };
        let Some(flow) = self.flows.find(record.flow).and_then(|flow| self.flows.get(flow)) else { return };
        let flow = flow.flow();
        (hop.aux, hop.netns) = (record.table, flow.netns);
        let source = address_of(record.source, flow.src.is_ipv6());
        let route = Route {
            time_ns: hop.time_ns,
            table: record.table,
            route_type: record.route_type,
            ifindex: record.ifindex,
            netns: flow.netns,
            source: (!source.is_unspecified()).then_some(source),
            error: record.error,
        };
        self.routes.ask((record.tid, record.cpu), flow, hop, route);
    }
}

/// The questions that no packet has followed yet, by thread.
#[derive(Default)]
pub(super) struct Routes {
    asked: HashMap<(u32, u16), ArrayVec<Question, QUESTIONS>>,
}

impl Routes {
    /// A thread asks for a flow.
    fn ask(&mut self, (tid, cpu): (u32, u16), flow: Flow, hop: Hop, route: Route) {
        // Received packets are routed too, and ask without naming a transport.
        if flow.protocol == Protocol::Other(0) {
            return;
        }
        if self.asked.len() >= THREADS {
            let recent = |question: &Question| age(question, hop.time_ns) <= QUESTION_NS;
            self.asked.retain(|_, questions| questions.last().is_some_and(recent));
            if self.asked.len() >= THREADS {
                self.asked.clear();
            }
        }
        let questions = self.asked.entry(thread(tid, cpu)).or_default();
        if questions.is_full() {
            questions.remove(0);
        }
        questions.push(Question { flow, hop, route, is_passed: false });
    }

    /// Whether nobody has asked anything.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.asked.len()
    }

    /// A packet that asks for nothing was seen in a thread.
    pub(super) fn pass(&mut self, record: &HopRecord) {
        if let Some(questions) = self.asked.get_mut(&thread(record.tid, record.cpu)) {
            questions.iter_mut().for_each(|question| question.is_passed = true);
        }
    }

    /// A packet of `flow` was seen in a thread: gives it the questions that were asked for it since `since_ns`.
    ///
    /// One question must name the packet's flow in full (but for TCP over IPv6, where `connect` asks before it has chosen a
    /// port and not again, and for datagrams, whose call asks before it has chosen an address). Those before it that leave the source or the ports open are its predecessors from the same
    /// `connect`. Each asks a table once: what asks it the same again is from an earlier
    /// attempt that came to nothing. (Where records are lost a question may be that of the packet before, asked by the
    /// same thread for the same flow, or for any to the same place, a moment ago.)
    pub(super) fn answer(&mut self, record: &HopRecord, flow: Flow, since_ns: u64, packet: &mut Packet) {
        let thread = thread(record.tid, record.cpu);
        let Some(questions) = self.asked.get_mut(&thread) else { return };
        let room = ANSWERS.saturating_sub(packet.routes.len());
        // Nothing else that TCP sends is asked for before its ends are known.
        let is_connect = packet.tcp().is_none_or(|tcp| tcp.flags & (Tcp::SYN | ACK) == Tcp::SYN);
        // A RST without a socket leaves right behind its question; that of a socket asks for nothing, and finds the one for
        // which the connection's route was looked up when it was accepted.
        let is_reset = packet.tcp().is_some_and(|tcp| tcp.flags & Tcp::RST != 0);
        let mut taken: ArrayVec<(Flow, u32), ANSWERS> = ArrayVec::new();
        for at in (0..questions.len()).rev() {
            let Question { flow: asked, hop, route, is_passed } = questions[at];
            let age = age(&questions[at], record.time_ns);
            let exact = (asked.protocol, asked.src, asked.dst) == (flow.protocol, flow.src, flow.dst);
            let open =
                is_connect && !exact && asked.protocol == flow.protocol && flow.may_be_routed_by(&asked);
            // Asked only once, before the source is chosen: by `connect` over IPv6, and by a datagram's call on a socket
            // that is not bound to an address (`udp_sendmsg`, `udpv6_sendmsg`).
            let begins = exact || open && if packet.is_tcp { flow.src.is_ipv6() } else { since_ns > 0 };
            let is_own = (begins || open && !taken.is_empty())
                && age <= QUESTION_NS
                && !(is_reset && is_passed)
                && (since_ns..=record.time_ns).contains(&hop.time_ns)
                && taken.len() < room
                && !taken.contains(&(asked, hop.aux));
            if is_own {
                taken.push((asked, hop.aux));
                packet.add_route(hop, route);
            }
            // Its packet has been sent.
            if exact || open || age > QUESTION_NS {
                questions.remove(at);
            }
        }
        questions.iter_mut().for_each(|question| question.is_passed = true);
        if questions.is_empty() {
            self.asked.remove(&thread);
        }
    }
}

/// How long ago a question was asked, ns.
fn age(question: &Question, now_ns: u64) -> u64 {
    now_ns.saturating_sub(question.hop.time_ns)
}

/// The idle task has the number 0 on every CPU; softirqs run in it as in any other.
fn thread(tid: u32, cpu: u16) -> (u32, u16) {
    (tid, if tid == 0 { cpu } else { 0 })
}
