//! What a hop says beside where and when it was.

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use crate::model::Hop;

/// The meaning of `Hop::aux`, which depends on the probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// The routing table that was asked.
    Table(u32),
    /// The CPU on whose backlog the packet was put.
    TargetCpu(u32),
    /// The index of the device that the packet is on.
    Interface(u32),
}

impl Extra {
    /// `RT_TABLE_LOCAL`: the addresses of this host.
    pub const TABLE_LOCAL: u32 = 255;
    /// `RT_TABLE_MAIN`.
    pub const TABLE_MAIN: u32 = 254;

    /// What a hop says, if it says anything.
    pub fn of(hop: &Hop) -> Option<Self> {
        match hop.point {
            _ if hop.aux == AUX_UNKNOWN => None,
            Point::FibLookup => Some(Self::Table(hop.aux)),
            Point::EnqueueToBacklog => Some(Self::TargetCpu(hop.aux)),
            Point::DevQueueXmit
            | Point::LoopbackXmit
            | Point::NetifReceiveSkb
            | Point::TcpV4Rcv
            | Point::TcpV6Rcv
                if hop.aux != 0 =>
            {
                Some(Self::Interface(hop.aux))
            }
            _ => None,
        }
    }

    /// The name that `/etc/iproute2/rt_tables` gives a routing table everywhere.
    pub fn table_name(table: u32) -> Option<&'static str> {
        match table {
            Self::TABLE_LOCAL => Some("local"),
            Self::TABLE_MAIN => Some("main"),
            253 => Some("default"),
            _ => None,
        }
    }
}
