//! Packets that are larger than their device takes, and the segments that the device layer cuts them into.

use hashbrown::HashMap;
use smallvec::SmallVec;
use tracer_common::{event::HopRecord, probes::Point};

use super::{
    Correlator,
    flows::FlowKey,
    in_flight::{Cut, Header, Packet, PacketKey, UNNUMBERED},
    sends::is_call,
};
use crate::model::{Hop, Tcp};

/// How many packets of a flow may wait in a device's queue to be cut into segments.
const AT_DEVICE: usize = 32;

/// The packets with data that devices have and have not sent, by flow, oldest first. Few at a time, so they are not kept with
/// their flows, of which there are many.
#[derive(Default)]
pub(super) struct AtDevice {
    by_flow: HashMap<FlowKey, SmallVec<[PacketKey; 2]>>,
}

impl AtDevice {
    /// A device is given a packet.
    pub(super) fn add(&mut self, flow: Option<FlowKey>, key: PacketKey) {
        let Some(flow) = flow else { return };
        let packets = self.by_flow.entry(flow).or_default();
        if packets.len() >= AT_DEVICE {
            packets.remove(0);
        }
        packets.push(key);
    }

    /// A packet that a device was given on this flow, if it was, is not there any more.
    pub(super) fn remove(&mut self, flow: Option<FlowKey>, key: PacketKey) {
        let Some(flow) = flow else { return };
        let Some(packets) = self.by_flow.get_mut(&flow) else { return };
        packets.retain(|other| *other != key);
        if packets.is_empty() {
            self.by_flow.remove(&flow);
        }
    }

    /// The packet that a device was given last, of those that will do.
    fn latest(&self, flow: FlowKey, will_do: impl Fn(&PacketKey) -> bool) -> Option<PacketKey> {
        self.by_flow.get(&flow)?.iter().rev().copied().find(|key| will_do(key))
    }

    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.by_flow.len()
    }
}

impl Packet {
    /// Whether its device may cut it yet.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.stage, Point::DevQueueXmit | Point::QdiscEnqueue)
    }
}

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
        let is_from =
            |key: &PacketKey| self.in_flight.get(*key).is_some_and(|whole| is_cut_from(whole, record, hop));
        let whole_key = self.at_device.latest(flow?, is_from)?;
        let whole = self.in_flight.get(whole_key)?;
        let tcp = whole.tcp()?;
        let to = record.seq.wrapping_sub(tcp.seq).checked_add(record.len)?;
        let mut segment = Packet {
            skb: record.skb,
            header: Header::of(record),
            len: record.len,
            cut: Cut::default(),
            at_device: None,
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
            self.at_device.remove(whole.at_device, whole_key);
            self.in_flight.remove(whole_key);
        }
        let id = if segment.id == UNNUMBERED { self.number() } else { segment.id };
        Some(self.keep(Packet { id, ..segment }))
    }
}

/// Whether a record is of a segment that was cut from a packet.
fn is_cut_from(whole: &Packet, record: &HopRecord, hop: Hop) -> bool {
    let Some(tcp) = whole.tcp() else { return false };
    let from = record.seq.wrapping_sub(tcp.seq);
    whole.is_whole()
        && whole.last_ns() <= hop.time_ns
        && (1..whole.len).contains(&record.len)
        && (whole.cut.to..whole.len).contains(&from)
        && from.checked_add(record.len).is_some_and(|to| to <= whole.len)
        && record.ack == tcp.ack
        // PSH and FIN are for the last segment, CWR for the first.
        && record.tcp_flags & !tcp.flags == 0
        && tcp.flags & Tcp::SYN == 0
}
