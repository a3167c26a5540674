//! Packets on other devices than `lo`.

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use super::{NETNS, START_NS, device, dropped, flow, local_route, path, task};
use crate::model::{Devices, Dropped, Path, Protocol, Route, Routing, Tcp};

/// The namespaces of two containers.
const CLIENT: u32 = 4_026_532_201;
const SERVER: u32 = 4_026_532_317;

/// From one container to another: a veth pair, a bridge, a veth pair.
pub(crate) fn bridged() -> Path {
    let mut path = Path {
        flow: Some(flow(Protocol::Tcp, "10.1.0.2:40001", "10.1.0.3:6379")),
        tcp: Some(Tcp { flags: 0x18, seq: 1, ack: 1 }),
        len: 31,
        devices: Devices::from_iter([
            device(CLIENT, 2, "eth0"),
            device(NETNS, 7, "veth-a"),
            device(NETNS, 9, "veth-b"),
            device(SERVER, 2, "eth0"),
        ]),
        routing: Routing::Cached,
        sender: Some(task(812, b"client")),
        receiver: Some(task(799, b"redis-server")),
        ..path(
            60,
            &[
                (Point::TcpSendmsg, 1, 0, AUX_UNKNOWN),
                (Point::IpQueueXmit, 1, 2_900, AUX_UNKNOWN),
                (Point::DevQueueXmit, 1, 3_600, 2),
                (Point::DevHardStartXmit, 1, 3_900, 2),
                (Point::EnqueueToBacklog, 1, 4_300, 1),
                (Point::ProcessBacklog, 1, 5_000, 1),
                (Point::NetifReceiveSkb, 1, 5_200, 7),
                (Point::DevQueueXmit, 1, 6_100, 9),
                (Point::QdiscEnqueue, 1, 6_300, 9),
                (Point::QdiscDequeue, 1, 16_900, 9),
                (Point::DevHardStartXmit, 1, 17_100, 9),
                (Point::EnqueueToBacklog, 1, 17_500, 1),
                (Point::NetifReceiveSkb, 1, 18_200, 2),
                (Point::TcpV4Rcv, 1, 19_000, 2),
                (Point::SockDefReadable, 1, 19_500, AUX_UNKNOWN),
                (Point::TcpRecvmsg, 0, 29_500, AUX_UNKNOWN),
            ],
        )
    };
    for (at, hop) in path.hops.iter_mut().enumerate() {
        hop.netns = match at {
            ..6 => CLIENT,
            6..12 => NETNS,
            _ => SERVER,
        };
    }
    path
}

/// No table knows the way, so the packet ends there.
pub(crate) fn no_route() -> Path {
    let no_route = |ns, table| Route {
        time_ns: START_NS + ns,
        table,
        route_type: 7,
        device: None,
        source: None,
        error: -101,
    };
    Path {
        flow: Some(flow(Protocol::Udp, "192.0.2.7:40000", "198.51.100.1:53")),
        len: 44,
        routing: Routing::Asked(vec![no_route(700, 254), Route { table: 1_000, ..no_route(1_100, 1_000) }]),
        dropped: Some(dropped(60, "IP_OUTNOROUTES", "ip_send_skb")),
        ..path(
            61,
            &[
                (Point::UdpSendmsg, 0, 0, AUX_UNKNOWN),
                (Point::FibLookup, 0, 700, 254),
                (Point::FibLookup, 0, 1_100, 1_000),
                (Point::KfreeSkb, 0, 1_900, 60),
            ],
        )
    }
}

/// On a kernel before 5.17, which gives no reasons, with hidden symbols.
pub(crate) fn dropped_without_reason() -> Path {
    Path {
        flow: Some(flow(Protocol::Udp, "192.0.2.7:40000", "198.51.100.1:53")),
        len: 44,
        devices: Devices::from_iter([device(NETNS, 2, "eth0")]),
        routing: Routing::Asked(vec![Route {
            table: 254,
            route_type: 1,
            device: Some(device(NETNS, 2, "eth0")),
            ..local_route(0, "192.0.2.7")
        }]),
        dropped: Some(Dropped { reason: None, reason_name: None, function: None, ..dropped(0, "", "") }),
        ..path(
            62,
            &[
                (Point::FibLookup, 0, 0, 254),
                (Point::DevQueueXmit, 0, 900, 2),
                (Point::QdiscEnqueue, 0, 1_100, 2),
                (Point::KfreeSkb, 0, 1_500, AUX_UNKNOWN),
            ],
        )
    }
}
