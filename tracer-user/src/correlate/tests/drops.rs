//! Packets that the kernel drops.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord, NAMES_DROP_REASON, NAMES_FUNCTION, NO_FLOW},
    probes::Point,
};

use super::kernel::{
    ACK, CLIENT, FIN, Kernel, NETNS, SERVER, SYN, Skb, WAY, by_kprobes, by_tracepoints, control, data,
    datagram, hops, reasons, seen, way_and,
};
use crate::model::Incomplete;

const NOT_SPECIFIED: u32 = 2;
const NETFILTER_DROP: u32 = 8;
const QUEUE_PURGE: u32 = 70;

const LOCATION: u64 = 0xffff_ffff_8123_4567;

fn drop(kernel: &mut Kernel, skb: Skb, reason: u32) -> u64 {
    let record = seen(Point::KfreeSkb, 0, 0, skb);
    kernel.hop(HopRecord { sk: LOCATION, aux: reason, flow: NO_FLOW, ..record })
}

#[test]
fn a_drop_ends_a_path_and_says_why_and_where() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.name(NAMES_FUNCTION, LOCATION, "nf_hook_slow");
    kernel.name(NAMES_DROP_REASON, u64::from(NETFILTER_DROP), "NETFILTER_DROP");
    let skb = data(0xa0, 1000, 10);
    kernel.send(0, skb);
    let at = drop(&mut kernel, skb, NETFILTER_DROP);
    let path = kernel.path();
    assert_eq!((hops(&path).last(), path.hops.last().unwrap().time_ns), (Some(&"kfree_skb"), at));
    let dropped = path.dropped.unwrap();
    assert_eq!(
        (dropped.reason, dropped.reason_name.as_deref()),
        (Some(NETFILTER_DROP), Some("NETFILTER_DROP"))
    );
    assert_eq!((dropped.location, dropped.function.as_deref()), (LOCATION, Some("nf_hook_slow")));
    assert_eq!(path.incomplete, None, "it is whole, and ends there");
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_drop_may_have_no_reason_and_no_name() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 10);
    kernel.send(0, skb);
    drop(&mut kernel, skb, AUX_UNKNOWN);
    let dropped = kernel.path().dropped.unwrap();
    assert_eq!((dropped.reason, dropped.reason_name, dropped.function), (None, None, None));
}

#[test]
fn packets_are_dropped_everywhere() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 10);
    let way = [Point::IpQueueXmit, Point::DevQueueXmit, Point::LoopbackXmit, Point::EnqueueToBacklog];
    for last in 0..way.len() {
        for point in &way[..=last] {
            kernel.at(*point, 0, skb);
        }
        drop(&mut kernel, skb, NOT_SPECIFIED);
        let path = kernel.path();
        assert_eq!((path.hops.len(), path.dropped.is_some(), path.incomplete), (last + 2, true, None));
    }
    // By a socket filter, with the data; while it waits to be read.
    for wait in [0, 20_000_000] {
        kernel.transfer(skb);
        kernel.wait(wait);
        drop(&mut kernel, skb, NOT_SPECIFIED);
        let path = kernel.path();
        assert_eq!((hops(&path), path.dropped.is_some()), (way_and(&["kfree_skb"]), true));
    }
    kernel.read(1, 1010);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_datagram_is_dropped() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(7, 17, CLIENT, SERVER, NETNS);
    let skb = datagram(0xa0, 7, 10);
    for point in [
        Point::DevQueueXmit,
        Point::LoopbackXmit,
        Point::EnqueueToBacklog,
        Point::NetifReceiveSkb,
        Point::UdpRcv,
    ] {
        kernel.at(point, 0, skb);
    }
    drop(&mut kernel, skb, NOT_SPECIFIED);
    let path = kernel.path();
    assert_eq!((hops(&path).last(), path.dropped.is_some()), (Some(&"kfree_skb"), true));
}

#[test]
fn another_packet_in_the_same_memory_is_dropped() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 10);
    kernel.send(0, skb);
    for other in [
        data(0xa0, 2000, 10),
        data(0xa0, 1000, 11),
        skb.flags(ACK),
        Skb { ack: 9, ..skb },
        data(0xb0, 1000, 10),
    ] {
        drop(&mut kernel, other, NETFILTER_DROP);
    }
    assert_eq!(kernel.paths(), []);
    // One that was before it.
    let early = HopRecord { time_ns: 5, sk: LOCATION, aux: 8, ..seen(Point::KfreeSkb, 5, 0, skb) };
    kernel.correlator.record(&crate::decode::Record::Hop(early));
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::TraceEnded)]);
}

#[test]
fn tcp_frees_what_it_has_dealt_with() {
    for (reason, name) in
        [(AUX_UNKNOWN, ""), (0, ""), (1, ""), (NOT_SPECIFIED, ""), (QUEUE_PURGE, "QUEUE_PURGE")]
    {
        for flags in [ACK, FIN | ACK, SYN] {
            let mut kernel = Kernel::new(by_kprobes());
            kernel.name(NAMES_DROP_REASON, u64::from(reason), name);
            let skb = control(0xa0, flags);
            kernel.transfer(skb);
            drop(&mut kernel, skb, reason);
            let path = kernel.path();
            assert_eq!((hops(&path), path.dropped, path.incomplete), (WAY.to_vec(), None, None), "{reason}");
        }
    }
    // What says something, says it.
    let mut kernel = Kernel::new(by_kprobes());
    kernel.name(NAMES_DROP_REASON, 3, "NO_SOCKET");
    kernel.transfer(control(0xa0, SYN));
    drop(&mut kernel, control(0xa0, SYN), 3);
    assert_eq!(kernel.path().dropped.unwrap().reason_name.as_deref(), Some("NO_SOCKET"));
}

#[test]
fn what_has_not_come_to_tcp_was_not_dealt_with_by_it() {
    for reason in [NOT_SPECIFIED, AUX_UNKNOWN] {
        let mut kernel = Kernel::new(by_kprobes());
        let skb = control(0xa0, SYN);
        kernel.send(0, skb);
        kernel.at(Point::NetifReceiveSkb, 0, skb);
        drop(&mut kernel, skb, reason);
        assert!(kernel.path().dropped.is_some(), "a firewall");
        // By tracepoints nobody knows where it was.
        let mut kernel = Kernel::new(by_tracepoints());
        kernel.send(0, skb);
        kernel.at(Point::NetifReceiveSkb, 0, skb);
        drop(&mut kernel, skb, reason);
        assert!(kernel.path().dropped.is_none());
    }
}

#[test]
fn a_drop_after_the_packet_has_settled_is_another_ones() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = control(0xa0, SYN);
    kernel.transfer(skb);
    kernel.transfer(control(0xb0, ACK));
    let path = kernel.paths().remove(0);
    assert_eq!((path.tcp.unwrap().flags, path.dropped), (SYN, None), "the CPU has received the next one");
    drop(&mut kernel, skb, NETFILTER_DROP);
    assert_eq!(kernel.path().tcp.unwrap().flags, ACK);
}
