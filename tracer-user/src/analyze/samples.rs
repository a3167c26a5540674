//! Hand-built paths for tests.

use std::{net::SocketAddr, sync::Arc};

use tracer_common::{
    event::AUX_UNKNOWN,
    probes::{Backend, Point},
};

use crate::model::{
    Attached, Comm, Coverage, Device, Flow, Hop, Incomplete, Losses, Path, Protocol, Refusal, State, Task,
    Tcp, Trust,
};

/// `CLOCK_MONOTONIC` of the first hop of every sample.
pub(crate) const START_NS: u64 = 5_000_000_000_000;
/// Makes that 2025-06-07 12:34:56.123456789 UTC.
pub(crate) const REALTIME_OFFSET_NS: i64 = 1_749_299_696_123_456_789 - 5_000_000_000_000;

const SYN: u8 = 0x02;
const RST_ACK: u8 = 0x14;
const PSH_ACK: u8 = 0x18;

/// A hop: point, CPU, ns since the start, aux.
type Step = (Point, u32, u64, u32);

pub(crate) fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    comm
}

fn task(pid: u32, name: &[u8]) -> Task {
    Task { pid, comm: Some(comm(name)) }
}

fn lo() -> Device {
    Device { ifindex: Device::LOOPBACK, name: Some(Arc::from("lo")) }
}

fn path(id: u64, steps: &[Step]) -> Path {
    let hops = steps
        .iter()
        .map(|(point, cpu, ns, aux)| Hop {
            point: *point,
            backend: backend(*point),
            cpu: *cpu,
            time_ns: START_NS.saturating_add(*ns),
            aux: *aux,
        })
        .collect();
    Path {
        id,
        flow: None,
        unix_name: None,
        tcp: None,
        len: 0,
        device: None,
        sender: None,
        receiver: None,
        hops,
        incomplete: None,
    }
}

fn flow(protocol: Protocol, src: &str, dst: &str) -> Flow {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    Flow { protocol, src: address(src), dst: address(dst), netns: 4_026_531_840 }
}

fn backend(point: Point) -> Backend {
    if point == Point::ProcessBacklog { Backend::Kprobe } else { Backend::Fentry }
}

/// 100 bytes from client to server, read by the server on another CPU.
pub(crate) fn tcp_data() -> Path {
    Path {
        flow: Some(flow(Protocol::Tcp, "127.0.0.1:51234", "127.0.0.1:8888")),
        tcp: Some(Tcp { flags: PSH_ACK, seq: 1_000_001, ack: 2_000_001 }),
        len: 100,
        device: Some(lo()),
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
        device: Some(lo()),
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
        device: Some(lo()),
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
        device: Some(Device { ifindex: 2, name: Some(Arc::from("eth0")) }),
        sender: Some(Task { pid: 900, comm: None }),
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
        device: Some(lo()),
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
        device: Some(lo()),
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

pub(crate) fn udp() -> Path {
    Path {
        flow: Some(flow(Protocol::Udp, "127.0.0.1:40000", "127.0.0.53:53")),
        len: 44,
        device: Some(lo()),
        ..path(5, &[(Point::DevQueueXmit, 0, 0, 1), (Point::NetifReceiveSkb, 0, 1_010, 1)])
    }
}

/// A message on a UNIX socket that is bound to a path.
pub(crate) fn unix() -> Path {
    Path {
        unix_name: Some(Arc::from(&b"/run/app.sock"[..])),
        len: 100,
        sender: Some(task(812, b"client")),
        ..path(
            40,
            &[(Point::UnixStreamSendmsg, 1, 0, AUX_UNKNOWN), (Point::SockDefReadable, 1, 934, AUX_UNKNOWN)],
        )
    }
}

/// A connection to an abstract name.
pub(crate) fn unix_abstract() -> Path {
    Path {
        unix_name: Some(Arc::from(&b"\0pathtrace-demo"[..])),
        sender: Some(task(812, b"client")),
        ..path(
            41,
            &[(Point::UnixStreamConnect, 1, 0, AUX_UNKNOWN), (Point::SockDefReadable, 1, 2_120, AUX_UNKNOWN)],
        )
    }
}

/// A message on a socket whose `connect` was not seen.
pub(crate) fn unix_unnamed() -> Path {
    Path { unix_name: Some(Arc::from(&b""[..])), ..unix() }
}

/// A packet whose flow record was lost.
pub(crate) fn unknown_flow() -> Path {
    Path {
        incomplete: Some(Incomplete::FlowUnknown),
        ..path(50, &[(Point::DevQueueXmit, 0, 0, 1), (Point::LoopbackXmit, 0, 200, 1)])
    }
}

/// A step of `ns` from `dev_queue_xmit` to `loopback_xmit`.
pub(crate) fn two_hops(ns: u64) -> Path {
    path(1, &[(Point::DevQueueXmit, 0, 0, 1), (Point::LoopbackXmit, 0, ns, 1)])
}

/// What no correlator makes.
pub(crate) fn no_hops() -> Path {
    path(99, &[])
}

/// Names that would steer a terminal.
pub(crate) fn hostile() -> Path {
    Path {
        unix_name: Some(Arc::from(&b"/tmp/\x1b[2J\r\n\xff\xc2\x9b\xe2\x80\xae\x7f"[..])),
        device: Some(Device { ifindex: 7, name: Some(Arc::from("e\u{1b}]0;x\u{7}\u{202e}")) }),
        sender: Some(task(1, b"\x1b[31m\n\xff\xc2\x9b")),
        receiver: Some(task(2, b"\r\x08\x7f\xe2\x80\xa8")),
        ..tcp_data()
    }
}

/// Every kind of path.
pub(crate) fn all() -> Vec<Path> {
    vec![
        syn(),
        start_not_seen(),
        reset(),
        udp(),
        tcp_data(),
        incomplete(),
        ipv6(),
        unix(),
        unix_abstract(),
        unix_unnamed(),
        unknown_flow(),
        no_hops(),
    ]
}

/// Functions are probed, one of them under another name, one not at all.
pub(crate) fn coverage() -> Coverage {
    let mut coverage = Coverage::default();
    for point in Point::ALL {
        let function = match point {
            Point::IpQueueXmit => "__ip_queue_xmit",
            other => other.row().functions[0],
        };
        let attached = Attached { backend: backend(*point), function: function.to_owned() };
        coverage.set(*point, State::Attached(attached));
    }
    coverage.set(Point::TcpV6Rcv, State::Refused(vec![refusal(Backend::Fentry, "no such function")]));
    coverage.set(Point::UnixStreamConnect, State::NotNeeded);
    coverage
}

/// Only tracepoints are to be had.
pub(crate) fn tracepoints_only() -> Coverage {
    let mut coverage = Coverage::default();
    for point in Point::ALL {
        let state = match point.row().tracepoint {
            Ok(tracepoint) => State::Attached(Attached {
                backend: Backend::Tracepoint,
                function: tracepoint.full_name.to_owned(),
            }),
            Err(why) => State::Refused(vec![
                refusal(Backend::Fentry, "Operation not permitted"),
                refusal(Backend::Kprobe, "this kernel is built without kprobes"),
                refusal(Backend::Tracepoint, why),
            ]),
        };
        coverage.set(*point, state);
    }
    coverage
}

pub(crate) fn refusal(backend: Backend, reason: &str) -> Refusal {
    Refusal { backend, reason: reason.to_owned() }
}

pub(crate) fn trust() -> Trust {
    let mut trust =
        Trust { events: 18_456, complete: 2_040, duration_ns: Some(10_004_000_000), ..Trust::default() };
    trust.losses = Some(Losses { missed: Some(0), ..Losses::default() });
    trust.incomplete.insert(Incomplete::TraceEnded, 1);
    trust.incomplete.insert(Incomplete::LeftByDevice, 2);
    trust
}
