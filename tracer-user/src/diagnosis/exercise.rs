//! Which traffic makes a probe point fire: the one place to extend when a point is added.

use tracer_common::probes::Point;

use crate::workload::{
    Exchange::{self, Tcp, Udp, UdpRefused, UnixDatagram, UnixPair, UnixStream},
    Family::{V4, V6},
};

/// What reaches a probe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exercise {
    /// Each of these exchanges does.
    By(&'static [Exchange]),
    /// No traffic over the loopback device and no UNIX socket does, and why.
    Unreachable(&'static str),
}

/// Everything that passes the loopback device.
const IP: Exercise = Exercise::By(&[Tcp(V4), Tcp(V6), Udp(V4), Udp(V6), UdpRefused(V4), UdpRefused(V6)]);

/// What makes a probe point fire.
pub fn exercise(point: Point) -> Exercise {
    match point {
        Point::UnixStreamConnect | Point::UnixAccept => Exercise::By(&[UnixStream]),
        Point::UnixStreamSendmsg | Point::UnixStreamRecvmsg => Exercise::By(&[UnixStream, UnixPair]),
        Point::UnixDgramSendmsg | Point::UnixDgramRecvmsg => Exercise::By(&[UnixDatagram]),
        // Its two ends are two threads, so one of them sleeps.
        Point::TcpSendmsg | Point::TcpRecvmsg | Point::SchedWaking | Point::SchedSwitch => {
            Exercise::By(&[Tcp(V4), Tcp(V6)])
        }
        Point::UdpSendmsg | Point::UdpRcv => Exercise::By(&[Udp(V4), UdpRefused(V4)]),
        Point::Udpv6Sendmsg | Point::Udpv6Rcv => Exercise::By(&[Udp(V6), UdpRefused(V6)]),
        Point::UdpRecvmsg => Exercise::By(&[Udp(V4), Udp(V6)]),
        Point::KfreeSkb => Exercise::By(&[UdpRefused(V4), UdpRefused(V6)]),
        Point::IpQueueXmit | Point::TcpV4Rcv => Exercise::By(&[Tcp(V4)]),
        Point::Ip6Xmit | Point::TcpV6Rcv => Exercise::By(&[Tcp(V6)]),
        Point::FibLookup => Exercise::By(&[Tcp(V4), Udp(V4), UdpRefused(V4)]),
        Point::Fib6Lookup => Exercise::By(&[Tcp(V6), Udp(V6), UdpRefused(V6)]),
        Point::QdiscEnqueue | Point::QdiscDequeue => Exercise::Unreachable("lo has no queue"),
        Point::DevHardStartXmit => Exercise::Unreachable("it is for devices other than lo"),
        Point::DevQueueXmit
        | Point::LoopbackXmit
        | Point::EnqueueToBacklog
        | Point::ProcessBacklog
        | Point::NetifReceiveSkb => IP,
        Point::SockDefReadable => {
            Exercise::By(&[Tcp(V4), Tcp(V6), Udp(V4), Udp(V6), UnixStream, UnixDatagram, UnixPair])
        }
    }
}

/// The point without which this one writes nothing: of all threads that are woken, those count that a socket woke.
pub fn follows(point: Point) -> Option<Point> {
    match point {
        Point::SchedWaking | Point::SchedSwitch => Some(Point::SockDefReadable),
        _ => None,
    }
}

/// Whether paths are of little use without the point: packets are sent, received, handed to TCP, read.
pub fn is_important(point: Point) -> bool {
    matches!(point, Point::DevQueueXmit | Point::NetifReceiveSkb | Point::TcpV4Rcv | Point::TcpRecvmsg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_point_waits_for_nothing() {
        for point in Point::ALL {
            match exercise(*point) {
                Exercise::By(exchanges) => assert!(!exchanges.is_empty(), "{}", point.row().hop),
                Exercise::Unreachable(why) => assert!(!why.is_empty(), "{}", point.row().hop),
            }
        }
    }
}
