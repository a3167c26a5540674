//! From the receiving socket to the process that reads.

use tracer_common::{event::HopRecord, probes::Point};

use super::kernel::{
    BACK, CLIENT, Kernel, RST, SERVER, by_kprobes, control, data, empty, hops, reasons, seqs, time_at,
    way_and, without,
};
use crate::{decode::Record, model::Incomplete};

const READ: &str = "tcp_recvmsg";
const WOKEN: &str = "sock_def_readable";

#[test]
fn one_read_may_end_several_packets() {
    let mut kernel = Kernel::new(by_kprobes());
    for (at, seq) in [(0xa0, 1000), (0xb0, 1010), (0xc0, 1020)] {
        kernel.transfer(data(at, seq, 10));
    }
    let read = kernel.read(1, 1030);
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [1000, 1010, 1020]);
    assert!(paths.iter().all(|path| time_at(path, Point::TcpRecvmsg) == Some(read)));
}

#[test]
fn several_reads_may_end_one_packet() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 100));
    kernel.read(1, 1040);
    assert_eq!(kernel.paths(), []);
    let read = kernel.read(1, 1100);
    assert_eq!(time_at(&kernel.path(), Point::TcpRecvmsg), Some(read));
}

#[test]
fn a_wake_up_is_for_all_data_up_to_rcv_nxt() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    let first = kernel.wake(1, 1010);
    kernel.transfer(data(0xb0, 1010, 10));
    kernel.transfer(data(0xc0, 1020, 10));
    // This one is not in order yet.
    kernel.transfer(data(0xd0, 1040, 10));
    let second = kernel.wake(1, 1030);
    kernel.read(1, 1050);
    let woken: Vec<_> = kernel.paths().iter().map(|path| time_at(path, Point::SockDefReadable)).collect();
    assert_eq!(woken, [Some(first), Some(second), Some(second), None]);
}

#[test]
fn wake_ups_of_others_are_not_taken() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.wake(BACK, 1010);
    kernel.wake(77, 1010);
    kernel.read(BACK, 1010);
    assert_eq!(kernel.paths(), []);
    kernel.read(1, 1010);
    assert_eq!(hops(&kernel.path()), way_and(&[READ]));
}

#[test]
fn sequence_numbers_wrap_around() {
    let mut kernel = Kernel::new(by_kprobes());
    let start = u32::MAX - 14;
    for at in 0..4u32 {
        kernel.transfer(data(u64::from(0xa0 + at), start.wrapping_add(10 * at), 10));
    }
    kernel.wake(1, start.wrapping_add(40));
    kernel.read(1, start.wrapping_add(10));
    assert_eq!(seqs(&kernel.paths()), [start]);
    kernel.read(1, start.wrapping_add(20));
    assert_eq!(seqs(&kernel.paths()), [start + 10], "the one that spans the end");
    kernel.read(1, start.wrapping_add(40));
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [5, 15]);
    assert!(paths.iter().all(|path| hops(path) == way_and(&[WOKEN, READ])), "{paths:#?}");
}

#[test]
fn data_that_comes_again_after_it_was_read_is_at_its_end() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.read(1, 1010);
    kernel.paths();
    kernel.transfer(data(0xb0, 1000, 10));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (way_and(&[]), None));
}

#[test]
fn a_read_before_the_packet_came_is_not_its_read() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    // The same data again, while a read is under way on another CPU: it began before, and is written after.
    let began = kernel.now_ns;
    kernel.transfer(data(0xb0, 1000, 10));
    let read = HopRecord { flow: 1, seq: 1010, cpu: 1, ..empty(Point::TcpRecvmsg, began) };
    kernel.correlator.record(&Record::Hop(read));
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None, None]);
    assert_eq!(hops(&paths[0]).last(), Some(&READ));
    assert_eq!(hops(&paths[1]), way_and(&[]));
}

#[test]
fn segments_out_of_order_are_read_in_order() {
    let mut kernel = Kernel::new(by_kprobes());
    for (at, seq) in [(0xa0, 1020), (0xb0, 1000), (0xc0, 1010), (0xd0, 1030)] {
        kernel.transfer(data(at, seq, 10));
    }
    kernel.read(1, 1010);
    assert_eq!(seqs(&kernel.paths()), [1000]);
    kernel.read(1, 1030);
    assert_eq!(seqs(&kernel.paths()), [1010, 1020]);
    kernel.read(1, 1040);
    assert_eq!(seqs(&kernel.paths()), [1030]);
}

#[test]
fn data_that_nobody_reads_waits_to_the_end() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.wait(3_600_000_000_000);
    assert_eq!(kernel.paths(), []);
    assert_eq!(kernel.correlator.unfinished(), 1);
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NotRead)]);
}

#[test]
fn after_a_reset_data_is_never_read() {
    for flow in [1, BACK] {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.transfer(data(0xa0, 1000, 10));
        kernel.transfer(control(0xb0, RST).on(flow));
        kernel.path();
        assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NeverRead)]);
    }
}

#[test]
fn a_reset_of_another_connection_means_nothing() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow(3, CLIENT, "127.0.0.1:9999");
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.transfer(control(0xb0, RST).on(3));
    kernel.path();
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NotRead)]);
}

#[test]
fn where_reads_are_not_seen_the_transport_is_the_end() {
    let mut kernel = Kernel::new(without(&[Point::TcpRecvmsg]));
    kernel.transfer(data(0xa0, 1000, 10));
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn two_numbers_may_mean_the_same_flow() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow(9, CLIENT, SERVER);
    let skb = data(0xa0, 1000, 10);
    kernel.send(0, skb);
    kernel.poll(0);
    kernel.receive(0, skb.on(9));
    kernel.wake(9, 1010);
    kernel.read(1, 1010);
    assert_eq!(hops(&kernel.path()), way_and(&[WOKEN, READ]));
}

#[test]
fn a_syn_may_carry_data() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = super::kernel::Skb { len: 10, ..control(0xa0, super::kernel::SYN) };
    kernel.transfer(skb);
    kernel.read(1, 1010);
    assert_eq!(kernel.paths(), [], "the SYN takes a number before the data");
    kernel.read(1, 1011);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn the_reader_is_the_thread_that_read_the_end() {
    let mut kernel = Kernel::new(by_kprobes());
    for (at, seq) in [(0xa0, 1010), (0xb0, 1020), (0xc0, 1030)] {
        kernel.transfer(data(at, seq - 10, 10));
    }
    // The second one reads half of a segment as well, and a softirq the rest.
    for (tgid, tid, seq) in [(60, 61, 1010), (60, 62, 1025), (0, 0, 1030)] {
        kernel.hop(HopRecord { flow: 1, seq, tgid, tid, ..empty(Point::TcpRecvmsg, 0) });
    }
    let readers = kernel.paths().into_iter().map(|path| path.receiver.map(|task| (task.pid, task.tid)));
    let expected = [Some((60, Some(61))), Some((60, Some(62))), Some((60, None))];
    assert_eq!(readers.collect::<Vec<_>>(), expected);
}

#[test]
fn a_softirq_that_reads_is_no_process() {
    let mut kernel = Kernel::new(by_kprobes());
    let read = |kernel: &mut Kernel, tgid, seq| {
        kernel.transfer(data(0xa0, seq - 10, 10));
        kernel.hop(HopRecord { flow: 1, seq, tgid, ..empty(Point::TcpRecvmsg, 0) });
        kernel.path()
    };
    assert_eq!(read(&mut kernel, 0, 1010).receiver, None);
    assert_eq!(read(&mut kernel, 60, 1020).receiver.unwrap().pid, 60);
    assert_eq!(read(&mut kernel, 0, 1030).receiver.unwrap().pid, 60);
    kernel.hop(HopRecord { flow: 1, tgid: 0, ..empty(Point::TcpSendmsg, 0) });
    assert_eq!(read(&mut kernel, 0, 1040).sender, None);
}
