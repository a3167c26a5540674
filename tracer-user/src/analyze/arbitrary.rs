//! Any path at all, for property tests.

use std::{net::SocketAddr, sync::Arc};

use proptest::{collection::vec, option, prelude::*};
use tracer_common::probes::{Backend, Point};

use crate::model::{Comm, Device, Flow, Hop, Incomplete, MAX_HOPS, Path, Protocol, Task, Tcp};

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
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
    (any::<u32>(), option::of(any::<[u8; 16]>())).prop_map(|(pid, comm)| Task { pid, comm: comm.map(Comm) })
}

fn device() -> impl Strategy<Value = Device> {
    let name = any::<Vec<char>>().prop_map(|name| Arc::from(String::from_iter(name)));
    (any::<u32>(), option::of(name)).prop_map(|(ifindex, name)| Device { ifindex, name })
}

fn hop() -> impl Strategy<Value = Hop> {
    let point = prop::sample::select(Point::ALL);
    let backend = prop::sample::select(&Backend::ALL[..]);
    (point, backend, any::<u32>(), any::<u64>(), any::<u32>())
        .prop_map(|(point, backend, cpu, time_ns, aux)| Hop { point, backend, cpu, time_ns, aux })
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
        I::FlowUnknown,
        I::HopNotSeen,
    ];
    prop::sample::select(reasons.to_vec())
}

/// Whatever the types allow, also what no correlator makes: no hops, times that go back, any bytes in names.
pub(crate) fn path() -> impl Strategy<Value = Path> {
    let tcp = any::<(u8, u32, u32)>().prop_map(|(flags, seq, ack)| Tcp { flags, seq, ack });
    let subject = (any::<u64>(), option::of(flow()), option::of(vec(any::<u8>(), 0..108)), option::of(tcp));
    let rest = (any::<u32>(), option::of(device()), option::of(task()), option::of(task()));
    (subject, rest, vec(hop(), 0..=MAX_HOPS), option::of(incomplete())).prop_map(
        |((id, flow, unix_name, tcp), (len, device, sender, receiver), hops, incomplete)| Path {
            id,
            flow,
            unix_name: unix_name.map(Arc::from),
            tcp,
            len,
            device,
            sender,
            receiver,
            hops: hops.into_iter().collect(),
            incomplete,
        },
    )
}
