//! What a hop says beside where and when it was.

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use crate::model::{Device, Dropped, Hop, Path, Route};

/// What is said depends on the probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra<'a> {
    /// What the routing table answered.
    Route(&'a Route),
    /// The CPU on whose backlog the packet was put.
    TargetCpu(u32),
    /// The device that the packet is on.
    Device(&'a Device),
    /// Where and why the packet was dropped.
    Dropped(&'a Dropped),
}

impl<'a> Extra<'a> {
    /// What a hop of a path says, if it says anything.
    pub fn of(path: &'a Path, hop: &Hop) -> Option<Self> {
        match hop.point {
            Point::FibLookup | Point::Fib6Lookup => path.route_at(hop).map(Self::Route),
            Point::EnqueueToBacklog if hop.aux != AUX_UNKNOWN => Some(Self::TargetCpu(hop.aux)),
            Point::KfreeSkb => path.dropped.as_ref().map(Self::Dropped),
            _ => path.device_at(hop).map(Self::Device),
        }
    }
}

/// The name that `/etc/iproute2/rt_tables` gives a routing table everywhere.
pub fn table_name(table: u32) -> Option<&'static str> {
    match table {
        255 => Some("local"),
        254 => Some("main"),
        253 => Some("default"),
        _ => None,
    }
}

/// What `ip route` calls a type of routes (`RTN_*`, `include/uapi/linux/rtnetlink.h`).
pub fn route_type_name(route_type: u8) -> Option<&'static str> {
    const NAMES: [&str; 11] = [
        "unicast",
        "local",
        "broadcast",
        "anycast",
        "multicast",
        "blackhole",
        "unreachable",
        "prohibit",
        "throw",
        "nat",
        "xresolve",
    ];
    NAMES.get(usize::from(route_type).checked_sub(1)?).copied()
}
