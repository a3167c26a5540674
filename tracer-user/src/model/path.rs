//! The way of one packet.

use std::{fmt, net::IpAddr, sync::Arc};

use arrayvec::ArrayVec;
use tracer_common::{
    event::AUX_UNKNOWN,
    probes::{Backend, Point},
};

use super::{Flow, Protocol, Shares, Task};

/// The most hops a path holds: room for a packet that passes a bridge between two namespaces, with all its questions.
pub const MAX_HOPS: usize = 36;

/// A place that a packet passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Which.
    pub point: Point,
    /// How it was seen.
    pub backend: Backend,
    /// On which CPU.
    pub cpu: u32,
    /// When: `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// What the point says beside (`HopRecord::aux`): routing table, target CPU, interface index, drop reason.
    pub aux: u32,
    /// Inode number of the network namespace that it is in, 0 if not known.
    pub netns: u32,
}

impl Hop {
    /// Whether a process takes the data, or the connection: no way goes further.
    pub fn is_read(&self) -> bool {
        is_read(self.point)
    }

    /// Whether a process hands data over: a send call, or `connect` to a UNIX socket.
    pub fn is_send(&self) -> bool {
        is_send(self.point)
    }

    /// The interface index of the device that the packet is on at this hop, if it is on one.
    pub fn ifindex(&self) -> Option<u32> {
        let has_device = matches!(
            self.point,
            Point::DevQueueXmit
                | Point::QdiscEnqueue
                | Point::QdiscDequeue
                | Point::DevHardStartXmit
                | Point::LoopbackXmit
                | Point::NetifReceiveSkb
        );
        (has_device && !matches!(self.aux, 0 | AUX_UNKNOWN)).then_some(self.aux)
    }
}

/// [`Hop::is_read`] of any hop at that point.
pub fn is_read(point: Point) -> bool {
    matches!(
        point,
        Point::TcpRecvmsg
            | Point::UdpRecvmsg
            | Point::UnixStreamRecvmsg
            | Point::UnixDgramRecvmsg
            | Point::UnixAccept
    )
}

/// [`Hop::is_send`] of any hop at that point.
pub fn is_send(point: Point) -> bool {
    matches!(
        point,
        Point::UnixStreamConnect
            | Point::UnixStreamSendmsg
            | Point::UnixDgramSendmsg
            | Point::TcpSendmsg
            | Point::UdpSendmsg
            | Point::Udpv6Sendmsg
    )
}

/// The hops of a path, in the order of their times, at most [`MAX_HOPS`].
pub type Hops = Vec<Hop>;

/// The most devices a path shows. A packet on more of them shows the first ones.
pub const MAX_DEVICES: usize = 6;

/// The devices of a path, in the order in which it passes them.
pub type Devices = ArrayVec<Device, MAX_DEVICES>;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Inode number of the network namespace that it is in.
    pub netns: u32,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its name, `None` if it was not announced.
    pub name: Option<Arc<str>>,
}

impl Device {
    /// `LOOPBACK_IFINDEX`: the loopback device has index 1 in every network namespace.
    pub const LOOPBACK: u32 = 1;

    /// Whether it is the loopback device.
    pub fn is_loopback(&self) -> bool {
        self.ifindex == Self::LOOPBACK
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "if{}", self.ifindex),
        }
    }
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The flag byte, FIN 0x01 to CWR 0x80.
    pub flags: u8,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
}

impl Tcp {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
}

/// What an ICMP message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The transport of the packet that it answers, if it is an error. The flow has that packet's ports, the other way
    /// round.
    pub answers: Option<Protocol>,
}

/// What a UNIX socket's message is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix {
    /// The name of one of the two sockets, as the kernel keeps it: an abstract name begins with NUL; empty if none has one
    /// (`socketpair`), `None` if its record was lost.
    pub name: Option<Arc<[u8]>>,
    /// `SOCK_*`.
    pub socket_type: u8,
    /// Inode number of the sender's socket, as `ss -x` shows it; 0 if not known.
    pub inode: u32,
    /// File descriptors that were passed with it.
    pub descriptors: u32,
    /// How many copies the reader took it in.
    pub reads: u32,
}

impl Unix {
    /// What kind of socket it is.
    pub fn type_name(&self) -> &'static str {
        match self.socket_type {
            1 => "stream",
            2 => "dgram",
            5 => "seqpacket",
            _ => "unknown",
        }
    }
}

/// What a routing table answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// When: the time of its hop.
    pub time_ns: u64,
    /// Number of the table: 255 local, 254 main.
    pub table: u32,
    /// `RTN_*`: 1 unicast, 2 local …; 0 if not known.
    pub route_type: u8,
    /// The next hop's device.
    pub device: Option<Device>,
    /// The source address that the route prefers.
    pub source: Option<IpAddr>,
    /// 0, or a negative errno: the table has no such route.
    pub error: i32,
}

/// How a packet came to its route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// It cannot be told.
    #[default]
    Unknown,
    /// By the route that its socket keeps: no table was asked.
    Cached,
    /// These tables were asked, in this order.
    Asked(Vec<Route>),
}

/// Where and why the kernel dropped a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// `enum skb_drop_reason` of the kernel that was traced; `None` before 5.17, which gives none.
    pub reason: Option<u32>,
    /// Its name there, without `SKB_DROP_REASON_`.
    pub reason_name: Option<Arc<str>>,
    /// The address in the kernel that dropped it.
    pub location: u64,
    /// The function there, if the kernel shows its symbols.
    pub function: Option<Arc<str>>,
}

/// Why a path could not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Incomplete {
    /// The path begins where no packet can begin: its start was before the trace, or was not seen.
    StartNotSeen,
    /// The packet was on its way when the trace ended.
    TraceEnded,
    /// The data was received, but nobody had read it when the trace ended.
    NotRead,
    /// The connection ended before anybody read the data.
    NeverRead,
    /// The packet was handed to a device that is not the loopback device and was not seen to come back.
    LeftByDevice,
    /// No further hop was seen for so long that the packet cannot be waiting any more.
    LostTrack,
    /// The kernel used the packet's memory for another packet before its end was seen.
    Superseded,
    /// The packet's headers changed between two hops, so they cannot be told to be one packet.
    Changed,
    /// More packets were on their way than are kept.
    TooMany,
    /// So many send calls waited on its socket that its own is not remembered.
    CallNotKept,
    /// It held several datagrams, and the receiving end has cut it into them: they are not followed to their readers.
    CutByReceiver,
    /// Which flow it belongs to was lost, so its delivery cannot be told.
    FlowUnknown,
    /// A hop that every packet passes between two of its hops was not seen.
    HopNotSeen,
    /// The receiver's queue was seen empty, but not what emptied it: a read, or the end of the socket.
    ReadNotSeen,
    /// Several threads sent on one socket, or read from it, at a time, so their messages cannot be told apart.
    Entangled,
    /// The call came back, or has not come back, without anything being queued.
    CallFailed,
    /// Records were lost while it was under way, or those that it begins with may be.
    EventsLost,
}

impl Incomplete {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::StartNotSeen => "its start was not seen",
            Self::TraceEnded => "still on its way when the trace ended",
            Self::NotRead => "not read when the trace ended",
            Self::NeverRead => "the connection ended before the data was read",
            Self::LeftByDevice => "left by a device and was not seen to come back",
            Self::LostTrack => "no further hop was seen",
            Self::Superseded => "its memory was used for another packet before its end was seen",
            Self::Changed => "its headers changed on the way",
            Self::TooMany => "too many packets on their way",
            Self::CallNotKept => "too many send calls waited on its socket",
            Self::CutByReceiver => "cut into several datagrams by its receiver",
            Self::FlowUnknown => "the record of its flow was lost",
            Self::HopNotSeen => "a hop between was not seen",
            Self::ReadNotSeen => "gone from the receiver's queue, by no read that was seen",
            Self::Entangled => "several threads used the socket at once",
            Self::CallFailed => "the call failed, or waits",
            Self::EventsLost => "events were lost at that time",
        }
    }
}

/// The way of one packet through the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Numbers the paths of a run by their first hop, from 1.
    pub id: u64,
    /// Who sent it to whom; `None` if the record was lost.
    pub flow: Option<Flow>,
    /// For UNIX sockets.
    pub unix: Option<Unix>,
    /// For TCP, what its header says.
    pub tcp: Option<Tcp>,
    /// For ICMP, what its header says.
    pub icmp: Option<Icmp>,
    /// Whether it carries data that was sent before.
    pub retransmitted: bool,
    /// Bytes of payload.
    pub len: u32,
    /// The devices that it was on; the first is the one that it was sent through (or, if it came from outside, received
    /// on).
    pub devices: Devices,
    /// How it came to its route.
    pub routing: Routing,
    /// Where and why the kernel dropped it, if it did: then the path is whole, and ends there.
    pub dropped: Option<Dropped>,
    /// The process that sends on this flow, if it was seen to.
    pub sender: Option<Task>,
    /// The process that reads from this flow, if it was seen to.
    pub receiver: Option<Task>,
    /// The hops, never empty.
    pub hops: Hops,
    /// `None` if the path is whole.
    pub incomplete: Option<Incomplete>,
}

impl Path {
    /// Time of the first hop: `CLOCK_MONOTONIC`, ns.
    pub fn start_ns(&self) -> u64 {
        self.hops.first().map_or(0, |hop| hop.time_ns)
    }

    /// The device that it was sent through (or, if it came from outside, received on).
    pub fn device(&self) -> Option<&Device> {
        self.devices.first()
    }

    /// The device that it is on at a hop of it.
    pub fn device_at(&self, hop: &Hop) -> Option<&Device> {
        let ifindex = hop.ifindex()?;
        self.devices.iter().find(|device| (device.netns, device.ifindex) == (hop.netns, ifindex))
    }

    /// The answer of a routing table that a hop of it is.
    pub fn route_at(&self, hop: &Hop) -> Option<&Route> {
        match &self.routing {
            Routing::Asked(routes) if matches!(hop.point, Point::FibLookup | Point::Fib6Lookup) => {
                routes.iter().find(|route| route.time_ns == hop.time_ns)
            }
            _ => None,
        }
    }

    /// Where the time went, if it was followed to its reader.
    pub fn shares(&self) -> Option<Shares> {
        Shares::of(&self.hops)
    }

    /// From the first hop to the last, ns.
    pub fn total_ns(&self) -> u64 {
        self.hops.last().map_or(0, |hop| hop.time_ns.saturating_sub(self.start_ns()))
    }

    /// Each hop with the time since the one before it, ns (0 for the first).
    pub fn steps(&self) -> impl Iterator<Item = (&Hop, u64)> {
        let before = std::iter::once(self.start_ns()).chain(self.hops.iter().map(|hop| hop.time_ns));
        self.hops.iter().zip(before).map(|(hop, before)| (hop, hop.time_ns.saturating_sub(before)))
    }
}
