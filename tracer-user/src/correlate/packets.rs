//! Hops that carry an `sk_buff`: the way from the socket to the transport's receive function.

use hashbrown::HashMap;
use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::{Backend, Point},
};

use super::{
    Correlator,
    delivery::{ACK, is_after},
    flows::FlowKey,
    in_flight::{Cut, Packet, PacketKey},
};
use crate::model::{Coverage, Device, Flow, Hop, Hops, Incomplete, Protocol, Tcp};

/// After this time a received packet that its transport function was not seen to take is settled, ns. On the same CPU
/// it would have been taken within the same softirq.
pub(super) const SETTLE_NS: u64 = 10_000_000;

/// No kernel has more CPUs.
const CPUS: u32 = 1 << 16;

/// Where packets that no socket sends are first seen: the first of these that is attached.
const FROM_DEVICE: [Point; 6] = [
    Point::DevQueueXmit,
    Point::LoopbackXmit,
    Point::EnqueueToBacklog,
    Point::NetifReceiveSkb,
    Point::TcpV4Rcv,
    Point::TcpV6Rcv,
];

/// What each CPU is doing on the receiving side.
#[derive(Default)]
pub(super) struct Receiving {
    polls: HashMap<u32, Hop>,
    /// Received packets whose transport function may or may not be seen (`tcp:tcp_probe` sees established sockets
    /// only), one a CPU: it is called before the CPU receives the next packet.
    unsettled: HashMap<u32, PacketKey>,
}

impl Receiving {
    /// A CPU begins to take packets off its backlog.
    pub(super) fn poll(&mut self, hop: Hop) {
        if hop.cpu < CPUS {
            self.polls.insert(hop.cpu, hop);
        }
    }

    #[cfg(test)]
    pub(super) fn cpus(&self) -> usize {
        self.polls.len().max(self.unsettled.len())
    }

    /// The poll that took a packet, which was received as `received`, off its CPU's backlog. A packet that was queued
    /// while the poll was already running has no start of a poll in its path.
    fn poll_of(&self, packet: &Packet, received: Hop) -> Option<Hop> {
        let poll = self.polls.get(&received.cpu)?;
        let queued = packet.hops.iter().find(|hop| hop.point == Point::EnqueueToBacklog)?;
        let on_this_cpu = queued.aux == poll.cpu || queued.aux == AUX_UNKNOWN;
        let in_order = queued.time_ns <= poll.time_ns && poll.time_ns <= received.time_ns;
        (on_this_cpu && in_order).then_some(*poll)
    }
}

impl Correlator {
    /// A hop with an `sk_buff`.
    pub(super) fn packet(&mut self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop) {
        let mut known = self.in_flight.by_skb(record.skb);
        if let Some(key) = known
            && !self.continues(key, flow, record, hop.point)
        {
            self.leave_memory(key, flow, record, hop.point);
            known = None;
        }
        let known = known.or_else(|| self.cut_off(flow, record, hop));
        let Some(key) = known.or_else(|| self.begin(flow, record, hop)) else { return };
        let Some(packet) = self.in_flight.get_mut(key) else { return };

        if hop.point >= Point::NetifReceiveSkb
            && packet.stage < Point::NetifReceiveSkb
            && let Some(poll) = self.receiving.poll_of(packet, hop)
        {
            packet.add(poll);
        }
        if !packet.hops.is_empty() && misses_a_hop(&self.coverage, packet, hop.point) {
            packet.doubt.get_or_insert(Incomplete::HopNotSeen);
        }
        packet.add(hop);
        packet.stage = hop.point;
        if hop.point == Point::DevQueueXmit
            && packet.tcp.is_some()
            && packet.len != 0
            && let Some(state) = flow.and_then(|flow| self.flows.get_mut(flow))
        {
            state.at_device = Some(key);
        }
        if hop.point != Point::EnqueueToBacklog && record.aux != AUX_UNKNOWN && record.aux != 0 {
            packet.ifindex.get_or_insert(record.aux);
        }
        if let Some(flow) = flow {
            self.seen_on(key, flow, hop);
            self.give_routes(key, flow, record, hop);
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
        self.settle_if(|packet| packet.last_ns() <= before);
    }

    /// Data up to here was seen on the receiving socket, so the transport has taken what carried it.
    pub(super) fn settle_up_to(&mut self, flow: FlowKey, seq: u32) {
        self.settle_if(|packet| packet.read_on() == Some(flow) && !is_after(packet.end_seq(), seq));
    }

    fn settle_if(&mut self, is_settled: impl Fn(&Packet) -> bool) {
        if self.receiving.unsettled.is_empty() {
            return;
        }
        let is_settled = |key: PacketKey| self.in_flight.get(key).is_none_or(&is_settled);
        let settled: Vec<PacketKey> =
            self.receiving.unsettled.extract_if(|_, key| is_settled(*key)).map(|(_, key)| key).collect();
        for key in settled {
            self.settle(key);
        }
    }

    /// Whether the hop is the next one of the packet that was last seen in this `sk_buff`.
    fn continues(&self, key: PacketKey, flow: Option<FlowKey>, record: &HopRecord, point: Point) -> bool {
        self.in_flight.get(key).is_some_and(|packet| {
            point > packet.stage && same_segment(packet, record) && self.same_ends(packet, flow)
        })
    }

    /// Whether the packet may have been sent on this flow. The namespace may change on the way (veth), the addresses
    /// may not. Where the record of the flow was lost a segment is still known by its numbers, but a datagram is not.
    fn same_ends(&self, packet: &Packet, flow: Option<FlowKey>) -> bool {
        let ends = |key| self.flows.get(key).map(|state| ends_of(state.flow));
        match (packet.flow, flow) {
            (Some(before), Some(now)) => before == now || ends(before) == ends(now),
            (None, None) => true,
            _ => packet.tcp.is_some(),
        }
    }

    /// The packet that was last seen in this `sk_buff` has left it, as the record shows another one there.
    fn leave_memory(&mut self, key: PacketKey, flow: Option<FlowKey>, record: &HopRecord, point: Point) {
        let Some(packet) = self.in_flight.get(key) else { return };
        if packet.stage < Point::NetifReceiveSkb {
            let changed =
                point > packet.stage && same_segment(packet, record) && !self.same_ends(packet, flow);
            self.end(key, Some(if changed { Incomplete::Changed } else { Incomplete::Superseded }));
        } else if packet.tcp.is_some() && self.always_sees_transport(packet.read_on()) {
            // It was dropped or forwarded before its transport.
            self.end(key, Some(Incomplete::Superseded));
        } else {
            self.settle(key);
            self.in_flight.leave_skb(key);
        }
    }

    /// A path begins; `None` if it must not.
    fn begin(&mut self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop) -> Option<PacketKey> {
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return None;
        }
        // tcp:tcp_probe fires late for segments that waited until a system call let go of the socket.
        if hop.backend == Backend::Tracepoint && hop.point == Point::TcpV4Rcv {
            return None;
        }
        let protocol = flow.and_then(|key| self.flows.get(key)).map(|state| state.flow.protocol);
        // Without its flow's record the transport is not known; only TCP has flags.
        let is_tcp = protocol.map_or(record.tcp_flags != 0, |protocol| protocol == Protocol::Tcp);
        let tcp = is_tcp.then_some(Tcp { flags: record.tcp_flags, seq: record.seq, ack: record.ack });
        let doubt =
            if self.may_begin(flow, record, hop, tcp) { None } else { Some(Incomplete::StartNotSeen) };
        let id = self.number();
        Some(self.keep(Packet {
            id,
            skb: record.skb,
            flow: None,
            received_on: None,
            unix_name: None,
            tcp,
            len: record.len,
            ifindex: None,
            sender: None,
            stage: hop.point,
            hops: Hops::new(),
            cut: Cut::default(),
            awaits_reader: false,
            doubt,
        }))
    }

    /// Whether a path can begin here: at the network layer, with a packet from outside, or at the first point that is
    /// watched. SYN-ACK, RST and some ACK leave from sockets that are none yet or no more and pass no network layer
    /// that is watched.
    fn may_begin(&self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop, tcp: Option<Tcp>) -> bool {
        let is_v6 = flow.and_then(|key| self.flows.get(key)).is_some_and(|state| state.flow.src.is_ipv6());
        let network = if is_v6 { Point::Ip6Xmit } else { Point::IpQueueXmit };
        let passes_network = tcp.is_some_and(|tcp| {
            let without_socket = match tcp.flags & (Tcp::SYN | Tcp::RST | Tcp::FIN | ACK) {
                flags if flags & Tcp::RST != 0 => true,
                flags => flags & ACK != 0 && flags & Tcp::FIN == 0,
            };
            record.len != 0 || !without_socket
        });
        let is_first = FROM_DEVICE.into_iter().find(|point| self.coverage.sees(*point)) == Some(hop.point);
        let from_outside = !matches!(record.aux, AUX_UNKNOWN | 0 | Device::LOOPBACK);
        match hop.point {
            Point::IpQueueXmit | Point::Ip6Xmit => true,
            Point::NetifReceiveSkb if from_outside => true,
            _ => is_first && !(passes_network && self.coverage.sees(network)),
        }
    }

    /// A packet was seen on a flow.
    fn seen_on(&mut self, key: PacketKey, flow: FlowKey, hop: Hop) {
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let mut is_new = packet.flow.is_none();
        packet.flow.get_or_insert(flow);
        // In tcp:tcp_probe the packet has no device any more, and with it no namespace.
        let has_device = hop.point == Point::NetifReceiveSkb
            || hop.point > Point::NetifReceiveSkb && hop.backend != Backend::Tracepoint;
        if has_device && !packet.awaits_reader {
            is_new |= packet.flow != Some(flow) && packet.received_on != Some(flow);
            packet.received_on = Some(flow);
        }
        if let Some(tcp) = packet.tcp.filter(|_| is_new) {
            self.conversation(flow, tcp);
        }
    }

    /// The packet may have been sent after questions of this thread.
    fn give_routes(&mut self, key: PacketKey, flow: FlowKey, record: &HopRecord, hop: Hop) {
        if hop.point > Point::DevQueueXmit || self.routes.is_empty() {
            return;
        }
        let Some(flow) = self.flows.get(flow).map(|state| state.flow) else { return };
        let network = if flow.src.is_ipv6() { Point::Ip6Xmit } else { Point::IpQueueXmit };
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let begins_or_resets = packet.tcp.is_none_or(|tcp| tcp.flags & (Tcp::SYN | Tcp::RST) != 0);
        // An established connection has a route, and asks for another one only between network and device layer. (The
        // few ACK that leave without a socket ask as well, but cannot be told from those whose first hop was lost.)
        let since_ns = match packet.hops.iter().find(|hop| hop.point == network) {
            _ if begins_or_resets => 0,
            Some(network) => network.time_ns,
            None => return,
        };
        self.routes.answer(record, flow, since_ns, packet);
    }

    /// Whether every packet's transport function is seen, not only that of some.
    fn always_sees_transport(&self, flow: Option<FlowKey>) -> bool {
        let is_v6 = flow.and_then(|key| self.flows.get(key)).is_some_and(|state| state.flow.dst.is_ipv6());
        let transport = if is_v6 { Point::TcpV6Rcv } else { Point::TcpV4Rcv };
        self.coverage.attached(transport).is_some_and(|at| at.backend != Backend::Tracepoint)
    }

    /// The packet is off the queue. Where every packet's transport function is seen, that ends it; otherwise it may
    /// or may not follow.
    fn handed_to_protocol(&mut self, key: PacketKey, record: &HopRecord) {
        let Some(packet) = self.in_flight.get(key) else { return };
        // There is no point behind this one for other transports than TCP.
        if packet.tcp.is_none() || record.cpu >= CPUS {
            return self.settle(key);
        }
        if self.always_sees_transport(packet.read_on()) {
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
        self.settle(key);
        self.in_flight.leave_skb(key);
    }
}

/// Whether a point that is watched, and that every packet passes between the last one and this, was not seen: its
/// record was lost, or the program could not run.
fn misses_a_hop(coverage: &Coverage, packet: &Packet, point: Point) -> bool {
    let between = |passed: Point| passed > packet.stage && passed < point && coverage.sees(passed);
    let over_loopback = packet.ifindex == Some(Device::LOOPBACK);
    between(Point::DevQueueXmit)
        || between(Point::NetifReceiveSkb)
        || over_loopback && (between(Point::LoopbackXmit) || between(Point::EnqueueToBacklog))
}

/// Whether a record's header is that of the packet.
fn same_segment(packet: &Packet, record: &HopRecord) -> bool {
    let header = packet.tcp.map_or((0, 0, 0), |tcp| (tcp.flags, tcp.seq, tcp.ack));
    header == (record.tcp_flags, record.seq, record.ack) && packet.len == record.len
}

fn ends_of(flow: Flow) -> (Protocol, std::net::SocketAddr, std::net::SocketAddr) {
    (flow.protocol, flow.src, flow.dst)
}
