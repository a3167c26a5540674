//! The packets on their way.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use slotmap::SlotMap;
use tracer_common::probes::Point;

use super::flows::FlowKey;
use crate::model::{Device, Hop, Hops, Incomplete, Tcp};

/// The number of a packet whose number a segment that was cut from it has taken.
pub(super) const UNNUMBERED: u64 = 0;

/// What was cut from a packet that is larger than its device takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    /// Where the last segment ended, counted from the first byte of the packet.
    pub(super) to: u32,
    /// Bytes of all segments.
    pub(super) bytes: u32,
}

/// A packet whose path has begun and not ended.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) id: u64,
    /// Address of its `sk_buff`, 0 for a message on a UNIX socket.
    pub(super) skb: u64,
    pub(super) flow: Option<FlowKey>,
    /// The flow as its receiver sees it: on a veth device the namespace is another one.
    pub(super) received_on: Option<FlowKey>,
    pub(super) unix_name: Option<Arc<[u8]>>,
    pub(super) tcp: Option<Tcp>,
    pub(super) len: u32,
    pub(super) ifindex: Option<u32>,
    pub(super) sender: Option<u32>,
    /// The furthest point at which its `sk_buff` was seen.
    pub(super) stage: Point,
    pub(super) hops: Hops,
    /// What the device layer has cut from it: how far, and how many bytes.
    pub(super) cut: Cut,
    /// Received; its data waits to be read.
    pub(super) awaits_reader: bool,
    /// Why the path cannot be whole, whatever comes.
    pub(super) doubt: Option<Incomplete>,
}

impl Packet {
    /// Adds a hop in the order of times.
    pub(super) fn add(&mut self, hop: Hop) {
        let at = self
            .hops
            .iter()
            .rposition(|earlier| earlier.time_ns <= hop.time_ns)
            .map_or(0, |before| before + 1);
        // `routes` leaves room for all hops that a packet can have beside its routing questions.
        if self.hops.try_insert(at, hop).is_err() {
            self.doubt.get_or_insert(Incomplete::LostTrack);
        }
    }

    /// Whether it was last seen when it was handed to a device that is not the loopback device.
    pub(super) fn left_by_device(&self) -> bool {
        self.stage <= Point::DevQueueXmit && self.ifindex.is_some_and(|index| index != Device::LOOPBACK)
    }

    /// The flow on whose socket its data is read.
    pub(super) fn read_on(&self) -> Option<FlowKey> {
        self.received_on.or(self.flow)
    }

    /// Whether it was seen at `point`.
    pub(super) fn passed(&self, point: Point) -> bool {
        self.hops.iter().any(|hop| hop.point == point)
    }

    /// Time of its last hop, ns.
    pub(super) fn last_ns(&self) -> u64 {
        self.hops.last().map_or(0, |hop| hop.time_ns)
    }

    /// The sequence number behind its last byte of data.
    pub(super) fn end_seq(&self) -> u32 {
        self.tcp.map_or(0, |tcp| {
            // A SYN takes a number before the data.
            tcp.seq.wrapping_add(self.len).wrapping_add(u32::from(tcp.flags & Tcp::SYN != 0))
        })
    }
}

slotmap::new_key_type! {
    /// Names a packet on its way; never used again for another.
    pub(super) struct PacketKey;
}

/// All of them, by key, by `sk_buff` and by age.
#[derive(Default)]
pub(super) struct InFlight {
    packets: SlotMap<PacketKey, Packet>,
    by_skb: HashMap<u64, PacketKey>,
    /// Oldest first; keys of packets that have ended are skipped.
    by_age: VecDeque<PacketKey>,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(super) fn get(&self, key: PacketKey) -> Option<&Packet> {
        self.packets.get(key)
    }

    pub(super) fn get_mut(&mut self, key: PacketKey) -> Option<&mut Packet> {
        self.packets.get_mut(key)
    }

    /// The packet that lives in this `sk_buff`.
    pub(super) fn by_skb(&self, skb: u64) -> Option<PacketKey> {
        self.by_skb.get(&skb).copied()
    }

    pub(super) fn insert(&mut self, packet: Packet) -> PacketKey {
        let skb = packet.skb;
        let key = self.packets.insert(packet);
        if skb != 0 {
            self.by_skb.insert(skb, key);
        }
        self.by_age.push_back(key);
        // Unread data may hold the front for long while others come and go behind it.
        if self.by_age.len() > 2 * self.packets.len() + 1024 {
            self.by_age.retain(|key| self.packets.contains_key(*key));
        }
        key
    }

    /// The packet has left its `sk_buff`, but not ended.
    pub(super) fn leave_skb(&mut self, key: PacketKey) {
        if let Some(packet) = self.packets.get(key)
            && self.by_skb.get(&packet.skb) == Some(&key)
        {
            self.by_skb.remove(&packet.skb);
        }
    }

    pub(super) fn remove(&mut self, key: PacketKey) -> Option<Packet> {
        self.leave_skb(key);
        self.packets.remove(key)
    }

    /// The packet that began first.
    pub(super) fn oldest(&mut self) -> Option<PacketKey> {
        while let Some(key) = self.by_age.front().copied() {
            if self.packets.contains_key(key) {
                return Some(key);
            }
            self.by_age.pop_front();
        }
        None
    }

    /// All packets, in the order in which they began.
    pub(super) fn oldest_first(&self) -> Vec<PacketKey> {
        self.by_age.iter().copied().filter(|key| self.packets.contains_key(*key)).collect()
    }

    /// Packets on their way whose last hop was before `time_ns`, and the time of the earliest one among the others.
    /// Data that waits to be read may wait as long as it likes.
    pub(super) fn idle_since(&self, time_ns: u64) -> (Vec<PacketKey>, Option<u64>) {
        let mut idle = Vec::new();
        let mut earliest: Option<u64> = None;
        for (key, packet) in self.packets.iter().filter(|(_, packet)| !packet.awaits_reader) {
            let last = packet.last_ns();
            if last < time_ns {
                idle.push(key);
            } else {
                earliest = Some(earliest.map_or(last, |earliest| earliest.min(last)));
            }
        }
        (idle, earliest)
    }

    /// How many keys are kept, live or not.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 3] {
        [self.packets.len(), self.by_skb.len(), self.by_age.len()]
    }
}
