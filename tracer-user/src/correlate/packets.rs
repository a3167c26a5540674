//! Hops that carry an `sk_buff`: the way from the socket to the transport's receive function.

use hashbrown::HashMap;
use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::{Backend, Point},
};

use super::{
    Correlator,
    in_flight::{Packet, PacketKey},
};
use crate::model::{Device, Flow, Hop, Hops, Incomplete, Protocol, Tcp};

/// After this time a received packet that its transport function was not seen to take is settled, ns. On the same CPU
/// it would have been taken within the same softirq.
const SETTLE_NS: u64 = 10_000_000;

/// What each CPU is doing on the receiving side.
#[derive(Default)]
pub(super) struct Receiving {
    polls: HashMap<u32, Hop>,
    /// Received packets whose transport function may or may not be seen (`tcp:tcp_probe` sees established sockets only),
    /// one a CPU: it is called before the CPU receives the next packet.
    unsettled: HashMap<u32, PacketKey>,
}

impl Receiving {
    /// A CPU begins to take packets off its backlog.
    pub(super) fn poll(&mut self, hop: Hop) {
        self.polls.insert(hop.cpu, hop);
    }
}

impl Correlator {
    /// A hop with an `sk_buff`.
    pub(super) fn packet(&mut self, record: &HopRecord, hop: Hop) {
        let mut known = self.in_flight.by_skb(record.skb);
        if let Some(key) = known
            && !self.continues(key, record, hop.point)
        {
            self.leave_memory(key, record, hop.point);
            known = None;
        }
        let Some(key) = known.or_else(|| self.begin(record, hop)) else { return };
        let flow = self.flows.find(record.flow);
        let Some(packet) = self.in_flight.get_mut(key) else { return };

        let received = hop.point >= Point::NetifReceiveSkb;
        if received && let Some(poll) = self.receiving.polls.get(&hop.cpu) {
            let queued = packet.hops.iter().find(|hop| hop.point == Point::EnqueueToBacklog);
            // A packet that was queued while this poll was already running has no start of a poll in its path.
            if queued.is_some_and(|queued| {
                queued.time_ns <= poll.time_ns
                    && poll.time_ns <= hop.time_ns
                    && (queued.aux == poll.cpu || queued.aux == AUX_UNKNOWN)
            }) && !packet.passed(Point::ProcessBacklog)
            {
                packet.add(*poll);
            }
        }
        packet.add(hop);
        packet.stage = hop.point;
        packet.flow = packet.flow.or(flow);
        if hop.point != Point::EnqueueToBacklog && record.aux != AUX_UNKNOWN {
            packet.ifindex.get_or_insert(record.aux);
        }
        if let Some(flow) = flow.and_then(|key| self.flows.get(key)).map(|state| state.flow)
            && hop.point <= Point::DevQueueXmit
        {
            self.routes.answer(record, flow, &self.flows, packet);
        }
        match hop.point {
            Point::TcpV4Rcv | Point::TcpV6Rcv => self.received(key, record),
            Point::NetifReceiveSkb => self.handed_to_protocol(key, record),
            _ => {}
        }
    }

    /// Ends the received packets that have waited for their transport function long enough.
    pub(super) fn settle_received(&mut self, now_ns: u64) {
        let before = now_ns.saturating_sub(SETTLE_NS);
        let old = |key: &PacketKey| self.in_flight.get(*key).is_none_or(|packet| packet.last_ns() <= before);
        let settled: Vec<PacketKey> =
            self.receiving.unsettled.extract_if(|_, key| old(key)).map(|(_, key)| key).collect();
        for key in settled {
            self.settle(key);
        }
    }

    /// Whether the hop is the next one of the packet that was last seen in this `sk_buff`.
    fn continues(&self, key: PacketKey, record: &HopRecord, point: Point) -> bool {
        self.in_flight
            .get(key)
            .is_some_and(|packet| point > packet.stage && self.same_headers(packet, record))
    }

    fn same_headers(&self, packet: &Packet, record: &HopRecord) -> bool {
        let tcp = packet
            .tcp
            .is_none_or(|tcp| (tcp.flags, tcp.seq, tcp.ack) == (record.tcp_flags, record.seq, record.ack));
        let flow = |key| self.flows.get(key).map(|state| state.flow);
        // The namespace may change on the way (veth), the addresses may not.
        let ends = |flow: Flow| (flow.protocol, flow.src, flow.dst);
        let same_flow = match (packet.flow, self.flows.find(record.flow)) {
            (Some(before), Some(now)) => before == now || flow(before).map(ends) == flow(now).map(ends),
            _ => true,
        };
        tcp && same_flow && packet.len == record.len
    }

    /// The packet that was last seen in this `sk_buff` has left it, as the record shows another one there.
    fn leave_memory(&mut self, key: PacketKey, record: &HopRecord, point: Point) {
        let Some(packet) = self.in_flight.get(key) else { return };
        if packet.stage >= Point::NetifReceiveSkb {
            self.settle(key);
            self.in_flight.leave_skb(key);
        } else {
            let changed = point > packet.stage && !self.same_headers(packet, record);
            self.end(key, Some(if changed { Incomplete::Changed } else { Incomplete::Superseded }));
        }
    }

    /// A path begins; `None` if it must not.
    fn begin(&mut self, record: &HopRecord, hop: Hop) -> Option<PacketKey> {
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return None;
        }
        // tcp:tcp_probe fires late for segments that waited until a system call let go of the socket.
        if hop.backend == Backend::Tracepoint && hop.point == Point::TcpV4Rcv {
            return None;
        }
        let flow = self.flows.find(record.flow);
        let protocol = flow.and_then(|key| self.flows.get(key)).map(|state| state.flow.protocol);
        // Without its flow's record the transport is not known; only TCP has flags.
        let is_tcp = protocol.map_or(record.tcp_flags != 0, |protocol| protocol == Protocol::Tcp);
        let tcp = is_tcp.then_some(Tcp { flags: record.tcp_flags, seq: record.seq, ack: record.ack });
        if let (Some(key), Some(tcp)) = (flow, tcp) {
            if tcp.flags & Tcp::SYN != 0 {
                self.flows.begin(key);
            } else if tcp.flags & Tcp::RST != 0 {
                self.flows.reset(key);
            }
        }
        let doubt = if self.may_begin(record, hop, tcp) { None } else { Some(Incomplete::StartNotSeen) };
        let id = self.number();
        Some(self.keep(Packet {
            id,
            skb: record.skb,
            flow,
            unix_name: None,
            tcp,
            len: record.len,
            ifindex: None,
            sender: None,
            stage: hop.point,
            hops: Hops::new(),
            awaits_reader: false,
            doubt,
        }))
    }

    /// Whether a path can begin here. SYN-ACK, RST and some ACK leave from sockets that are none yet or no more, and
    /// are first seen at the device layer; data never is, where its network layer is watched.
    fn may_begin(&self, record: &HopRecord, hop: Hop, tcp: Option<Tcp>) -> bool {
        let from_outside = record.aux != AUX_UNKNOWN && record.aux != Device::LOOPBACK;
        match hop.point {
            Point::IpQueueXmit | Point::Ip6Xmit => true,
            Point::DevQueueXmit => {
                let is_v6 = self
                    .flows
                    .find(record.flow)
                    .and_then(|key| self.flows.get(key))
                    .is_some_and(|state| state.flow.src.is_ipv6());
                let network = if is_v6 { Point::Ip6Xmit } else { Point::IpQueueXmit };
                tcp.is_none() || record.len == 0 || !self.coverage.sees(network)
            }
            Point::LoopbackXmit => !self.coverage.sees(Point::DevQueueXmit),
            Point::EnqueueToBacklog => !self.coverage.sees(Point::LoopbackXmit),
            Point::NetifReceiveSkb => from_outside,
            _ => false,
        }
    }

    /// The packet is off the queue. Where every packet's transport function is seen, that ends it; otherwise it may
    /// or may not follow.
    fn handed_to_protocol(&mut self, key: PacketKey, record: &HopRecord) {
        let Some(packet) = self.in_flight.get(key) else { return };
        let is_v6 =
            packet.flow.and_then(|key| self.flows.get(key)).is_some_and(|state| state.flow.dst.is_ipv6());
        let transport = if is_v6 { Point::TcpV6Rcv } else { Point::TcpV4Rcv };
        let always_seen =
            self.coverage.attached(transport).is_some_and(|at| at.backend != Backend::Tracepoint);
        if packet.tcp.is_some() && always_seen {
            return;
        }
        if let Some(before) = self.receiving.unsettled.insert(record.cpu, key)
            && before != key
        {
            self.settle(before);
        }
    }

    /// A received packet's transport function has been passed, seen or not.
    fn settle(&mut self, key: PacketKey) {
        if self.in_flight.get(key).is_some_and(|packet| !packet.awaits_reader) {
            self.delivered(key);
        }
    }

    /// The transport has the packet.
    fn received(&mut self, key: PacketKey, record: &HopRecord) {
        if self.receiving.unsettled.get(&record.cpu) == Some(&key) {
            self.receiving.unsettled.remove(&record.cpu);
        }
        if self.in_flight.get(key).is_some_and(|packet| !packet.awaits_reader) {
            self.delivered(key);
        }
        self.in_flight.leave_skb(key);
    }
}
