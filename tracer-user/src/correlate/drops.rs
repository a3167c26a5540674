//! Packets that the kernel drops.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::Point,
};

use super::{
    Correlator,
    flows::FlowState,
    in_flight::{Drop, Header, PacketKey},
};
use crate::model::{Hop, Protocol};

/// `SKB_NOT_DROPPED_YET`, `SKB_CONSUMED` and `SKB_DROP_REASON_NOT_SPECIFIED` of `enum skb_drop_reason`, which have kept
/// their numbers: the packet was freed by a path of the code that does not care to say that it was not dropped.
const SAYS_NOTHING: u32 = 2;

/// What a socket's queue still holds when it is closed. A FIN waits there like data, but nobody misses it.
const QUEUE_PURGE: &str = "QUEUE_PURGE";

impl Correlator {
    /// The kernel drops the packet in this memory.
    pub(super) fn dropped(&mut self, record: &HopRecord, hop: Hop) {
        let Some(key) = self.in_flight.by_skb(record.skb) else { return };
        let Some(packet) = self.in_flight.get(key) else { return };
        // Where the transport function is seen, what has not come to it was not dealt with by it.
        let passed_on =
            if self.always_sees_transport(packet) { Point::TcpV4Rcv } else { Point::NetifReceiveSkb };
        // Reused memory: another packet is dropped.
        if packet.header != Header::of(record) || packet.len != record.len || packet.last_ns() > hop.time_ns {
            return;
        }
        let reason = (record.aux != AUX_UNKNOWN).then_some(record.aux);
        let protocol = packet.flow.and_then(|flow| self.flows.get(flow)).map(FlowState::protocol);
        // TCP and ICMP free much that they have dealt with as if they had dropped it.
        let is_control =
            packet.is_tcp && packet.len == 0 || matches!(protocol, Some(Protocol::Icmp | Protocol::Icmpv6));
        let is_received = packet.stage >= passed_on || packet.is_with_driver();
        let says_nothing = reason.is_none_or(|reason| reason <= SAYS_NOTHING)
            || self.names.drop_reason(reason).is_some_and(|name| name == QUEUE_PURGE);
        if is_control && is_received && says_nothing {
            return self.let_go(key);
        }
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        packet.add(hop);
        packet.dropped = Some(Box::new(Drop { reason, location: record.sk }));
        self.let_go(key);
    }

    /// Ends a packet that is not in its memory any more.
    fn let_go(&mut self, key: PacketKey) {
        self.receiving.forget(key);
        self.end(key, None);
    }
}
