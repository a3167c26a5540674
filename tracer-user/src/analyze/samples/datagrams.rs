//! UDP and ICMP.

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use super::{dropped, flow, lo, local_route, path, task};
use crate::model::{Icmp, Path, Protocol, Routing};

/// A question to a resolver that sleeps.
pub(crate) fn udp() -> Path {
    Path {
        flow: Some(flow(Protocol::Udp, "127.0.0.1:40000", "127.0.0.53:53")),
        len: 44,
        devices: lo(),
        routing: Routing::Asked(vec![local_route(1_020, "127.0.0.1")]),
        sender: Some(task(640, b"dig")),
        receiver: Some(task(401, b"systemd-resolve")),
        ..path(
            5,
            &[
                (Point::UdpSendmsg, 0, 0, AUX_UNKNOWN),
                (Point::FibLookup, 0, 1_020, 255),
                (Point::DevQueueXmit, 0, 2_950, 1),
                (Point::LoopbackXmit, 0, 3_310, 1),
                (Point::EnqueueToBacklog, 0, 3_700, 0),
                (Point::ProcessBacklog, 0, 4_500, 0),
                (Point::NetifReceiveSkb, 0, 4_700, 1),
                (Point::UdpRcv, 0, 5_420, 1),
                (Point::SockDefReadable, 0, 6_280, AUX_UNKNOWN),
                (Point::SchedWaking, 0, 6_700, AUX_UNKNOWN),
                (Point::SchedSwitch, 2, 31_200, AUX_UNKNOWN),
                (Point::UdpRecvmsg, 2, 34_010, AUX_UNKNOWN),
            ],
        )
    }
}

/// A datagram to a port that nobody has bound.
pub(crate) fn udp_unbound() -> Path {
    Path {
        flow: Some(flow(Protocol::Udp, "127.0.0.1:40000", "127.0.0.1:9")),
        len: 6,
        devices: lo(),
        routing: Routing::Cached,
        dropped: Some(dropped(3, "NO_SOCKET", "__udp4_lib_rcv")),
        sender: Some(task(640, b"dig")),
        ..path(
            6,
            &[
                (Point::UdpSendmsg, 0, 0, AUX_UNKNOWN),
                (Point::DevQueueXmit, 0, 1_950, 1),
                (Point::LoopbackXmit, 0, 2_310, 1),
                (Point::EnqueueToBacklog, 0, 2_700, 0),
                (Point::NetifReceiveSkb, 0, 3_700, 1),
                (Point::UdpRcv, 0, 4_420, 1),
                (Point::KfreeSkb, 0, 19_280, 3),
            ],
        )
    }
}

/// The answer to it.
pub(crate) fn port_unreachable() -> Path {
    Path {
        flow: Some(flow(Protocol::Icmp, "127.0.0.1:9", "127.0.0.1:40000")),
        icmp: Some(Icmp { kind: 3, code: 3, answers: Some(Protocol::Udp) }),
        len: 34,
        devices: lo(),
        ..path(
            7,
            &[
                (Point::DevQueueXmit, 0, 0, 1),
                (Point::LoopbackXmit, 0, 280, 1),
                (Point::EnqueueToBacklog, 0, 590, 0),
                (Point::NetifReceiveSkb, 0, 4_700, 1),
            ],
        )
    }
}

/// A ping over IPv6.
pub(crate) fn echo_request() -> Path {
    Path {
        flow: Some(flow(Protocol::Icmpv6, "[::1]:0", "[::1]:0")),
        icmp: Some(Icmp { kind: 128, code: 0, answers: None }),
        len: 64,
        devices: lo(),
        ..path(8, &[(Point::DevQueueXmit, 0, 0, 1), (Point::NetifReceiveSkb, 0, 1_010, 1)])
    }
}
