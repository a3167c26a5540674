//! Kinds of traffic whose latencies are not to be mixed.

use tracer_common::probes::Traffic;

use crate::model::{Path, Protocol};

/// What a path carries. An acknowledgement ends where TCP receives it, data where a process reads it, so one median
/// over both would describe neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// TCP segments with payload.
    TcpData,
    /// TCP segments without: SYN, ACK, FIN, RST.
    TcpControl,
    /// UDP.
    Udp,
    /// `ICMP` and `ICMPv6`.
    Icmp,
    /// UNIX sockets.
    Unix,
    /// Other IP packets, and those of which the transport is not known.
    Other,
}

impl Class {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::TcpData, Self::TcpControl, Self::Udp, Self::Icmp, Self::Unix, Self::Other];

    /// The class of a path.
    pub fn of(path: &Path) -> Self {
        if is_unix(path) {
            return Self::Unix;
        }
        match (path.tcp, path.flow.map(|flow| flow.protocol)) {
            (Some(_), _) | (None, Some(Protocol::Tcp)) if path.len > 0 => Self::TcpData,
            (Some(_), _) | (None, Some(Protocol::Tcp)) => Self::TcpControl,
            (None, Some(Protocol::Udp)) => Self::Udp,
            (None, Some(Protocol::Icmp | Protocol::Icmpv6)) => Self::Icmp,
            (None, _) => Self::Other,
        }
    }

    /// The stable name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpData => "tcp_data",
            Self::TcpControl => "tcp_control",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Unix => "unix",
            Self::Other => "other",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::TcpData => "TCP with data",
            Self::TcpControl => "TCP without data",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Unix => "UNIX",
            Self::Other => "other IP",
        }
    }
}

fn is_unix(path: &Path) -> bool {
    path.unix.is_some()
        || path.flow.is_some_and(|flow| flow.protocol == Protocol::Unix)
        || path.hops.first().is_some_and(|hop| hop.point.row().traffic == Traffic::Unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::samples;

    #[test]
    fn paths_are_told_apart() {
        let classes = [
            (samples::tcp_data(), Class::TcpData),
            (samples::syn(), Class::TcpControl),
            (samples::reset(), Class::TcpControl),
            (samples::udp(), Class::Udp),
            (samples::unix(), Class::Unix),
            (samples::unix_unnamed(), Class::Unix),
            (samples::unknown_flow(), Class::Other),
        ];
        for (path, class) in classes {
            assert_eq!(Class::of(&path), class, "{path:?}");
        }
    }
}
