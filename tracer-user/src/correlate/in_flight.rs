//! The packets on their way.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use hashbrown::HashMap;
use slotmap::SlotMap;
use smallvec::SmallVec;
use tracer_common::{
    event::{HopRecord, is_icmp_error, is_icmpv6_error},
    probes::Point,
};

use super::flows::FlowKey;
use crate::model::{Device, Hop, Hops, Icmp, Incomplete, MAX_DEVICES, MAX_HOPS, Protocol, Tcp};

/// The number of a packet whose number a segment that was cut from it has taken.
pub(super) const UNNUMBERED: u64 = 0;

/// Room for the hops that most packets have: all between two sockets over the loopback device.
const MOST_HOPS: usize = 12;

/// Lists of hops that are kept beside those in flight.
const SLACK: usize = 1024;

/// What was cut from a packet that is larger than its device takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cut {
    /// Where the last segment ended, counted from the first byte of the packet.
    pub(super) to: u32,
    /// Bytes of all segments.
    pub(super) bytes: u32,
}

/// What a packet's transport header says: for TCP flags and both numbers, for ICMP type and code as `HopRecord::seq` has
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
}

impl Header {
    pub(super) fn of(record: &HopRecord) -> Self {
        Self { flags: record.tcp_flags, seq: record.seq, ack: record.ack }
    }

    /// What it says as one of ICMP.
    pub(super) fn icmp(self, protocol: Protocol) -> Option<Icmp> {
        let [_, _, kind, code] = self.seq.to_be_bytes();
        let is_error = match protocol {
            Protocol::Icmp => is_icmp_error(kind),
            Protocol::Icmpv6 => is_icmpv6_error(kind),
            _ => return None,
        };
        let answers = u8::try_from(self.ack).ok().filter(|_| is_error).map(Protocol::from_ip);
        Some(Icmp { kind, code, answers })
    }
}

/// Who uses a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) process: u32,
    /// 0 if only the process is known.
    pub(super) thread: u32,
}

impl Who {
    /// The thread in whose name the kernel ran, if it did.
    pub(super) fn thread(process: u32, thread: u32) -> Option<Self> {
        (process != 0).then_some(Self { process, thread })
    }

    /// Some thread of a process.
    pub(super) fn process(process: u32) -> Self {
        Self { process, thread: 0 }
    }
}

/// A packet, or a message on a UNIX socket, whose path has begun and not ended.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Packet {
    pub(super) id: u64,
    /// Address of its `sk_buff`, 0 for a message on a UNIX socket.
    pub(super) skb: u64,
    pub(super) flow: Option<FlowKey>,
    /// The flow as its receiver sees it: on a veth device the namespace is another one.
    pub(super) received_on: Option<FlowKey>,
    /// For a message on a UNIX socket. Apart, as packets have none, and there are many of them.
    pub(super) message: Option<Box<Message>>,
    pub(super) header: Header,
    /// The socket that sends it, 0 if that is not known.
    pub(super) sent_by: u64,
    pub(super) is_tcp: bool,
    pub(super) retransmitted: bool,
    pub(super) len: u32,
    /// Namespace and index of the devices that it was on.
    pub(super) on_devices: SmallVec<[(u32, u32); 2]>,
    pub(super) sender: Option<Who>,
    pub(super) receiver: Option<Who>,
    /// The socket whose reader was woken for it, 0 if none was.
    pub(super) woken_on: u64,
    /// The furthest point at which its `sk_buff` was seen.
    pub(super) stage: Point,
    pub(super) hops: Hops,
    /// What routing tables answered for it, in the order of times.
    pub(super) routes: Vec<Route>,
    /// A datagram for the peer of its socket, which keeps a route for it.
    pub(super) to_peer: bool,
    /// What the device layer has cut from it: how far, and how many bytes.
    pub(super) cut: Cut,
    /// The flow on which it was handed to a device that may cut it and has not yet sent it.
    pub(super) at_device: Option<FlowKey>,
    /// It holds several datagrams, which its receiver gets one by one.
    pub(super) holds_several: bool,
    /// Received; its data waits to be read.
    pub(super) awaits_reader: bool,
    pub(super) dropped: Option<Box<Drop>>,
    /// Why the path cannot be whole, whatever comes.
    pub(super) doubt: Option<Incomplete>,
}

/// What a routing table answered, with the device still a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "as in `model::Route`, where `type` is a keyword")]
pub(super) struct Route {
    pub(super) time_ns: u64,
    pub(super) table: u32,
    pub(super) route_type: u8,
    pub(super) ifindex: u32,
    pub(super) netns: u32,
    pub(super) source: Option<IpAddr>,
    pub(super) error: i32,
}

/// Where and why the kernel dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drop {
    pub(super) reason: Option<u32>,
    pub(super) location: u64,
}

/// How far a message on a UNIX socket, or a connection, has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// The socket that sends or connects.
    pub(super) sk: u64,
    /// What it was called when it sent the message: a datagram socket may talk to others later.
    pub(super) called: Option<Arc<[u8]>>,
    /// The socket that it goes to, 0 if not known.
    pub(super) to: u64,
    /// `SOCK_*`.
    pub(super) socket_type: u8,
    /// It is a connection.
    pub(super) connects: bool,
    /// The thread whose call it is.
    pub(super) tid: u32,
    /// Bytes that the call was asked to send, `AUX_UNKNOWN` if not known.
    pub(super) asked: u32,
    /// Bytes in the `sk_buff`s that were seen to be queued.
    pub(super) queued: u32,
    /// `sk_buff`s that were queued, and that were read to their end. A connection is one, and accepted once.
    pub(super) buffers: u32,
    pub(super) buffers_read: u32,
    /// Wake-ups at which the `sk_buff` was gone already: the reader had taken it.
    pub(super) unseen: u32,
    /// An `sk_buff` was read, and its wake-up has not come yet: the next `sk_buff` can only come after it.
    pub(super) early: bool,
    /// The call may queue more.
    pub(super) is_open: bool,
    pub(super) descriptors: u32,
    pub(super) reads: u32,
    /// The latest copy.
    pub(super) read: Option<Hop>,
}

impl Message {
    /// Whether all that was sent has been read.
    pub(super) fn is_read(&self) -> bool {
        !self.is_open && self.unseen == 0 && self.buffers == self.buffers_read
    }
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
        if self.hops.len() < MAX_HOPS {
            self.hops.insert(at, hop);
        } else {
            self.doubt.get_or_insert(Incomplete::LostTrack);
        }
    }

    /// Adds the answer of a routing table, which is a hop as well.
    pub(super) fn add_route(&mut self, hop: Hop, route: Route) {
        self.add(hop);
        let at = self.routes.partition_point(|earlier| earlier.time_ns <= route.time_ns);
        self.routes.insert(at, route);
    }

    /// What its header says, if it is one of TCP.
    pub(super) fn tcp(&self) -> Option<Tcp> {
        let Header { flags, seq, ack } = self.header;
        self.is_tcp.then_some(Tcp { flags, seq, ack })
    }

    /// What is known of the message that it is, if it is one on a UNIX socket.
    pub(super) fn message(&self) -> Option<&Message> {
        self.message.as_deref()
    }

    /// Notes that it is on a device. A packet on more of them shows the first ones.
    pub(super) fn is_on(&mut self, device: (u32, u32)) {
        if self.on_devices.len() < MAX_DEVICES && !self.on_devices.contains(&device) {
            self.on_devices.push(device);
        }
    }

    /// The device that it was last seen on.
    pub(super) fn ifindex(&self) -> Option<u32> {
        self.hops.iter().rev().find_map(Hop::ifindex)
    }

    /// Whether it was last seen when it was handed to a device that is not the loopback device.
    pub(super) fn left_by_device(&self) -> bool {
        self.stage < Point::LoopbackXmit && self.ifindex().is_some_and(|index| index != Device::LOOPBACK)
    }

    /// Whether the driver of a device that is not the loopback device has it.
    pub(super) fn is_with_driver(&self) -> bool {
        self.stage == Point::DevHardStartXmit
    }

    /// Whether its protocol got it off a CPU's backlog, and not from a device's driver.
    pub(super) fn is_off_backlog(&self) -> bool {
        let before = |hop: &&Hop| !matches!(hop.point, Point::NetifReceiveSkb | Point::ProcessBacklog);
        self.hops.iter().rev().find(before).is_some_and(|hop| hop.point == Point::EnqueueToBacklog)
    }

    /// The flow on whose socket its data is read.
    pub(super) fn read_on(&self) -> Option<FlowKey> {
        self.received_on.or(self.flow)
    }

    /// Whether it was seen at `point`.
    pub(super) fn passed(&self, point: Point) -> bool {
        self.hops.iter().any(|hop| hop.point == point)
    }

    /// Reads something of every part.
    pub(super) fn touch(&self) -> u64 {
        let flags = u64::from(self.retransmitted) + u64::from(self.awaits_reader);
        let sizes = self.hops.len() as u64 ^ self.routes.len() as u64 ^ self.on_devices.len() as u64;
        self.id ^ self.woken_on ^ self.skb ^ flags ^ sizes ^ u64::from(self.header.seq)
    }

    /// Time of its last hop, ns.
    pub(super) fn last_ns(&self) -> u64 {
        self.hops.last().map_or(0, |hop| hop.time_ns)
    }

    /// The sequence number behind its last byte of data.
    pub(super) fn end_seq(&self) -> u32 {
        self.tcp().map_or(0, |tcp| {
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
    /// Lists of hops that are not used, so that none is allocated for each packet.
    spare: Vec<Hops>,
    /// The same of messages.
    #[allow(clippy::vec_box, reason = "what is reused is the room")]
    spare_messages: Vec<Box<Message>>,
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

    /// An empty list of hops.
    pub(super) fn hops(&mut self) -> Hops {
        self.spare.pop().unwrap_or_else(|| Hops::with_capacity(MOST_HOPS))
    }

    /// A list of hops that nobody needs any more.
    pub(super) fn reuse(&mut self, mut hops: Hops) {
        if self.spare.len() < self.packets.len() + SLACK {
            hops.clear();
            self.spare.push(hops);
        }
    }

    /// Room for a message.
    #[allow(clippy::unnecessary_box_returns, reason = "it is the room that is returned")]
    pub(super) fn message(&mut self, message: Message) -> Box<Message> {
        match self.spare_messages.pop() {
            Some(mut room) => {
                *room = message;
                room
            }
            None => Box::new(message),
        }
    }

    /// A message that nobody needs any more.
    pub(super) fn reuse_message(&mut self, message: Box<Message>) {
        if self.spare_messages.len() < self.packets.len() + SLACK {
            self.spare_messages.push(message);
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, packet: Packet) -> PacketKey {
        let skb = packet.skb;
        let key = self.packets.insert(packet);
        if skb != 0 {
            self.by_skb.insert(skb, key);
        }
        self.by_age.push_back(key);
        // Unread data may hold the front for long while others come and go behind it.
        if self.by_age.len() > 2 * self.packets.len() + SLACK {
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

    /// Packets on their way whose patience has ended at `now_ns`, and the time at which that of the next one ends.
    /// `patience` says how long each may be between two hops, ns. Data that waits to be read may wait as long as it likes.
    pub(super) fn idle(
        &self,
        now_ns: u64,
        patience: impl Fn(&Packet) -> u64,
    ) -> (Vec<PacketKey>, Option<u64>) {
        let mut idle = Vec::new();
        let mut next: Option<u64> = None;
        for (key, packet) in self.packets.iter().filter(|(_, packet)| !packet.awaits_reader) {
            let ends = packet.last_ns().saturating_add(patience(packet));
            if ends < now_ns {
                idle.push(key);
            } else {
                next = Some(next.map_or(ends, |next| next.min(ends)));
            }
        }
        (idle, next)
    }

    /// Whether packets were sent, were seen at `since_ns` or later, and have not been received.
    pub(super) fn has_packets_under_way(&self, since_ns: u64) -> bool {
        self.packets.values().any(|packet| {
            !packet.awaits_reader
                && packet.message.is_none()
                && !packet.is_with_driver()
                && packet.last_ns() >= since_ns
        })
    }

    /// How many keys are kept, live or not.
    #[cfg(test)]
    pub(super) fn kept(&self) -> [usize; 3] {
        [self.packets.len(), self.by_skb.len(), self.by_age.len()]
    }
}
