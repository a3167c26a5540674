//! The way of one packet.

use std::{fmt, sync::Arc};

use arrayvec::ArrayVec;
use tracer_common::probes::{Backend, Point};

use super::{Flow, Task};

/// The most hops a path holds. The table has fewer points that one packet passes.
pub const MAX_HOPS: usize = 16;

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
    /// What the point says beside (`HopRecord::aux`): routing table, target CPU, interface index.
    pub aux: u32,
}

/// The hops of a path, in the order of their times.
pub type Hops = ArrayVec<Hop, MAX_HOPS>;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
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
    /// Which flow it belongs to was lost, so its delivery cannot be told.
    FlowUnknown,
    /// A hop that every packet passes between two of its hops was not seen.
    HopNotSeen,
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
            Self::FlowUnknown => "the record of its flow was lost",
            Self::HopNotSeen => "a hop between was not seen",
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
    /// For UNIX sockets, the name that was connected to.
    pub unix_name: Option<Arc<[u8]>>,
    /// For TCP, what its header says.
    pub tcp: Option<Tcp>,
    /// Bytes of payload.
    pub len: u32,
    /// The device that it was sent through (or, if it came from outside, received on).
    pub device: Option<Device>,
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
