//! Paths of which records may be missing.
//!
//! Where records were lost, any packet that is on its way may lack a hop, and what is seen later may be taken for it: the read of
//! the packet behind it, the hops of another one that was sent again. Nothing in the records that are there tells. So each path that
//! was under way at any moment of a loss is in doubt, and so is each that begins after it without the call, or the questions, that
//! it should begin with. It shows only the hops that saw the packet itself. What is known of a conversation, or of what is queued on
//! a socket, is not known any more.
//!
//! Not covered: where several threads send on one socket, the call of one may be lost and still write when that of another begins.

use tracer_common::{event::LossRecord, probes::Point};

use super::{
    Correlator,
    delivery::is_after,
    flows::{FlowKey, FlowState},
    in_flight::{Packet, Who},
    routes::QUESTION_NS,
    sends::is_call,
};
use crate::model::{Incomplete, Tcp, is_read};

/// Until when records were lost, `CLOCK_MONOTONIC` ns; none so far, if it is not said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LostUntil(Option<u64>);

impl LostUntil {
    /// Whether what was known at a time may have changed unseen.
    pub(super) fn is_after(self, known_ns: u64) -> bool {
        self.0.is_some_and(|until_ns| known_ns <= until_ns)
    }

    /// The same of what was known for so long before.
    fn is_after_or_within(self, known_ns: u64, before_ns: u64) -> bool {
        self.is_after(known_ns.saturating_sub(before_ns))
    }
}

impl Correlator {
    /// Records were lost, or it is known until when.
    pub(super) fn loss(&mut self, record: &LossRecord) {
        self.lost = LostUntil(Some(record.until_ns));
        self.flows.lose();
    }

    /// Why the path of a packet cannot be whole if nothing else is known; `packet.doubt` is what is.
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
        let Some(first) = packet.hops.first() else { return false };
        // Whatever a packet passes before its first hop, it passes soon: questions, the calls for datagrams, the network layer, another
        // namespace.
        self.lost.is_after(first.time_ns)
            || !is_known_to_begin(packet, first.point)
                && self.lost.is_after_or_within(first.time_ns, QUESTION_NS)
    }

    /// A segment of new data leaves, and no call was seen that it may come from. If one may have been lost, it is in doubt. Its data may
    /// have waited for as long as it takes.
    pub(super) fn has_no_call(&mut self, flow: FlowKey, packet: &mut Packet) {
        if !self.coverage.sees(Point::TcpSendmsg) {
            return;
        }
        let lost = self.lost;
        let Some(state) = self.flows.get_mut(flow) else { return };
        let is_known_from_start = state.begun_ns != 0 && !lost.is_after(state.begun_ns);
        if is_known_from_start || state.knows_call_at(packet.header.seq) {
            // There are calls that are not seen (`io_uring` by tracepoints, the kernel's own).
            state.sends_unseen = true;
        } else if lost.0.is_some() && !state.sends_unseen {
            packet.doubt.get_or_insert(Incomplete::EventsLost);
        }
    }

    /// The same for one that another socket has sent than the one whose calls are known: its own are on another flow.
    pub(super) fn has_call_elsewhere(&self, packet: &mut Packet) {
        if self.lost.0.is_some() && self.coverage.sees(Point::TcpSendmsg) {
            packet.doubt.get_or_insert(Incomplete::EventsLost);
        }
    }
}

impl FlowState {
    /// Whether the call that a byte comes from would have been seen, as it is none that may have been lost.
    fn knows_call_at(&self, seq: u32) -> bool {
        self.calls_known_from.is_some_and(|from| !is_after(from, seq))
    }
}

/// Forgets what may be another packet's: all that was joined to this one by anything but itself.
pub(super) fn forget_what_was_joined(packet: &mut Packet) {
    packet.routes.clear();
    packet.receiver = None;
    let Some(message) = &mut packet.message else {
        // The process sends on the flow anyhow.
        packet.sender = packet.sender.map(|who| Who::process(who.process));
        return packet.hops.retain(|hop| !is_joined(hop.point));
    };
    (message.reads, message.descriptors) = (0, 0);
    packet.hops.truncate(1);
}

/// Whether a hop is joined to a packet by numbers, threads, sockets or CPUs, and not by the packet that is seen there.
fn is_joined(point: Point) -> bool {
    let by_what_is_asked = matches!(point, Point::FibLookup | Point::Fib6Lookup);
    let by_who_is_woken = matches!(point, Point::SockDefReadable | Point::SchedWaking | Point::SchedSwitch);
    is_call(point) || is_read(point) || by_what_is_asked || by_who_is_woken || point == Point::ProcessBacklog
}

/// Whether nothing can be before a packet's first hop, or only what is kept for long: the call of an established connection.
fn is_known_to_begin(packet: &Packet, first: Point) -> bool {
    let asks = packet.tcp().is_none_or(|tcp| tcp.flags & (Tcp::SYN | Tcp::RST) != 0);
    let is_at_network = matches!(first, Point::IpQueueXmit | Point::Ip6Xmit);
    packet.message.is_some() || is_call(first) || is_at_network && !asks
}
