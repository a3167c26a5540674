//! Any path at all, for property tests.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use proptest::{collection::vec, option, prelude::*};
use tracer_common::probes::{Backend, Point};

use crate::model::{
    Comm, Device, Dropped, Flow, Hop, Icmp, Incomplete, MAX_HOPS, Path, Protocol, Route, Routing, Task, Tcp,
    Unix,
};

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Icmp),
        Just(Protocol::Icmpv6),
        Just(Protocol::Unix),
        any::<u8>().prop_map(Protocol::Other),
    ]
}

fn flow() -> impl Strategy<Value = Flow> {
    let ends = (any::<SocketAddr>(), any::<SocketAddr>());
    (protocol(), ends, any::<u32>()).prop_map(|(protocol, (src, dst), netns)| Flow {
        protocol,
        src,
        dst,
        netns,
    })
}

fn task() -> impl Strategy<Value = Task> {
    (any::<u32>(), any::<Option<u32>>(), option::of(any::<[u8; 16]>())).prop_map(|(pid, tid, comm)| Task {
        pid,
        tid,
        comm: comm.map(Comm),
    })
}

/// Few numbers, so that devices and hops meet.
fn small() -> impl Strategy<Value = u32> {
    prop_oneof![0..4_u32, any::<u32>()]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<Vec<char>>().prop_map(|text| Arc::from(String::from_iter(text)))
}

fn device() -> impl Strategy<Value = Device> {
    (small(), small(), option::of(text())).prop_map(|(netns, ifindex, name)| Device { netns, ifindex, name })
}

fn unix() -> impl Strategy<Value = Unix> {
    let name = vec(any::<u8>(), 0..108).prop_map(Arc::from);
    (option::of(name), any::<(u8, u32, u32, u32)>()).prop_map(
        |(name, (socket_type, inode, descriptors, reads))| Unix {
            name,
            socket_type,
            inode,
            descriptors,
            reads,
        },
    )
}

fn icmp() -> impl Strategy<Value = Icmp> {
    (any::<(u8, u8)>(), option::of(protocol())).prop_map(|((kind, code), answers)| Icmp {
        kind,
        code,
        answers,
    })
}

fn routing() -> impl Strategy<Value = Routing> {
    let route = (any::<(u64, u32, u8, i32)>(), option::of(device()), any::<Option<IpAddr>>()).prop_map(
        |((time_ns, table, route_type, error), device, source)| Route {
            time_ns: time_ns % 4,
            table,
            route_type,
            device,
            source,
            error,
        },
    );
    prop_oneof![Just(Routing::Unknown), Just(Routing::Cached), vec(route, 0..4).prop_map(Routing::Asked),]
}

fn dropped() -> impl Strategy<Value = Dropped> {
    (any::<(Option<u32>, u64)>(), option::of(text()), option::of(text())).prop_map(
        |((reason, location), reason_name, function)| Dropped { reason, reason_name, location, function },
    )
}

fn hop() -> impl Strategy<Value = Hop> {
    let point = prop::sample::select(Point::ALL);
    let backend = prop::sample::select(&Backend::ALL[..]);
    let time_ns = prop_oneof![0..4_u64, any::<u64>()];
    (point, backend, any::<u32>(), time_ns, small(), small()).prop_map(
        |(point, backend, cpu, time_ns, aux, netns)| Hop { point, backend, cpu, time_ns, aux, netns },
    )
}

fn incomplete() -> impl Strategy<Value = Incomplete> {
    use Incomplete as I;
    let reasons = [
        I::StartNotSeen,
        I::TraceEnded,
        I::NotRead,
        I::NeverRead,
        I::LeftByDevice,
        I::LostTrack,
        I::Superseded,
        I::Changed,
        I::TooMany,
        I::CallNotKept,
        I::CutByReceiver,
        I::FlowUnknown,
        I::HopNotSeen,
        I::ReadNotSeen,
        I::Entangled,
        I::CallFailed,
    ];
    prop::sample::select(reasons.to_vec())
}

/// Whatever the types allow, also what no correlator makes: no hops, times that go back, any bytes in names.
pub(crate) fn path() -> impl Strategy<Value = Path> {
    let tcp = any::<(u8, u32, u32)>().prop_map(|(flags, seq, ack)| Tcp { flags, seq, ack });
    let says = (option::of(tcp), option::of(icmp()), option::of(unix()), any::<bool>());
    let subject = (any::<u64>(), option::of(flow()), any::<u32>(), option::of(task()), option::of(task()));
    let way = (vec(device(), 0..=6), routing(), option::of(dropped()), vec(hop(), 0..=MAX_HOPS));
    (subject, says, way, option::of(incomplete())).prop_map(
        |(
            (id, flow, len, sender, receiver),
            (tcp, icmp, unix, retransmitted),
            (devices, routing, dropped, hops),
            incomplete,
        )| Path {
            id,
            flow,
            unix,
            tcp,
            icmp,
            retransmitted,
            len,
            devices: devices.into_iter().collect(),
            routing,
            dropped,
            sender,
            receiver,
            hops: hops.into_iter().collect(),
            incomplete,
        },
    )
}
