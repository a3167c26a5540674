//! Packets that are larger than their device takes, and the segments that the device layer cuts them into.

use tracer_common::{event::HopRecord, probes::Point};

use super::{
    Correlator,
    flows::FlowKey,
    in_flight::{Cut, Packet, PacketKey, UNNUMBERED},
};
use crate::model::{Hop, Tcp};

impl Correlator {
    /// A segment that the device layer has cut off a packet that is larger than its device takes. It has memory of its
    /// own, and the same way up to here. A socket sends one packet at a time, so it can only be from the one that its
    /// flow handed to the device layer last.
    pub(super) fn cut_off(
        &mut self,
        flow: Option<FlowKey>,
        record: &HopRecord,
        hop: Hop,
    ) -> Option<PacketKey> {
        if !matches!(hop.point, Point::LoopbackXmit | Point::EnqueueToBacklog) {
            return None;
        }
        let whole_key = self.flows.get(flow?)?.at_device?;
        let whole = self.in_flight.get(whole_key)?;
        let tcp = whole.tcp?;
        let from = record.seq.wrapping_sub(tcp.seq);
        let to = from.checked_add(record.len)?;
        let is_cut_off = whole.stage == Point::DevQueueXmit
            && whole.last_ns() <= hop.time_ns
            && (1..whole.len).contains(&record.len)
            && (whole.cut.to..whole.len).contains(&from)
            && to <= whole.len
            && record.ack == tcp.ack
            // PSH and FIN are for the last segment, CWR for the first.
            && record.tcp_flags & !tcp.flags == 0
            && tcp.flags & Tcp::SYN == 0;
        if !is_cut_off {
            return None;
        }
        let segment = Packet {
            skb: record.skb,
            tcp: Some(Tcp { flags: record.tcp_flags, seq: record.seq, ..tcp }),
            len: record.len,
            cut: Cut::default(),
            ..whole.clone()
        };
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
