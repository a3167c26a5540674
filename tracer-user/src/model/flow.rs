//! Who talks to whom.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use tracer_common::event::COMM_LEN;

/// The transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// `ICMP`.
    Icmp,
    /// `ICMPv6`.
    Icmpv6,
    /// UNIX sockets.
    Unix,
    /// Any other, by its IP protocol number.
    Other(u8),
}

impl Protocol {
    /// From an IP protocol number.
    pub fn from_ip(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 => Self::Icmp,
            58 => Self::Icmpv6,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmpv6 => f.write_str("icmpv6"),
            Self::Unix => f.write_str("unix"),
            Self::Other(number) => write!(f, "ip-proto-{number}"),
        }
    }
}

/// Address and port.
pub type Endpoint = SocketAddr;

/// One direction of a conversation over IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Transport.
    pub protocol: Protocol,
    /// Sender.
    pub src: Endpoint,
    /// Receiver.
    pub dst: Endpoint,
    /// Inode number of the network namespace, 0 if unknown.
    pub netns: u32,
}

impl Flow {
    /// Whether `other`, a route question, may have been asked for a packet of this flow. A question may leave open the
    /// source address and the ports: `connect` asks before it has chosen them.
    pub fn may_be_routed_by(&self, other: &Self) -> bool {
        let address = |mine: IpAddr, asked: IpAddr| asked.is_unspecified() || mine == asked;
        let port = |mine: u16, asked: u16| asked == 0 || mine == asked;
        self.dst.ip() == other.dst.ip()
            && address(self.src.ip(), other.src.ip())
            && port(self.src.port(), other.src.port())
            && port(self.dst.port(), other.dst.port())
    }
}

/// The name of a process as the kernel keeps it: at most 15 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Comm(pub [u8; COMM_LEN]);

impl Comm {
    /// The name up to its NUL byte; bytes that are not UTF-8 or would steer a terminal are replaced.
    pub fn to_text(self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end])
            .chars()
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect()
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Process identifier.
    pub pid: u32,
    /// The thread of it that was seen to send or to read this; `None` if only the process is known.
    pub tid: Option<u32>,
    /// Its name, if it was announced.
    pub comm: Option<Comm>,
}
