//! Records that come together are looked up together.
//!
//! Of thousands of conversations nothing is in a cache any more when the next record of one comes. To take a record is to
//! wait for memory several times, one after the other: the flow's number leads to the flow, the flow to the packet that is
//! read, the packet to its hops. What one record waits for has nothing to do with the next one, though; so before a group
//! is taken, each of these steps is gone with all of its records, and the waiting of all is one. Nothing is changed by it.

use std::hint::black_box;

use arrayvec::ArrayVec;
use tracer_common::{
    event::{HopRecord, NO_FLOW},
    probes::Point,
};

use super::{
    Correlator,
    flows::{FlowKey, FlowState},
    in_flight::{Packet, PacketKey},
};
use crate::decode::Record;

/// How many records are looked up together: of a message there are ten, so these are of a dozen.
pub(crate) const GROUP: usize = 128;

const WAKING: u8 = Point::SchedWaking as u8;
const SWITCH: u8 = Point::SchedSwitch as u8;

/// Numbers that were seen a moment ago, each at its place: what they lead to need not be looked up.
pub(super) struct Recent([u64; 64]);

impl Default for Recent {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Recent {
    /// Whether a number, or an address, was not seen a moment ago. Now it was.
    fn is_new(&mut self, number: u64) -> bool {
        // Addresses of sockets are multiples of 64, and the lowest bits of a flow's number those of a CPU.
        let [lowest, ..] = (number ^ number >> 6 ^ number >> 16).to_le_bytes();
        let place = usize::from(lowest) % self.0.len();
        std::mem::replace(&mut self.0[place], number) != number
    }
}

impl Correlator {
    /// Takes records, in their order.
    pub fn records(&mut self, records: &[Record]) {
        for group in records.chunks(GROUP) {
            self.look_ahead(group);
            for record in group {
                self.record(record);
            }
        }
    }

    /// Touches what a group of records will be looked up in.
    fn look_ahead(&mut self, group: &[Record]) {
        let mut tids: ArrayVec<u32, GROUP> = ArrayVec::new();
        let mut hops: ArrayVec<&HopRecord, GROUP> = ArrayVec::new();
        let mut flows: ArrayVec<FlowKey, GROUP> = ArrayVec::new();
        let mut packets: ArrayVec<PacketKey, { 2 * GROUP }> = ArrayVec::new();
        for record in group {
            match record {
                Record::Hop(hop) if matches!(hop.point, WAKING | SWITCH) => tids.push(hop.tid),
                Record::Hop(hop) if hop.flow != NO_FLOW && self.recent.is_new(hop.flow) => hops.push(hop),
                Record::Unix(unix) if self.recent.is_new(unix.sk) => {
                    packets.extend(self.unix.oldest_unread(unix.sk));
                    packets.extend(self.unix.oldest_unread(unix.peer));
                }
                _ => {}
            }
        }
        flows.extend(hops.iter().filter_map(|hop| self.flows.peek(hop.flow)));
        packets.extend(hops.iter().filter_map(|hop| self.in_flight.by_skb(hop.skb)));
        for tid in tids {
            black_box(self.wakes.touch(tid));
        }
        for flow in &flows {
            black_box(self.flows.get(*flow).map(FlowState::touch));
        }
        packets.extend(flows.iter().filter_map(|flow| self.flows.get(*flow)?.waiting.front().copied()));
        for packet in &packets {
            black_box(self.in_flight.get(*packet).map(Packet::touch));
        }
        for packet in packets.iter().filter_map(|packet| self.in_flight.get(*packet)) {
            black_box((packet.last_ns(), self.in_flight.by_skb(packet.skb)));
        }
    }
}
