//! Packets that are larger than their device takes, and the segments that the device layer cuts them into.

use tracer_common::{event::HopRecord, probes::Point};

use super::{
    Correlator,
    flows::FlowKey,
    in_flight::{Cut, Header, Packet, PacketKey, UNNUMBERED},
    sends::is_call,
};
use crate::model::{Hop, Tcp};

impl Correlator {
    /// A segment that the device layer has cut off a packet that is larger than its device takes. It has memory of its
    /// own, and the same way up to here. A device without a queue cuts it at once, one with a queue as it takes it in: its
    /// place in the sequence says which packet it is from.
    pub(super) fn cut_off(
        &mut self,
        flow: Option<FlowKey>,
        record: &HopRecord,
        hop: Hop,
    ) -> Option<PacketKey> {
        let is_cut = matches!(
            hop.point,
            Point::QdiscDequeue | Point::DevHardStartXmit | Point::LoopbackXmit | Point::EnqueueToBacklog
        );
        if !is_cut {
            return None;
        }
        let state = self.flows.get_mut(flow?)?;
        let in_flight = &self.in_flight;
        let is_whole = |key: &PacketKey| {
            in_flight
                .get(*key)
                .is_some_and(|packet| matches!(packet.stage, Point::DevQueueXmit | Point::QdiscEnqueue))
        };
        while state.at_device.front().is_some_and(|key| !is_whole(key)) {
            state.at_device.pop_front();
        }
        let is_from =
            |key: &&PacketKey| in_flight.get(**key).is_some_and(|whole| is_cut_from(whole, record, hop));
        let whole_key = *state.at_device.iter().rev().find(is_from)?;
        let whole = self.in_flight.get(whole_key)?;
        let tcp = whole.tcp?;
        let to = record.seq.wrapping_sub(tcp.seq).checked_add(record.len)?;
        let mut segment = Packet {
            skb: record.skb,
            header: Header::of(record),
            tcp: Some(Tcp { flags: record.tcp_flags, seq: record.seq, ..tcp }),
            len: record.len,
            cut: Cut::default(),
            ..whole.clone()
        };
        // Its first byte may come from another call than that of the whole.
        segment.hops.retain(|hop| !is_call(hop.point));
        let sent_ns = segment.hops.first().map_or(hop.time_ns, |first| first.time_ns);
        self.give_call(flow?, &mut segment, sent_ns);
        let whole = self.in_flight.get_mut(whole_key)?;
        // The first segment takes the number of the whole, which is not a packet any more.
        whole.id = UNNUMBERED;
        whole.cut = Cut { to, bytes: whole.cut.bytes + record.len };
        if whole.cut.bytes == whole.len {
            self.in_flight.remove(whole_key);
        }
        let id = if segment.id == UNNUMBERED { self.number() } else { segment.id };
        Some(self.keep(Packet { id, ..segment }))
    }
}

/// Whether a record is of a segment that was cut from a packet.
fn is_cut_from(whole: &Packet, record: &HopRecord, hop: Hop) -> bool {
    let Some(tcp) = whole.tcp else { return false };
    let from = record.seq.wrapping_sub(tcp.seq);
    matches!(whole.stage, Point::DevQueueXmit | Point::QdiscEnqueue)
        && whole.last_ns() <= hop.time_ns
        && (1..whole.len).contains(&record.len)
        && (whole.cut.to..whole.len).contains(&from)
        && from.checked_add(record.len).is_some_and(|to| to <= whole.len)
        && record.ack == tcp.ack
        // PSH and FIN are for the last segment, CWR for the first.
        && record.tcp_flags & !tcp.flags == 0
        && tcp.flags & Tcp::SYN == 0
}
