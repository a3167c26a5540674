//! TCP segments.

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use super::{NETNS, device, dropped, flow, lo, local_route, path, task};
use crate::model::{Devices, Incomplete, Path, Protocol, Route, Routing, Task, Tcp};

const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;
const PSH_ACK: u8 = 0x18;

/// 100 bytes from client to server, read by the server on another CPU.
pub(crate) fn tcp_data() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "127.0.0.1:51234", "127.0.0.1:8888")),
        tcp: Some(Tcp { flags: PSH_ACK, seq: 1_000_001, ack: 2_000_001 }),
        len: 100,
        devices: lo(),
        routing: Routing::Cached,
        sender: Some(task(812, b"client")),
        receiver: Some(task(799, b"server")),
        ..path(
            17,
            &[
                (Point::IpQueueXmit, 1, 0, AUX_UNKNOWN),
                (Point::DevQueueXmit, 1, 612, 1),
                (Point::LoopbackXmit, 1, 850, 1),
                (Point::EnqueueToBacklog, 1, 1_190, 1),
                (Point::ProcessBacklog, 1, 2_310, 1),
                (Point::NetifReceiveSkb, 1, 2_520, 1),
                (Point::TcpV4Rcv, 1, 3_400, 1),
                (Point::SockDefReadable, 1, 3_977, AUX_UNKNOWN),
                (Point::TcpRecvmsg, 3, 8_300, AUX_UNKNOWN),
            ],
        )
    }
}

/// The first packet of a connection, which asks for its route.
pub(crate) fn syn() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "192.0.2.7:51234", "192.0.2.7:8888")),
        tcp: Some(Tcp { flags: SYN, seq: 1_000_000, ack: 0 }),
        devices: lo(),
        routing: Routing::Asked(vec![local_route(0, "192.0.2.7")]),
        sender: Some(task(812, b"client")),
        ..path(
            1,
            &[
                (Point::FibLookup, 0, 0, 255),
                (Point::IpQueueXmit, 0, 14_000, AUX_UNKNOWN),
                (Point::DevQueueXmit, 0, 15_204, 1),
                (Point::LoopbackXmit, 0, 15_600, 1),
                (Point::EnqueueToBacklog, 0, 16_000, 2),
                (Point::ProcessBacklog, 2, 28_400, 2),
                (Point::NetifReceiveSkb, 2, 28_900, 1),
                (Point::TcpV4Rcv, 2, 29_701, 1),
            ],
        )
    }
}

/// The answer to a refused connection: sent from a control socket, so it begins at the device layer.
pub(crate) fn reset() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "127.0.0.1:9", "127.0.0.1:51236")),
        tcp: Some(Tcp { flags: RST_ACK, seq: 0, ack: 1_000_001 }),
        devices: lo(),
        ..path(
            4,
            &[
                (Point::DevQueueXmit, 1, 0, 1),
                (Point::LoopbackXmit, 1, 310, 1),
                (Point::EnqueueToBacklog, 1, 700, 1),
                (Point::NetifReceiveSkb, 1, 1_900, 1),
                (Point::TcpV4Rcv, 1, 2_450, 1),
            ],
        )
    }
}

/// Data that left by another device.
pub(crate) fn incomplete() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "192.0.2.7:51234", "198.51.100.1:443")),
        tcp: Some(Tcp { flags: PSH_ACK, seq: 1, ack: 1 }),
        len: 1448,
        devices: Devices::from_iter([device(NETNS, 2, "eth0")]),
        routing: Routing::Asked(vec![
            Route { device: None, source: None, route_type: 0, error: -11, ..local_route(0, "192.0.2.7") },
            Route {
                table: 254,
                route_type: 1,
                device: Some(device(NETNS, 2, "eth0")),
                ..local_route(480, "192.0.2.7")
            },
        ]),
        sender: Some(Task { pid: 900, tid: None, comm: None }),
        incomplete: Some(Incomplete::LeftByDevice),
        ..path(
            23,
            &[
                (Point::FibLookup, 0, 0, 255),
                (Point::FibLookup, 0, 480, 254),
                (Point::IpQueueXmit, 0, 1_104, AUX_UNKNOWN),
                (Point::DevQueueXmit, 0, 1_716, 2),
            ],
        )
    }
}

/// The receiving half of a packet that was on its way when the trace began.
pub(crate) fn start_not_seen() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "127.0.0.1:51234", "127.0.0.1:8888")),
        tcp: Some(Tcp { flags: 0x10, seq: 5, ack: 9 }),
        devices: lo(),
        incomplete: Some(Incomplete::StartNotSeen),
        ..path(2, &[(Point::NetifReceiveSkb, 1, 0, 1), (Point::TcpV4Rcv, 1, 640, 1)])
    }
}

/// Data over IPv6 whose reader was busy.
pub(crate) fn ipv6() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "[::1]:51234", "[::1]:8888")),
        tcp: Some(Tcp { flags: PSH_ACK, seq: 1, ack: 1 }),
        len: 65_483,
        devices: lo(),
        sender: Some(task(812, b"client")),
        receiver: Some(task(799, b"server")),
        ..path(
            31,
            &[
                (Point::Ip6Xmit, 2, 0, AUX_UNKNOWN),
                (Point::DevQueueXmit, 2, 498, 1),
                (Point::LoopbackXmit, 2, 702, 1),
                (Point::EnqueueToBacklog, 2, 1_040, 2),
                (Point::NetifReceiveSkb, 2, 2_410, 1),
                (Point::TcpV6Rcv, 2, 3_150, 1),
                (Point::SockDefReadable, 2, 3_804, AUX_UNKNOWN),
                (Point::TcpRecvmsg, 2, 1_523_804, AUX_UNKNOWN),
            ],
        )
    }
}

/// Data from the send call to a reader that slept and was woken on another CPU.
pub(crate) fn tcp_woken() -> Path {
    let way = path(
        18,
        &[
            (Point::TcpSendmsg, 1, 0, AUX_UNKNOWN),
            (Point::IpQueueXmit, 1, 3_120, AUX_UNKNOWN),
            (Point::DevQueueXmit, 1, 3_640, 1),
            (Point::LoopbackXmit, 1, 3_870, 1),
            (Point::EnqueueToBacklog, 1, 4_180, 1),
            (Point::ProcessBacklog, 1, 4_900, 1),
            (Point::NetifReceiveSkb, 1, 5_060, 1),
            (Point::TcpV4Rcv, 1, 5_810, 1),
            (Point::SockDefReadable, 1, 6_300, AUX_UNKNOWN),
            (Point::SchedWaking, 1, 6_720, AUX_UNKNOWN),
            (Point::SchedSwitch, 3, 24_900, AUX_UNKNOWN),
            (Point::TcpRecvmsg, 3, 28_300, AUX_UNKNOWN),
        ],
    );
    Path { id: way.id, hops: way.hops, ..tcp_data() }
}

/// Data that is sent again, out of a timer: no process sends it.
pub(crate) fn retransmission() -> Path {
    Path { id: 19, retransmitted: true, sender: None, receiver: None, ..tcp_data() }
}

/// A connection to a port on which nobody listens.
pub(crate) fn refused_syn() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "127.0.0.1:51236", "127.0.0.1:9")),
        tcp: Some(Tcp { flags: SYN, seq: 1_000_000, ack: 0 }),
        devices: lo(),
        dropped: Some(dropped(3, "NO_SOCKET", "tcp_v4_rcv")),
        ..path(
            3,
            &[
                (Point::DevQueueXmit, 1, 0, 1),
                (Point::LoopbackXmit, 1, 310, 1),
                (Point::EnqueueToBacklog, 1, 700, 1),
                (Point::NetifReceiveSkb, 1, 1_900, 1),
                (Point::TcpV4Rcv, 1, 2_450, 1),
                (Point::KfreeSkb, 1, 12_700, 3),
            ],
        )
    }
}
