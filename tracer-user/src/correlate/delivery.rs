//! What happens to data after TCP has received it: the wake-up of the reader and the read, joined by sequence number.

use tracer_common::{
    event::HopRecord,
    probes::{Backend, Point},
};

use super::{
    Correlator,
    flows::{FlowKey, FlowState},
    in_flight::{InFlight, Packet, PacketKey, Who},
    process,
};
use crate::model::{Hop, Incomplete, Protocol, Tcp};

/// The ACK flag.
pub(super) const ACK: u8 = 0x10;

/// What TCP's flags say of the conversation.
impl Correlator {
    /// A packet was seen on a flow for the first time.
    pub(super) fn conversation(&mut self, flow: FlowKey, tcp: Tcp, time_ns: u64) {
        if tcp.flags & Tcp::SYN != 0 {
            if !self.flows.begin(flow, tcp.seq, time_ns) {
                return;
            }
            self.forget_conversation(flow);
            // Whoever connects has a new socket. What still lies in the one before may be read there, which is no part of this one.
            if tcp.flags & ACK == 0
                && let Some(back) = self.flows.back(flow)
            {
                self.forget_conversation(back);
            }
        } else if tcp.flags & Tcp::RST != 0 {
            self.flows.reset(flow);
        }
    }

    fn forget_conversation(&mut self, flow: FlowKey) {
        for key in self.flows.forget_conversation(flow).iter() {
            self.end(*key, Some(Incomplete::NeverRead));
        }
    }
}

impl Correlator {
    /// The transport has the packet, and has not dropped it. Without data, or where reads are not seen, that is its end.
    pub(super) fn delivered(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get(key) else { return };
        if !packet.is_tcp {
            return self.datagram_delivered(key);
        }
        if packet.len == 0 || !self.coverage.sees(Point::TcpRecvmsg) {
            return self.end(key, None);
        }
        let end = packet.end_seq();
        let Some(state) = packet.read_on().and_then(|flow| self.flows.get_mut(flow)) else {
            return self.end(key, Some(Incomplete::FlowUnknown));
        };
        // A segment that came twice: its data has been read already.
        if state.read_up_to.is_some_and(|read| !is_after(end, read)) {
            return self.end(key, None);
        }
        // Most come in order.
        let in_flight = &self.in_flight;
        let is_before = |other: &PacketKey| ends_by(in_flight, *other, end);
        let at = match state.waiting.back() {
            Some(last) if !is_before(last) => state.waiting.partition_point(is_before),
            _ => state.waiting.len(),
        };
        state.waiting.insert(at, key);
        if let Some(packet) = self.in_flight.get_mut(key) {
            packet.awaits_reader = true;
        }
    }

    /// The reader is woken: everything up to `rcv_nxt` is there for it.
    pub(super) fn readable(&mut self, flow: FlowKey, record: &HopRecord, hop: Hop) {
        self.settle_up_to(flow, record.seq);
        let Some(state) = self.flows.get_mut(flow) else { return };
        // Which may lie where the earlier one was.
        (state.woken_on, state.was_woken_on) = (record.sk, 0);
        // From the newest back: what was woken for once has been woken for.
        for key in state.waiting.iter().rev() {
            let Some(packet) = self.in_flight.get_mut(*key) else { continue };
            if packet.passed(Point::SockDefReadable) {
                break;
            }
            if !is_after(packet.end_seq(), record.seq) && packet.last_ns() <= hop.time_ns {
                packet.add(hop);
                packet.woken_on = record.sk;
            }
        }
    }

    /// A process has read everything up to `copied_seq`.
    pub(super) fn read(&mut self, flow: FlowKey, record: &HopRecord, hop: Hop) {
        self.settle_up_to(flow, record.seq);
        let Some(state) = self.flows.get_mut(flow).filter(|state| !state.is_read_on_another(record.sk))
        else {
            return;
        };
        state.receiver = process(record).or(state.receiver);
        state.read_up_to = Some(record.seq);
        // `waiting` is ordered by the end of the data, so what was read stands in front.
        while let Some(key) = state.waiting.front().copied() {
            if self.in_flight.get(key).is_some_and(|packet| is_after(packet.end_seq(), record.seq)) {
                break;
            }
            state.waiting.pop_front();
            self.read_now.push(key);
        }
        for at in 0..self.read_now.len() {
            let key = self.read_now[at];
            if let Some(packet) = self.in_flight.get_mut(key) {
                packet.awaits_reader = false;
                // What came while the read was under way came a second time.
                if packet.last_ns() <= hop.time_ns {
                    self.wakes.give(record.tid, hop.time_ns, packet);
                    packet.receiver = Who::thread(record.tgid, record.tid);
                    packet.add(hop);
                }
            }
            self.end(key, None);
        }
        self.read_now.clear();
        self.flows.idle(flow);
    }

    /// A UDP datagram, or another packet that is no segment, is with its protocol.
    fn datagram_delivered(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get(key) else { return };
        let is_udp = packet
            .read_on()
            .and_then(|flow| self.flows.get(flow))
            .is_some_and(|state| state.protocol() == Protocol::Udp);
        if !is_udp || !self.coverage.sees(Point::UdpRecvmsg) {
            return self.end(key, None);
        }
        if packet.holds_several {
            // `udp_queue_rcv_skb()` cuts it into datagrams in memory of their own.
            return self.end(key, Some(Incomplete::CutByReceiver));
        }
        let is_new = !packet.awaits_reader;
        // Where a read does not name its datagram, only one that is known to be in a queue can be waited for.
        let mut is_awaited =
            self.names_datagrams() || !self.coverage.sees(Point::SockDefReadable) || packet.woken_on != 0;
        if is_new
            && !self.names_datagrams()
            && let Some(state) = packet.read_on().and_then(|flow| self.flows.get(flow))
        {
            is_awaited |= self.datagrams.received(state.flow(), packet, key);
        }
        if let Some(packet) = self.in_flight.get_mut(key) {
            packet.awaits_reader |= is_awaited;
        }
    }

    /// The datagram in this memory, if it is one that the record is about, and so was received.
    fn received_datagram(
        &mut self,
        flow: Option<FlowKey>,
        record: &HopRecord,
        time_ns: u64,
    ) -> Option<PacketKey> {
        let key = self.in_flight.by_skb(record.skb)?;
        let packet = self.in_flight.get(key)?;
        let is_it = packet.stage >= Point::DevQueueXmit
            && !packet.is_tcp
            && packet.len == record.len
            && packet.last_ns() <= time_ns
            && self.same_ends(packet, flow);
        let packet = self.in_flight.get_mut(key).filter(|_| is_it)?;
        if packet.stage < Point::NetifReceiveSkb {
            packet.doubt.get_or_insert(Incomplete::HopNotSeen);
        }
        Some(key)
    }

    /// Whether a read of a datagram names the one that it took.
    pub(super) fn names_datagrams(&self) -> bool {
        self.coverage.attached(Point::UdpRecvmsg).is_none_or(|at| at.backend != Backend::Tracepoint)
    }

    /// The reader of a UDP socket is woken.
    pub(super) fn datagram_readable(&mut self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop) {
        let Some(key) = self.received_datagram(flow, record, hop.time_ns) else { return };
        self.receiving.forget(key);
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let is_first = packet.woken_on == 0 && record.sk != 0;
        if is_first {
            packet.add(hop);
            packet.woken_on = record.sk;
        }
        self.datagram_delivered(key);
        if is_first && !self.names_datagrams() {
            let flow = self.in_flight.get(key).and_then(Packet::read_on);
            let flow = flow.and_then(|flow| self.flows.get(flow)).map(FlowState::flow);
            self.datagrams.queued(record, flow, key, &self.in_flight);
        }
    }

    fn end_vanished(&mut self, mut vanished: Vec<PacketKey>) {
        // Where the read of one was lost, no two threads need have read.
        let may_lack =
            |key: &PacketKey| self.in_flight.get(*key).is_some_and(|packet| self.may_lack_records(packet));
        let reason =
            if vanished.iter().any(may_lack) { Incomplete::EventsLost } else { Incomplete::Entangled };
        for key in vanished.drain(..) {
            self.end(key, Some(reason));
        }
        self.read_now = vanished;
    }

    /// A process has read a datagram.
    pub(super) fn datagram_read(&mut self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop) {
        let read = if hop.backend == Backend::Tracepoint {
            // It may have read what came just now.
            self.settle_datagrams(record.sk, hop.time_ns);
            let mut vanished = std::mem::take(&mut self.read_now);
            let read = self.datagrams.read(record, &mut vanished, &self.in_flight, self.lost);
            self.end_vanished(vanished);
            read
        } else {
            self.received_datagram(flow, record, hop.time_ns)
        };
        if let Some(key) = read {
            self.datagram_taken(key, record, hop);
        }
    }

    fn datagram_taken(&mut self, key: PacketKey, record: &HopRecord, hop: Hop) {
        self.receiving.forget(key);
        // A softirq may have come between the read and its record.
        if self
            .in_flight
            .get(key)
            .is_some_and(|packet| packet.last_ns() > hop.time_ns && !packet.passed(Point::SockDefReadable))
        {
            return self.end(key, Some(Incomplete::Entangled));
        }
        if let Some(packet) = self.in_flight.get_mut(key) {
            self.wakes.give(record.tid, hop.time_ns, packet);
            packet.receiver = Who::thread(record.tgid, record.tid);
            packet.add(hop);
        }
        self.end(key, None);
    }

    /// The path of a segment that waits to be read ends otherwise.
    pub(super) fn waits_no_more(&mut self, flow: Option<FlowKey>, key: PacketKey) {
        let Some(state) = flow.and_then(|flow| self.flows.get_mut(flow)) else { return };
        if state.waiting.front() == Some(&key) {
            state.waiting.pop_front();
            return;
        }
        let Some(end) = self.in_flight.get(key).map(Packet::end_seq) else { return };
        // Those before it in the order, and those that end where it ends and came before it.
        let behind = state.waiting.partition_point(|other| ends_by(&self.in_flight, *other, end));
        match (0..behind).rfind(|at| state.waiting.get(*at) == Some(&key)) {
            Some(at) => _ = state.waiting.remove(at),
            // Numbers that are further apart than TCP allows have no order.
            None => state.waiting.retain(|other| *other != key),
        }
    }
}

/// Whether the data of a segment ends at `end` at the latest.
fn ends_by(in_flight: &InFlight, key: PacketKey, end: u32) -> bool {
    in_flight.get(key).is_none_or(|packet| !is_after(packet.end_seq(), end))
}

/// Whether sequence number `a` comes after `b` (RFC 9293, 3.4: modulo 2^32).
pub(super) fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}
