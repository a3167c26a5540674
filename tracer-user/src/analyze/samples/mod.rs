//! Hand-built paths for tests.

mod datagrams;
mod devices;
mod tcp;
mod unix;

use std::{net::SocketAddr, sync::Arc};

use tracer_common::probes::{Backend, Point, Traffic};

pub(crate) use self::{datagrams::*, devices::*, tcp::*, unix::*};
use crate::model::{
    Attached, Comm, Cost, Coverage, Device, Devices, Dropped, Flow, Hop, Incomplete, Losses, Path, Protocol,
    Refusal, Route, Routing, Sample, State, Task, Trust,
};

/// `CLOCK_MONOTONIC` of the first hop of every sample.
pub(crate) const START_NS: u64 = 5_000_000_000_000;
/// Makes that 2025-06-07 12:34:56.123456789 UTC.
pub(crate) const REALTIME_OFFSET_NS: i64 = 1_749_299_696_123_456_789 - 5_000_000_000_000;

/// A hop: point, CPU, ns since the start, aux.
type Step = (Point, u32, u64, u32);

pub(crate) fn comm(name: &[u8]) -> Comm {
    let mut comm = Comm::default();
    comm.0[..name.len()].copy_from_slice(name);
    comm
}

fn task(pid: u32, name: &[u8]) -> Task {
    Task { pid, tid: Some(pid + 1), comm: Some(comm(name)) }
}

/// The network namespace of every sample but those that cross two.
const NETNS: u32 = 4_026_531_840;

fn device(netns: u32, ifindex: u32, name: &str) -> Device {
    Device { netns, ifindex, name: Some(Arc::from(name)) }
}

fn lo() -> Devices {
    Devices::from_iter([device(NETNS, Device::LOOPBACK, "lo")])
}

/// What the table `local` answers for an address of this host, at a hop.
fn local_route(ns: u64, source: &str) -> Route {
    Route {
        time_ns: START_NS + ns,
        table: 255,
        route_type: 2,
        device: lo().pop(),
        source: Some(source.parse().unwrap()),
        error: 0,
    }
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
            netns: if point.row().traffic == Traffic::Unix { 0 } else { NETNS },
        })
        .collect();
    Path {
        id,
        flow: None,
        unix: None,
        tcp: None,
        icmp: None,
        retransmitted: false,
        len: 0,
        devices: Devices::new(),
        routing: Routing::Unknown,
        dropped: None,
        sender: None,
        receiver: None,
        hops,
        incomplete: None,
    }
}

fn flow(protocol: Protocol, src: &str, dst: &str) -> Flow {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    Flow { protocol, src: address(src), dst: address(dst), netns: NETNS }
}

/// Functions are probed, where there are any.
fn backend(point: Point) -> Backend {
    match point {
        Point::ProcessBacklog => Backend::Kprobe,
        point if point.row().functions().is_err() => Backend::Tracepoint,
        _ => Backend::Fentry,
    }
}

/// What the table names first for a point.
fn place(point: Point) -> &'static str {
    let row = point.row();
    row.functions().map_or_else(|_| row.tracepoint().unwrap().full_name, |functions| functions.names[0])
}

fn dropped(reason: u32, name: &str, function: &str) -> Dropped {
    Dropped {
        reason: Some(reason),
        reason_name: Some(Arc::from(name)),
        location: 0xffff_ffff_81a0_1234,
        function: Some(Arc::from(function)),
    }
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
        unix: Some(socket(b"/tmp/\x1b[2J\r\n\xff\xc2\x9b\xe2\x80\xae\x7f")),
        devices: Devices::from_iter([device(NETNS, Device::LOOPBACK, "e\u{1b}]0;x\u{7}\u{202e}")]),
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
        tcp_data(),
        tcp_woken(),
        retransmission(),
        refused_syn(),
        incomplete(),
        ipv6(),
        udp(),
        udp_unbound(),
        port_unreachable(),
        echo_request(),
        bridged(),
        no_route(),
        dropped_without_reason(),
        unix(),
        unix_abstract(),
        unix_unnamed(),
        unix_in_parts(),
        unix_dgram(),
        unix_seqpacket(),
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
            other => place(*other),
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
        let state = match point.row().tracepoint() {
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
    let mut trust = Trust {
        events: 18_456,
        complete: 2_040,
        dropped: 2,
        retransmitted: 1,
        duration_ns: Some(10_004_000_000),
        cost: Cost::Sampled(Sample {
            run_ns: 3_400_000,
            runs: Some(31_000),
            events: 24_000,
            observed_ns: 110_000_000,
        }),
        ..Trust::default()
    };
    trust.losses = Some(Losses { missed: Some(0), ..Losses::default() });
    trust.incomplete.insert(Incomplete::TraceEnded, 1);
    trust.incomplete.insert(Incomplete::LeftByDevice, 2);
    trust
}
