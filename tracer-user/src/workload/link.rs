//! The ways in which two programs of one host can talk.

use std::fmt;

/// A connection between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Link {
    /// TCP over 127.0.0.1
    #[value(skip)]
    Tcp,
    /// A UNIX stream socket with a name
    #[value(skip)]
    Unix,
    /// Connected UDP sockets on 127.0.0.1
    Udp,
    /// A pair of UNIX stream sockets, as `socketpair` makes it
    #[value(name = "socketpair")]
    SocketPair,
    /// Two pipes, one in each direction
    Pipe,
    /// TCP over 127.0.0.1, whose messages a BPF sockmap hands from socket to socket
    Sockmap,
}

impl Link {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Tcp, Self::Unix, Self::Udp, Self::SocketPair, Self::Pipe, Self::Sockmap];

    /// The stable name: on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Udp => "udp",
            Self::SocketPair => "socketpair",
            Self::Pipe => "pipe",
            Self::Sockmap => "sockmap",
        }
    }

    /// The largest message that it can carry, bytes, if there is one: a datagram of IPv4 has 65 535 bytes with its
    /// headers.
    pub const fn largest(self) -> Option<u32> {
        match self {
            Self::Udp => Some(65_535 - 20 - 8),
            _ => None,
        }
    }

    /// Whether a sender waits for a reader that is too slow. Where none waits, messages are lost.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// Whether its messages pass probe points. There is none in pipes.
    pub const fn is_traced(self) -> bool {
        !matches!(self, Self::Pipe)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "UNIX",
            Self::Udp => "UDP",
            Self::SocketPair => "socketpair",
            Self::Pipe => "pipe",
            Self::Sockmap => "sockmap",
        })
    }
}
