//! The stages of a message's way, so that ways of different kinds can be laid side by side.

use tracer_common::probes::Point;

use crate::model::{is_read, is_send};

/// A part of the way of a message from one program to the other, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Before the first hop: the program enters the kernel.
    Entry,
    /// The send call, up to IP, or to the wake-up of the reader where there is no IP. It copies the data in.
    Send,
    /// Routing tables, and IP.
    Route,
    /// The device layer, queueing disciplines and the driver.
    Device,
    /// In a CPU's input queue.
    Backlog,
    /// IP and the transport on the receiving side.
    Receive,
    /// From the wake-up of the reader until it has a CPU.
    Wake,
    /// From there until the program has all of it: copying out, the way back from the kernel, and what of a message is
    /// still on its way. Over UNIX sockets the hop is where copying begins, over TCP where it ends: so no hop divides this.
    Read,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Entry,
        Self::Send,
        Self::Route,
        Self::Device,
        Self::Backlog,
        Self::Receive,
        Self::Wake,
        Self::Read,
    ];

    /// The stable name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Send => "send",
            Self::Route => "route",
            Self::Device => "device",
            Self::Backlog => "backlog",
            Self::Receive => "receive",
            Self::Wake => "wake",
            Self::Read => "read",
        }
    }

    /// The stage of the step from one hop to the next one.
    pub fn of_step(from: Point, to: Point) -> Self {
        // A reader that is not asleep is not woken: it comes by itself, and copies.
        if is_read(from) || is_read(to) {
            return Self::Read;
        }
        if is_send(from) {
            return Self::Send;
        }
        match from {
            Point::IpQueueXmit | Point::Ip6Xmit | Point::FibLookup | Point::Fib6Lookup => Self::Route,
            Point::DevQueueXmit
            | Point::QdiscEnqueue
            | Point::QdiscDequeue
            | Point::DevHardStartXmit
            | Point::LoopbackXmit => Self::Device,
            Point::EnqueueToBacklog | Point::ProcessBacklog => Self::Backlog,
            Point::SockDefReadable | Point::SchedWaking | Point::SchedSwitch => Self::Wake,
            _ => Self::Receive,
        }
    }
}
