//! Hops that carry an `sk_buff`: the way from the socket to the transport's receive function.

use smallvec::SmallVec;
use tracer_common::{
    event::{HopRecord, MARK_ENTERS, MARK_FORWARDED, MARK_SEVERAL},
    probes::{Backend, Point},
};

use super::{
    Correlator,
    delivery::{ACK, is_after},
    flows::{FlowKey, FlowState},
    in_flight::{Cut, Header, Packet, PacketKey},
    sends::is_call,
};
use crate::model::{Coverage, Device, Hop, Incomplete, Protocol, Tcp};

/// Where packets that no socket sends are first seen: the first of these that is attached.
const FROM_DEVICE: [Point; 9] = [
    Point::DevQueueXmit,
    Point::DevHardStartXmit,
    Point::LoopbackXmit,
    Point::EnqueueToBacklog,
    Point::NetifReceiveSkb,
    Point::TcpV4Rcv,
    Point::TcpV6Rcv,
    Point::UdpRcv,
    Point::Udpv6Rcv,
];

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
        if record.marks & MARK_FORWARDED != 0 && packet.stage >= Point::NetifReceiveSkb {
            // It has not come to its protocol, but goes on.
            self.receiving.forget(key);
        }
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        packet.add(hop);
        packet.stage = hop.point;
        packet.holds_several |= record.marks & MARK_SEVERAL != 0;
        if let Some(ifindex) = hop.ifindex() {
            packet.is_on((hop.netns, ifindex));
        }
        if !packet.is_whole() {
            self.at_device.remove(packet.at_device.take(), key);
        }
        if hop.point == Point::DevQueueXmit {
            self.datagrams.give(record, packet);
            if packet.is_tcp && packet.len != 0 {
                self.at_device.remove(packet.at_device, key);
                packet.at_device = flow;
                self.at_device.add(flow, key);
            }
        }
        if let Some(flow) = flow {
            self.seen_on(key, flow, hop);
            self.give_routes(key, flow, record, hop);
        }
        match hop.point {
            Point::TcpV4Rcv | Point::TcpV6Rcv | Point::UdpRcv | Point::Udpv6Rcv => self.received(key, record),
            Point::NetifReceiveSkb => self.handed_to_protocol(key, record),
            _ => {}
        }
    }

    /// Whether the hop is the next one of the packet that was last seen in this `sk_buff`.
    fn continues(&self, key: PacketKey, flow: Option<FlowKey>, record: &HopRecord, point: Point) -> bool {
        self.in_flight.get(key).is_some_and(|packet| {
            follows(packet, record, point) && same_segment(packet, record) && self.same_ends(packet, flow)
        })
    }

    /// Whether the packet may have been sent on this flow. The namespace may change on the way (veth), the addresses
    /// may not. Where the record of the flow was lost a segment is still known by its numbers, but a datagram is not.
    pub(super) fn same_ends(&self, packet: &Packet, flow: Option<FlowKey>) -> bool {
        let are_same = |before, now| match (self.flows.get(before), self.flows.get(now)) {
            (Some(before), Some(now)) => before.has_ends_of(now),
            (before, now) => before.is_none() && now.is_none(),
        };
        match (packet.flow, flow) {
            (Some(before), Some(now)) => before == now || are_same(before, now),
            (None, None) => true,
            _ => packet.is_tcp,
        }
    }

    /// The packet that was last seen in this `sk_buff` has left it, as the record shows another one there.
    fn leave_memory(&mut self, key: PacketKey, flow: Option<FlowKey>, record: &HopRecord, point: Point) {
        let Some(packet) = self.in_flight.get(key) else { return };
        if packet.is_with_driver() {
            // It has left, and its memory is free.
            self.end(key, None);
        } else if packet.stage < Point::NetifReceiveSkb {
            let changed = follows(packet, record, point)
                && same_segment(packet, record)
                && !self.same_ends(packet, flow);
            self.end(key, Some(if changed { Incomplete::Changed } else { Incomplete::Superseded }));
        } else if packet.stage == Point::NetifReceiveSkb && self.always_sees_transport(packet) {
            // It was dropped or forwarded before its transport.
            self.receiving.forget(key);
            self.end(key, Some(Incomplete::Superseded));
        } else if !packet.is_tcp && self.is_freed_when_read(packet) {
            self.receiving.forget(key);
            self.end(key, Some(Incomplete::ReadNotSeen));
        } else {
            self.receiving.forget(key);
            self.settle(key);
            self.in_flight.leave_skb(key);
        }
    }

    /// Whether a datagram whose memory is used again cannot be read any more: it is free only then. (The record of a read
    /// that does not name the datagram comes after that.)
    fn is_freed_when_read(&self, packet: &Packet) -> bool {
        let is_waiting = packet.awaits_reader || packet.woken_on == 0 && packet.stage >= Point::UdpRcv;
        is_waiting && (packet.woken_on == 0 || self.names_datagrams())
    }

    /// A path begins; `None` if it must not.
    fn begin(&mut self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop) -> Option<PacketKey> {
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return None;
        }
        // tcp:tcp_probe fires late for segments that waited until a system call let go of the socket.
        if hop.backend == Backend::Tracepoint && matches!(hop.point, Point::TcpV4Rcv | Point::TcpV6Rcv) {
            return None;
        }
        let protocol = flow.and_then(|key| self.flows.get(key)).map(FlowState::protocol);
        // Without its flow's record the transport is not known; only TCP has flags.
        let is_tcp = protocol.map_or(record.tcp_flags != 0, |protocol| protocol == Protocol::Tcp);
        let tcp = is_tcp.then_some(Tcp { flags: record.tcp_flags, seq: record.seq, ack: record.ack });
        let doubt =
            if self.may_begin(flow, record, hop, tcp) { None } else { Some(Incomplete::StartNotSeen) };
        let id = self.number();
        let mut packet = Packet {
            id,
            skb: record.skb,
            flow: None,
            received_on: None,
            message: None,
            header: Header::of(record),
            sent_by: if hop.point <= Point::DevQueueXmit { record.sk } else { 0 },
            is_tcp,
            retransmitted: false,
            len: record.len,
            on_devices: SmallVec::new(),
            sender: None,
            receiver: None,
            woken_on: 0,
            stage: hop.point,
            hops: self.in_flight.hops(),
            routes: Vec::new(),
            to_peer: false,
            cut: Cut::default(),
            at_device: None,
            holds_several: false,
            awaits_reader: false,
            dropped: None,
            doubt,
        };
        if let Some(flow) = flow
            && hop.point <= Point::DevQueueXmit
            && record.marks & MARK_FORWARDED == 0
        {
            self.is_sent(flow, &mut packet);
            self.give_call(flow, &mut packet, hop.time_ns);
        }
        Some(self.keep(packet))
    }

    /// A segment leaves its socket: does it carry what was sent before?
    fn is_sent(&mut self, flow: FlowKey, packet: &mut Packet) {
        let (Some(tcp), Some(state)) = (packet.tcp(), self.flows.get_mut(flow)) else { return };
        if state.is_called_on_another(packet.sent_by) {
            return;
        }
        let fin = u32::from(tcp.flags & Tcp::FIN != 0);
        if tcp.flags & Tcp::SYN != 0 {
            packet.retransmitted = state.syn == Some(tcp.seq);
            return;
        }
        // FIN takes a number, and is sent again like data.
        if (packet.len, fin) == (0, 0) || tcp.flags & Tcp::RST != 0 {
            return;
        }
        let end = tcp.seq.wrapping_add(packet.len).wrapping_add(fin);
        packet.retransmitted = state.sent_up_to.is_some_and(|sent| is_after(sent, tcp.seq));
        if state.sent_up_to.is_none_or(|sent| is_after(end, sent)) {
            state.sent_up_to = Some(end);
        }
    }

    /// Whether a path can begin here: at the network layer, with a packet from outside, or at the first point that is
    /// watched. SYN-ACK, RST and some ACK leave from sockets that are none yet or no more and pass no network layer
    /// that is watched.
    fn may_begin(&self, flow: Option<FlowKey>, record: &HopRecord, hop: Hop, tcp: Option<Tcp>) -> bool {
        let is_v6 = flow.and_then(|key| self.flows.get(key)).is_some_and(FlowState::is_ipv6);
        let network = if is_v6 { Point::Ip6Xmit } else { Point::IpQueueXmit };
        let passes_network = tcp.is_some_and(|tcp| {
            let without_socket = match tcp.flags & (Tcp::SYN | Tcp::RST | Tcp::FIN | ACK) {
                flags if flags & Tcp::RST != 0 => true,
                flags => flags & ACK != 0 && flags & Tcp::FIN == 0,
            };
            record.len != 0 || !without_socket
        });
        // The loopback device's driver and the others' stand at the same place.
        let is_passed = |point: &Point| match hop.point {
            Point::DevHardStartXmit => *point != Point::LoopbackXmit,
            _ => *point != Point::DevHardStartXmit,
        };
        let is_watched = |point: &Point| is_passed(point) && self.coverage.sees(*point);
        let is_first = FROM_DEVICE.into_iter().find(is_watched) == Some(hop.point);
        let from_outside = hop.ifindex().is_some_and(|ifindex| ifindex != Device::LOOPBACK);
        match hop.point {
            Point::IpQueueXmit | Point::Ip6Xmit => true,
            Point::NetifReceiveSkb if from_outside => true,
            Point::EnqueueToBacklog if record.marks & MARK_ENTERS != 0 => true,
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
            || hop.point > Point::NetifReceiveSkb
                && matches!(hop.point, Point::TcpV4Rcv | Point::TcpV6Rcv)
                && hop.backend != Backend::Tracepoint;
        if has_device && !packet.awaits_reader {
            is_new |= packet.flow != Some(flow) && packet.received_on != Some(flow);
            packet.received_on = Some(flow);
        }
        if let Some(tcp) = packet.tcp().filter(|_| is_new) {
            self.conversation(flow, tcp, hop.time_ns);
        }
    }

    /// The packet may have been sent after questions of this thread.
    fn give_routes(&mut self, key: PacketKey, flow: FlowKey, record: &HopRecord, hop: Hop) {
        if hop.point > Point::DevQueueXmit || self.routes.is_empty() {
            return;
        }
        let Some(flow) = self.flows.get(flow).map(FlowState::flow) else { return };
        let network = if flow.src.is_ipv6() { Point::Ip6Xmit } else { Point::IpQueueXmit };
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        // An established connection has a route, and asks for another one only between its send call, or the network
        // layer, and the device layer; a datagram's socket asks within its call, unless it has asked when it was connected.
        // (The few ACK that leave without a socket ask as well, but cannot be told from those whose first hop was lost.)
        let begins_or_resets = packet.tcp().is_some_and(|tcp| tcp.flags & (Tcp::SYN | Tcp::RST) != 0);
        let since_ns = match packet.hops.iter().find(|hop| hop.point == network || is_call(hop.point)) {
            _ if begins_or_resets => 0,
            Some(first) => first.time_ns,
            None if !packet.is_tcp => 0,
            None => return self.routes.pass(record),
        };
        self.routes.answer(record, flow, since_ns, packet);
    }
}

/// Whether a hop can be the next one of a packet in the same memory. Devices that lie over others (bridge, vlan) hand a
/// packet to the device layer once more, and so does whoever forwards it. A retransmission may lie in the same memory as
/// well, but begins anew, on the same device.
fn follows(packet: &Packet, record: &HopRecord, point: Point) -> bool {
    if point > packet.stage {
        return true;
    }
    let is_other_device = packet.ifindex().is_some_and(|before| before != record.aux);
    match point {
        Point::DevQueueXmit => {
            let is_forwarded = record.marks & MARK_FORWARDED != 0 && packet.stage == Point::NetifReceiveSkb;
            let is_handed_down =
                is_other_device && matches!(packet.stage, Point::DevQueueXmit | Point::DevHardStartXmit);
            is_forwarded || is_handed_down
        }
        // A bridge hands what is meant for its own machine up as its own.
        Point::NetifReceiveSkb => is_other_device && packet.stage == Point::NetifReceiveSkb,
        _ => false,
    }
}

/// Whether a point that is watched, and that every packet passes between the last one and this, was not seen: its
/// record was lost, or the program could not run.
fn misses_a_hop(coverage: &Coverage, packet: &Packet, point: Point) -> bool {
    let between = |passed: Point| passed > packet.stage && passed < point && coverage.sees(passed);
    let over_loopback = packet.ifindex() == Some(Device::LOOPBACK);
    between(Point::DevQueueXmit)
        || between(Point::NetifReceiveSkb)
        || over_loopback && (between(Point::LoopbackXmit) || between(Point::EnqueueToBacklog))
}

/// Whether a record's header is that of the packet.
fn same_segment(packet: &Packet, record: &HopRecord) -> bool {
    packet.header == Header::of(record) && packet.len == record.len
}
