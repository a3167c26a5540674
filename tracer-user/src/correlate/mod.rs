//! Records in, paths out. Pure: no clock, no I/O, and the same records always give the same paths.
//!
//! What makes two hops hops of one packet:
//! * the address of its `sk_buff`, as long as the hops come in the order of the path and the headers stay the same; a
//!   hop that is not further along the path begins a new packet in the same memory (`packets`);
//! * for a segment that the device layer cut off a larger packet, the flow and the sequence numbers
//!   (`segments`);
//! * for a routing question, the thread that asked and the flow it asked for (`routes`);
//! * for the poll that took it off a backlog, the CPU that the packet was received on (`packets`);
//! * for the wake-up and the read, the flow and the sequence numbers (`delivery`);
//! * on UNIX sockets, the thread that sends and the socket that it wakes (`unix`).
//!
//! The records of one packet arrive in the order in which they happened, whatever CPUs they come from: room in the
//! ring buffer is reserved under one lock, and each hop happens after the one before it. When in doubt a path is
//! incomplete: two packets are never joined.

mod delivery;
mod flows;
mod in_flight;
mod names;
mod packets;
mod routes;
mod segments;
mod unix;

#[cfg(test)]
mod tests;

use tracer_common::{
    event::{HopRecord, NO_FLOW},
    probes::{Backend, Point},
};

use self::{
    flows::Flows,
    in_flight::{InFlight, Packet, PacketKey, UNNUMBERED},
    names::Names,
    packets::{Receiving, SETTLE_NS},
    routes::Routes,
    unix::UnixCalls,
};
use crate::{
    decode::Record,
    model::{Coverage, Hop, Incomplete, Path},
};

/// Bounds on what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets on their way, or received and not read.
    pub in_flight: usize,
    /// Flows, UNIX sockets, process names and devices, of each.
    pub known: usize,
    /// How long a packet may be between two hops before it is given up, ns.
    pub patience_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Four times the kernel's flow table, so that userspace never forgets a flow that the kernel still numbers.
        Self { in_flight: 1 << 18, known: 1 << 18, patience_ns: 2_000_000_000 }
    }
}

/// Builds paths from records.
pub struct Correlator {
    limits: Limits,
    coverage: Coverage,
    flows: Flows,
    names: Names,
    in_flight: InFlight,
    receiving: Receiving,
    routes: Routes,
    unix: UnixCalls,
    /// `CLOCK_MONOTONIC`, ns, after which no path begins.
    closes_at_ns: Option<u64>,
    /// The time of the latest record, or the latest time given.
    now_ns: u64,
    /// When there can be something that has waited too long.
    settle_at_ns: u64,
    /// When a packet on its way can have been idle for too long.
    lose_at_ns: u64,
    next_id: u64,
    ready: Vec<Path>,
    /// Room for the packets that one read ends; empty between records.
    read_now: Vec<PacketKey>,
    malformed: u64,
}

impl Correlator {
    /// A correlator for a run that sees `coverage`.
    pub fn new(coverage: Coverage, limits: Limits) -> Self {
        Self {
            flows: Flows::new(limits.known),
            names: Names::new(limits.known),
            unix: UnixCalls::new(limits.known),
            limits,
            coverage,
            in_flight: InFlight::default(),
            receiving: Receiving::default(),
            routes: Routes::default(),
            closes_at_ns: None,
            now_ns: 0,
            settle_at_ns: 0,
            lose_at_ns: 0,
            next_id: 1,
            ready: Vec::new(),
            read_now: Vec::new(),
            malformed: 0,
        }
    }

    /// Takes one record.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Hop(hop) => self.hop(hop),
            Record::Flow(flow) => self.flows.announce(flow),
            Record::Task(task) => self.names.announce_task(task),
            Record::Device(device) => self.names.announce_device(device),
            Record::UnixName(name) => self.unix.announce(name),
        }
    }

    /// The paths that have come to an end since the last call, in the order in which they ended.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Path> {
        self.ready.drain(..)
    }

    /// Packets on their way, or received and not read.
    pub fn unfinished(&self) -> usize {
        self.in_flight.len()
    }

    /// Hop records that name no probe point.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// From now on no path begins; those that have begun may end. `time_ns`: `CLOCK_MONOTONIC`.
    pub fn close(&mut self, time_ns: u64) {
        self.closes_at_ns = Some(time_ns);
    }

    /// Ends what has waited too long. `now_ns`: `CLOCK_MONOTONIC`, at or after the last record. The times of records
    /// do the same, so that a recording ends as the live run did; but while nothing happens, no record says so.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.settle_received(now_ns);
        self.settle_at_ns = now_ns.saturating_add(SETTLE_NS);
        let patience = self.limits.patience_ns;
        if now_ns < self.lose_at_ns && self.lose_at_ns - now_ns <= patience.saturating_add(1) {
            return;
        }
        let (idle, earliest) = self.in_flight.idle_since(now_ns.saturating_sub(patience));
        for key in idle {
            self.lose_track(key);
        }
        self.lose_at_ns = earliest.unwrap_or(now_ns).saturating_add(patience).saturating_add(1);
    }

    /// Ends everything: the trace is over.
    pub fn finish(&mut self) {
        self.advance(self.now_ns);
        self.settle_received(u64::MAX);
        for key in self.in_flight.oldest_first() {
            let reason = match self.in_flight.get(key) {
                Some(packet) if packet.awaits_reader => {
                    let reset =
                        packet.read_on().and_then(|flow| self.flows.get(flow)).is_some_and(|flow| flow.reset);
                    if reset { Incomplete::NeverRead } else { Incomplete::NotRead }
                }
                Some(packet) if packet.left_by_device() => Incomplete::LeftByDevice,
                _ => Incomplete::TraceEnded,
            };
            self.end(key, Some(reason));
        }
    }

    fn hop(&mut self, record: &HopRecord) {
        let (Some(point), Some(backend)) =
            (Point::from_wire(record.point), Backend::from_wire(record.backend))
        else {
            self.malformed += 1;
            return;
        };
        let hop = Hop { point, backend, cpu: record.cpu, time_ns: record.time_ns, aux: record.aux };
        self.now_ns = self.now_ns.max(hop.time_ns);
        // The second half: a time that makes no sense must not stop the clock.
        if hop.time_ns >= self.settle_at_ns || self.settle_at_ns - hop.time_ns > 2 * SETTLE_NS {
            self.advance(hop.time_ns);
        }
        let flow = self.flows.find(record.flow);
        match point {
            Point::FibLookup => {
                if let Some(state) = flow.and_then(|flow| self.flows.get(flow)) {
                    self.routes.ask(record, state.flow, hop);
                }
            }
            Point::ProcessBacklog => self.receiving.poll(hop),
            Point::TcpSendmsg => {
                if let Some(state) = flow.and_then(|flow| self.flows.get_mut(flow)) {
                    state.sender = process(record).or(state.sender);
                }
            }
            Point::TcpRecvmsg => {
                if let Some(flow) = flow {
                    self.read(flow, record, hop);
                }
            }
            Point::SockDefReadable => match flow {
                Some(flow) => self.readable(flow, record, hop),
                // A TCP socket whose flow's record was lost says how far its data goes; a UNIX socket says nothing.
                None if record.flow == NO_FLOW && record.seq == 0 => self.unix_readable(record, hop),
                None => {}
            },
            Point::UnixStreamConnect | Point::UnixStreamSendmsg => self.unix_call(record, hop),
            Point::IpQueueXmit
            | Point::Ip6Xmit
            | Point::DevQueueXmit
            | Point::LoopbackXmit
            | Point::EnqueueToBacklog
            | Point::NetifReceiveSkb
            | Point::TcpV4Rcv
            | Point::TcpV6Rcv => self.packet(flow, record, hop),
        }
    }

    /// The next number of a path.
    fn number(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Keeps a packet that has begun its way; makes room if there is none.
    fn keep(&mut self, packet: Packet) -> PacketKey {
        if self.in_flight.len() >= self.limits.in_flight
            && let Some(oldest) = self.in_flight.oldest()
        {
            self.end(oldest, Some(Incomplete::TooMany));
        }
        self.in_flight.insert(packet)
    }

    /// Gives a packet up that was not seen for too long.
    fn lose_track(&mut self, key: PacketKey) {
        let left = self.in_flight.get(key).is_some_and(Packet::left_by_device);
        let reason = if left { Incomplete::LeftByDevice } else { Incomplete::LostTrack };
        self.end(key, Some(reason));
    }

    /// Ends a path. A reason that the packet has had since its start wins.
    fn end(&mut self, key: PacketKey, incomplete: Option<Incomplete>) {
        let Some(packet) = self.in_flight.remove(key) else { return };
        let id = if packet.id == UNNUMBERED { self.number() } else { packet.id };
        let waits_on = packet.read_on();
        let receiver = waits_on.and_then(|flow| self.flows.get(flow)).and_then(|state| state.receiver);
        let flow = packet.flow.and_then(|flow| self.flows.get(flow));
        let task = |tgid: Option<u32>| tgid.map(|tgid| self.names.task(tgid));
        let path = Path {
            id,
            flow: flow.map(|state| state.flow),
            unix_name: packet.unix_name,
            tcp: packet.tcp,
            len: packet.len,
            device: packet
                .ifindex
                .map(|ifindex| self.names.device(flow.map_or(0, |state| state.flow.netns), ifindex)),
            sender: task(packet.sender.or(flow.and_then(|state| state.sender))),
            receiver: task(receiver),
            hops: packet.hops,
            incomplete: packet.doubt.or(incomplete),
        };
        self.ready.push(path);
        if packet.awaits_reader {
            self.waits_no_more(waits_on, key);
        }
    }
}

/// The process in whose name the kernel ran, if it did.
fn process(record: &HopRecord) -> Option<u32> {
    (record.tgid != 0).then_some(record.tgid)
}
