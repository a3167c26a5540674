//! Paths of which records may be missing.
//!
//! Where records were lost, any packet that is on its way may lack a hop, and what is seen later may be taken for it: the read of
//! the packet behind it, the hops of another one that was sent again. Nothing in the records that are there tells. So each path that
//! was under way at any moment of a loss is in doubt, and each that begins after it without the call, or the questions, that it
//! should begin with.

use tracer_common::{event::LossRecord, probes::Point};

use super::{Correlator, flows::FlowState, in_flight::Packet, routes::QUESTION_NS, sends::is_call};
use crate::model::{Incomplete, Tcp};

impl Correlator {
    /// Records were lost, or it is known until when.
    pub(super) fn loss(&mut self, record: &LossRecord) {
        self.lost_until_ns = Some(record.until_ns);
    }

    /// Why the path of a packet cannot be whole if nothing else is known; `doubt` is what is.
    pub(super) fn doubt(&self, packet: &Packet) -> Option<Incomplete> {
        match packet.doubt {
            // Seen, and not concluded.
            Some(Incomplete::StartNotSeen | Incomplete::HopNotSeen) => packet.doubt,
            _ if self.may_lack_records(packet) => Some(Incomplete::EventsLost),
            doubt => doubt,
        }
    }

    /// Whether a record of a path's may be among those that were lost.
    pub(super) fn may_lack_records(&self, packet: &Packet) -> bool {
        let (Some(until_ns), Some(first)) = (self.lost_until_ns, packet.hops.first()) else { return false };
        first.time_ns <= until_ns || self.may_lack_its_start(packet, until_ns)
    }

    /// Whether what a packet begins with may be among the records that were lost until `until_ns`, before its first hop.
    fn may_lack_its_start(&self, packet: &Packet, until_ns: u64) -> bool {
        let Some(first) = packet.hops.first() else { return false };
        let leaves_a_socket = packet.message.is_none() && first.point <= Point::DevQueueXmit;
        if !leaves_a_socket || is_call(first.point) {
            return false;
        }
        // Questions, the calls for datagrams, and the network layer come at once before the packet.
        let is_soon = first.time_ns <= until_ns.saturating_add(QUESTION_NS);
        let Some(tcp) = packet.tcp() else { return is_soon };
        let asks = tcp.flags & (Tcp::SYN | Tcp::RST) != 0;
        let is_at_network = matches!(first.point, Point::IpQueueXmit | Point::Ip6Xmit);
        if is_soon && (asks || !is_at_network) {
            return true;
        }
        // The data of a call may wait for as long as it takes.
        let has_call = packet.len != 0 && !packet.retransmitted && self.coverage.sees(Point::TcpSendmsg);
        let begun_ns = packet.flow.and_then(|flow| self.flows.get(flow)).map_or(0, FlowState::begun_ns);
        has_call && begun_ns <= until_ns
    }
}
