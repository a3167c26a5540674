//! What becomes of packets on the receiving side, from their device to their transport.

use std::collections::VecDeque;

use arrayvec::ArrayVec;
use hashbrown::HashMap;
use slotmap::SecondaryMap;
use smallvec::SmallVec;
use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::{Backend, Point},
};

use super::{
    Correlator,
    delivery::is_after,
    flows::FlowKey,
    in_flight::{Packet, PacketKey},
};
use crate::model::{Hop, Protocol};

/// After this time a received packet that its transport function was not seen to take is settled, ns. On the same CPU
/// it would have been taken within the same softirq.
pub(super) const SETTLE_NS: u64 = 10_000_000;

/// How many packets of a driver's list may wait for their transport on a CPU: as many as one poll takes
/// (`NAPI_POLL_WEIGHT`).
const LIST: usize = 64;

/// No kernel has more CPUs.
const CPUS: u32 = 1 << 13;

/// What each CPU is doing on the receiving side.
#[derive(Default)]
pub(super) struct Receiving {
    polls: HashMap<u32, Hop>,
    /// Received packets whose transport function may or may not be seen (`tcp:tcp_probe` sees established sockets
    /// only), or that it may drop yet, by CPU, in order. A packet off a backlog comes to its transport before the CPU
    /// receives the next one. Of a list that a driver hands over, all are received before the first comes to its transport
    /// (`__netif_receive_skb_list_core`).
    unsettled: Vec<VecDeque<PacketKey>>,
    /// The CPU of each of them.
    settles_on: SecondaryMap<PacketKey, u32>,
}

impl Receiving {
    /// A CPU begins to take packets off its backlog.
    pub(super) fn poll(&mut self, hop: Hop) {
        if hop.cpu < CPUS {
            self.polls.insert(hop.cpu, hop);
        }
    }

    /// The packet has ended otherwise.
    pub(super) fn forget(&mut self, key: PacketKey) {
        let Some(queue) = self.settles_on.remove(key).and_then(|cpu| self.queue(cpu)) else { return };
        queue.retain(|other| *other != key);
    }

    fn queue(&mut self, cpu: u32) -> Option<&mut VecDeque<PacketKey>> {
        self.unsettled.get_mut(usize::try_from(cpu).ok()?)
    }

    /// The packet settles on a CPU.
    fn settles(&mut self, cpu: u32, key: PacketKey) {
        self.forget(key);
        let cpus = usize::try_from(cpu.min(CPUS)).unwrap_or_default() + 1;
        if self.unsettled.len() < cpus {
            self.unsettled.resize_with(cpus, VecDeque::new);
        }
        if let Some(queue) = self.queue(cpu) {
            queue.push_back(key);
            self.settles_on.insert(key, cpu);
        }
    }

    /// Takes out the packet that was to settle on a CPU first, if it has.
    fn settled(&mut self, cpu: u32, has: impl FnOnce(PacketKey, usize) -> bool) -> Option<PacketKey> {
        let queue = self.queue(cpu)?;
        let first = *queue.front()?;
        if !has(first, queue.len()) {
            return None;
        }
        queue.pop_front();
        self.settles_on.remove(first);
        Some(first)
    }

    /// The trace is over.
    pub(super) fn finish(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn cpus(&self) -> usize {
        self.polls.len().max(self.unsettled.len()).max(self.settles_on.len())
    }

    /// The poll that took a packet, which was received as `received`, off its CPU's backlog. A packet that was queued
    /// while the poll was already running has no start of a poll in its path.
    pub(super) fn poll_of(&self, packet: &Packet, received: Hop) -> Option<Hop> {
        let poll = self.polls.get(&received.cpu)?;
        let queued = packet.hops.iter().rev().find(|hop| hop.point == Point::EnqueueToBacklog)?;
        let on_this_cpu = queued.aux == poll.cpu || queued.aux == AUX_UNKNOWN;
        let in_order = queued.time_ns <= poll.time_ns && poll.time_ns <= received.time_ns;
        (on_this_cpu && in_order).then_some(*poll)
    }
}

impl Correlator {
    /// Ends the received packets that have waited for their transport function long enough.
    pub(super) fn settle_received(&mut self, now_ns: u64) {
        let before = now_ns.saturating_sub(SETTLE_NS);
        self.settle_if(|packet| packet.last_ns() <= before);
    }

    /// Data up to here was seen on the receiving socket, so the transport has taken what carried it.
    pub(super) fn settle_up_to(&mut self, flow: FlowKey, seq: u32) {
        self.settle_if(|packet| packet.read_on() == Some(flow) && !is_after(packet.end_seq(), seq));
    }

    /// Somebody reads from a UDP socket, who may have taken any datagram for it that was received by now.
    pub(super) fn settle_datagrams(&mut self, sk: u64, now_ns: u64) {
        if self.receiving.settles_on.is_empty() {
            return;
        }
        let comes_to_it = |packet: &Packet| {
            let flow = packet.read_on().and_then(|flow| self.flows.get(flow));
            !packet.holds_several
                && packet.last_ns() <= now_ns
                && flow.is_some_and(|flow| {
                    flow.protocol() == Protocol::Udp && self.datagrams.are_read_by(flow.flow(), sk)
                })
        };
        let unsettled = self.receiving.unsettled.iter().flatten().copied();
        let of_it = unsettled.filter(|key| self.in_flight.get(*key).is_some_and(comes_to_it));
        let mut of_it: SmallVec<[PacketKey; 8]> = of_it.collect();
        of_it.sort_unstable_by_key(|key| self.in_flight.get(*key).map(|packet| packet.id));
        for key in of_it {
            self.receiving.forget(key);
            self.settle(key);
        }
    }

    fn settle_if(&mut self, is_settled: impl Fn(&Packet) -> bool) {
        if self.receiving.settles_on.is_empty() {
            return;
        }
        let mut settled: Vec<PacketKey> = Vec::new();
        for queue in &mut self.receiving.unsettled {
            queue.retain(|key| {
                let stays = self.in_flight.get(*key).is_some_and(|packet| !is_settled(packet));
                if !stays {
                    settled.push(*key);
                }
                stays
            });
        }
        settled.sort_unstable_by_key(|key| self.in_flight.get(*key).map(|packet| packet.id));
        for key in &settled {
            self.receiving.settles_on.remove(*key);
        }
        for key in settled {
            self.settle(key);
        }
    }

    /// Whether every packet's transport function is seen, not only that of some.
    pub(super) fn always_sees_transport(&self, packet: &Packet) -> bool {
        let Some(flow) = packet.read_on().and_then(|key| self.flows.get(key)) else {
            return packet.is_tcp && self.sees_all(Point::TcpV4Rcv) && self.sees_all(Point::TcpV6Rcv);
        };
        match (flow.protocol(), flow.is_ipv6()) {
            (Protocol::Tcp, false) => self.sees_all(Point::TcpV4Rcv),
            (Protocol::Tcp, true) => self.sees_all(Point::TcpV6Rcv),
            (Protocol::Udp, false) => self.sees_all(Point::UdpRcv),
            (Protocol::Udp, true) => self.sees_all(Point::Udpv6Rcv),
            _ => false,
        }
    }

    fn sees_all(&self, transport: Point) -> bool {
        self.coverage.attached(transport).is_some_and(|at| at.backend != Backend::Tracepoint)
    }

    /// The packet is off the queue, and handed to its protocol, which may drop it yet.
    pub(super) fn handed_to_protocol(&mut self, key: PacketKey, record: &HopRecord) {
        let Some(packet) = self.in_flight.get(key) else { return };
        let (cpu, is_alone) = (u32::from(record.cpu), packet.is_off_backlog());
        let may_not_be_seen = !self.always_sees_transport(packet);
        self.receiving.forget(key);
        let in_flight = &self.in_flight;
        let is_done = |before: PacketKey| {
            in_flight
                .get(before)
                .is_none_or(|before| before.stage > Point::NetifReceiveSkb || before.is_off_backlog())
        };
        // One that came off the backlog was received alone, so what a driver handed over before has been dealt with.
        let has_settled = |before, waiting| is_alone || waiting > LIST || is_done(before);
        let mut settled: ArrayVec<PacketKey, { LIST + 1 }> = ArrayVec::new();
        while let Some(before) = self.receiving.settled(cpu, has_settled) {
            settled.push(before);
        }
        for before in settled {
            self.settle(before);
        }
        if may_not_be_seen {
            self.unsettled(key, cpu);
        }
    }

    /// The transport function has been given the packet, and with it all that the CPU received before.
    fn at_transport(&mut self, key: PacketKey, record: &HopRecord) {
        let cpu = u32::from(record.cpu);
        let is_here = self.receiving.settles_on.get(key) == Some(&cpu);
        while let Some(before) = self.receiving.settled(cpu, |before, _| before != key) {
            self.settle(before);
        }
        if !is_here {
            self.unsettled(key, cpu);
        }
    }

    /// More may be seen of the packet until its CPU is known to have dealt with it.
    fn unsettled(&mut self, key: PacketKey, cpu: u32) {
        if cpu >= CPUS {
            return self.settle(key);
        }
        self.receiving.settles(cpu, key);
    }

    /// A received packet's transport function has been passed, seen or not.
    pub(super) fn settle(&mut self, key: PacketKey) {
        if self.in_flight.get(key).is_some_and(|packet| !packet.awaits_reader) {
            self.delivered(key);
        }
    }

    /// The transport has the packet. Data waits for its reader from now on; for the rest a drop may follow.
    pub(super) fn received(&mut self, key: PacketKey, record: &HopRecord) {
        let Some(packet) = self.in_flight.get(key) else { return };
        if packet.len == 0 && packet.is_tcp {
            return self.at_transport(key, record);
        }
        self.receiving.forget(key);
        self.settle(key);
    }
}
