//! What ends because time passes or the trace ends.

use tracer_common::probes::Point;

use super::kernel::{ACK, ETH0, Kernel, by_kprobes, control, data, hops, reasons};
use crate::model::Incomplete;

const PATIENCE: u64 = 2_000_000_000;

#[test]
fn a_packet_that_is_not_seen_again_is_given_up() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.send(0, data(0xa0, 1000, 10));
    kernel.wait(PATIENCE);
    assert_eq!(kernel.paths(), []);
    kernel.wait(1);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::LostTrack)]);
    assert_eq!(kernel.correlator.unfinished(), 0);
}

#[test]
fn each_packet_has_its_own_patience() {
    let mut kernel = Kernel::new(by_kprobes());
    for at in 0..5u32 {
        kernel.send(0, data(u64::from(0xa0 + at), 1000 + at, 1));
        kernel.wait(500_000_000);
    }
    let mut ended = vec![kernel.paths().len()];
    for _ in 0..5 {
        kernel.wait(500_000_000);
        ended.push(kernel.paths().len());
    }
    // The last one was seen exactly as long ago as patience lasts.
    assert_eq!(ended, [2, 1, 1, 0, 1, 0]);
}

#[test]
fn records_are_a_clock() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.send(0, data(0xa0, 1000, 10));
    kernel.now_ns += PATIENCE;
    kernel.transfer(control(0xb0, ACK));
    assert_eq!(reasons(&kernel.all_settled()), [Some(Incomplete::LostTrack), None]);
}

#[test]
fn a_time_that_makes_no_sense_does_not_stop_the_clock() {
    let mut kernel = Kernel::new(by_kprobes());
    let now = std::mem::replace(&mut kernel.now_ns, u64::MAX - 1_000_000);
    kernel.poll(0);
    kernel.now_ns = now;
    kernel.send(0, data(0xa0, 1000, 10));
    kernel.wait(PATIENCE + 1);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::LostTrack)]);
}

#[test]
fn a_packet_for_another_machine_leaves() {
    let leave = |kernel: &mut Kernel| {
        let skb = data(0xa0, 1000, 10).over(ETH0);
        kernel.at(Point::IpQueueXmit, 0, skb);
        kernel.at(Point::DevQueueXmit, 0, skb);
    };
    let mut kernel = Kernel::new(by_kprobes());
    leave(&mut kernel);
    kernel.wait(PATIENCE + 1);
    let path = kernel.path();
    assert_eq!(path.incomplete, Some(Incomplete::LeftByDevice));
    assert_eq!(path.device().unwrap().ifindex, ETH0);
    // It has left, however long the trace goes on.
    leave(&mut kernel);
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::LeftByDevice)]);
}

#[test]
fn a_packet_from_another_machine_does_not_leave() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.at(Point::NetifReceiveSkb, 0, data(0xa0, 1000, 10).over(ETH0));
    kernel.wait(PATIENCE + 1);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::LostTrack)]);
}

#[test]
fn the_end_of_the_trace_ends_what_is_on_its_way() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.send(0, data(0xa0, 1000, 10));
    kernel.send(0, data(0xb0, 1010, 10));
    kernel.now_ns += PATIENCE / 2;
    let paths = kernel.finish();
    assert_eq!(reasons(&paths), [Some(Incomplete::TraceEnded); 2]);
    assert!(paths.iter().map(|path| path.id).eq(1..=2), "in the order in which they began");
    assert_eq!(kernel.finish(), []);
}

#[test]
fn after_the_close_paths_end_and_none_begins() {
    let mut kernel = Kernel::new(by_kprobes());
    let (one, two) = (data(0xa0, 1000, 10), data(0xb0, 1010, 10));
    kernel.send(0, one);
    kernel.correlator.close(kernel.now_ns);
    kernel.send(0, two);
    kernel.poll(0);
    kernel.receive(0, one);
    kernel.receive(0, two);
    kernel.read(1, 1020);
    let path = kernel.path();
    assert_eq!((hops(&path).len(), path.tcp.unwrap().seq, path.incomplete), (8, 1000, None));
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_packet_that_was_not_seen_for_long_is_not_under_way() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.send(0, data(0xa0, 1000, 10));
    let seen_ns = kernel.now_ns;
    kernel.wait(500_000_000);
    assert!(kernel.correlator.has_packets_under_way(0));
    assert!(!kernel.correlator.has_packets_under_way(seen_ns + 100_000_000));
    kernel.send(0, data(0xb0, 1010, 10));
    assert!(kernel.correlator.has_packets_under_way(seen_ns + 100_000_000));
    // What was received is under way no more, whether it was read or not.
    for skb in [data(0xa0, 1000, 10), data(0xb0, 1010, 10)] {
        kernel.poll(0);
        kernel.receive(0, skb);
    }
    assert!(!kernel.correlator.has_packets_under_way(0));
}
