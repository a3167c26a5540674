//! UDP: the call that sends a datagram, and the read that takes it.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord, MARK_SEVERAL, NO_FLOW},
    probes::Point,
};

use super::kernel::{
    BACK, CLIENT, Kernel, NETNS, SERVER, Skb, TID, by_kprobes, by_tracepoints, coverage, datagram, empty,
    hops, reasons, seen, time_at,
};
use crate::{
    correlate::Limits,
    decode::Record,
    model::{Incomplete, Path},
};
use tracer_common::probes::Backend;

const FLOW: u64 = 7;
/// The sending and the receiving socket.
const SENDER: u64 = 0x51;
const RECEIVER: u64 = 0x52;

const READER: u32 = 900;
const OTHER_READER: u32 = 901;

const WAY: [&str; 8] = [
    "udp_sendmsg",
    "dev_queue_xmit",
    "loopback_xmit",
    "enqueue_to_backlog",
    "netif_receive_skb",
    "udp_rcv",
    "sock_def_readable",
    "udp_recvmsg",
];

fn with_flow(mut kernel: Kernel) -> Kernel {
    kernel.flow_in(FLOW, 17, CLIENT, SERVER, NETNS);
    kernel
}

/// UDP reads by the tracepoint, all else by kprobes.
fn reads_by_tracepoint() -> Kernel {
    with_flow(Kernel::new(coverage(|point| {
        let is_function = point.row().functions().is_ok() && point != Point::UdpRecvmsg;
        Some(if is_function { Backend::Kprobe } else { Backend::Tracepoint })
    })))
}

fn call(kernel: &mut Kernel, tid: u32, sk: u64, len: u32) -> u64 {
    kernel.hop(HopRecord { sk, tid, len, ..empty(Point::UdpSendmsg, 0) })
}

/// The thread hands it to the device, and it is received.
fn transmit(kernel: &mut Kernel, tid: u32, skb: Skb) {
    kernel.hop(HopRecord { sk: SENDER, tid, ..seen(Point::DevQueueXmit, 0, 0, skb) });
    for point in [Point::LoopbackXmit, Point::EnqueueToBacklog, Point::NetifReceiveSkb, Point::UdpRcv] {
        kernel.at(point, 0, skb);
    }
}

fn wake(kernel: &mut Kernel, skb: Skb) -> u64 {
    kernel.hop(HopRecord { sk: RECEIVER, tgid: 0, ..seen(Point::SockDefReadable, 0, 0, skb) })
}

/// All the way into the receiving socket's queue.
fn arrive(kernel: &mut Kernel, skb: Skb) {
    call(kernel, TID, SENDER, skb.len);
    transmit(kernel, TID, skb);
    wake(kernel, skb);
}

/// The same without what only functions see.
fn arrive_by_tracepoints(kernel: &mut Kernel, skb: Skb) {
    call(kernel, TID, SENDER, skb.len);
    kernel.hop(HopRecord { sk: SENDER, tid: TID, ..seen(Point::DevQueueXmit, 0, 0, skb) });
    for point in [Point::LoopbackXmit, Point::EnqueueToBacklog, Point::NetifReceiveSkb] {
        kernel.at(point, 0, skb);
    }
    wake(kernel, skb);
}

/// A read that names its datagram.
fn read(kernel: &mut Kernel, skb: Skb) -> u64 {
    let record = HopRecord { sk: RECEIVER, tid: READER, tgid: 60, ..seen(Point::UdpRecvmsg, 0, 1, skb) };
    kernel.hop(HopRecord { tid: READER, ..record })
}

/// A read of `len` bytes after which the datagram at `next` is the first in the queue.
fn read_len(kernel: &mut Kernel, tid: u32, len: u32, next: u64) -> u64 {
    let record =
        HopRecord { sk: RECEIVER, skb: next, seq: len, tgid: 60, tid, ..empty(Point::UdpRecvmsg, 0) };
    kernel.hop(record)
}

/// The same on a socket that only wanted datagrams come to.
fn read_wanted(kernel: &mut Kernel, tid: u32, len: u32, next: u64) -> u64 {
    let record =
        HopRecord { sk: RECEIVER, skb: next, seq: len, tgid: 60, tid, aux: 1, ..empty(Point::UdpRecvmsg, 0) };
    kernel.hop(record)
}

fn lens(paths: &[Path]) -> Vec<u32> {
    paths.iter().map(|path| path.len).collect()
}

#[test]
fn a_datagram_goes_from_its_call_to_its_read() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let skb = datagram(0xa0, FLOW, 32);
    let called = call(&mut kernel, TID, SENDER, 32);
    transmit(&mut kernel, TID, skb);
    let woken = wake(&mut kernel, skb);
    assert_eq!(kernel.paths(), []);
    let read = read(&mut kernel, skb);
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY.to_vec(), None));
    assert_eq!((path.start_ns(), time_at(&path, Point::SockDefReadable)), (called, Some(woken)));
    assert_eq!(time_at(&path, Point::UdpRecvmsg), Some(read));
    let (sender, receiver) = (path.sender.unwrap(), path.receiver.unwrap());
    assert_eq!((sender.pid, sender.tid, receiver.pid, receiver.tid), (50, Some(TID), 60, Some(READER)));
}

#[test]
fn a_call_is_used_up_by_its_datagram() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    call(&mut kernel, TID, SENDER, 32);
    for (at, has_call) in [(0xa0, true), (0xb0, false)] {
        // The record of the second call was lost.
        let skb = datagram(at, FLOW, 32);
        transmit(&mut kernel, TID, skb);
        read(&mut kernel, skb);
        let path = kernel.path();
        assert_eq!((path.hops[0].point == Point::UdpSendmsg, path.incomplete), (has_call, None));
        assert_eq!(path.sender.is_some(), has_call);
    }
}

#[test]
fn a_call_is_for_its_own_datagram_only() {
    type Call = fn(&mut Kernel);
    let len = 1480;
    let cases: [(&str, bool, Call); 9] = [
        ("its own", true, |kernel| _ = call(kernel, TID, SENDER, 1480)),
        ("of unknown length", true, |kernel| _ = call(kernel, TID, SENDER, AUX_UNKNOWN)),
        ("that is cut into fragments", true, |kernel| _ = call(kernel, TID, SENDER, 9000)),
        ("a shorter one", false, |kernel| _ = call(kernel, TID, SENDER, 1472)),
        ("another socket", false, |kernel| _ = call(kernel, TID, RECEIVER, 1480)),
        ("another thread", false, |kernel| _ = call(kernel, TID + 1, SENDER, 1480)),
        ("long ago", false, |kernel| {
            call(kernel, TID, SENDER, 1480);
            kernel.now_ns += 200_000_000;
        }),
        ("a failed one before", true, |kernel| {
            call(kernel, TID, SENDER, 1480);
            call(kernel, TID, SENDER, 1480);
        }),
        ("in the future", false, |kernel| {
            let time_ns = kernel.now_ns + 1_000_000;
            let record = HopRecord { sk: SENDER, len: 1480, ..empty(Point::UdpSendmsg, time_ns) };
            kernel.correlator.record(&Record::Hop(record));
        }),
    ];
    for (whose, is_its, call) in cases {
        let mut kernel = with_flow(Kernel::new(by_kprobes()));
        call(&mut kernel);
        transmit(&mut kernel, TID, datagram(0xa0, FLOW, len));
        let path = kernel.finish().remove(0);
        assert_eq!(path.hops[0].point == Point::UdpSendmsg, is_its, "{whose}");
    }
    // A short one is no fragment.
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    call(&mut kernel, TID, SENDER, 32);
    transmit(&mut kernel, TID, datagram(0xa0, FLOW, 16));
    assert_eq!(hops(&kernel.finish()[0])[0], "dev_queue_xmit");
}

#[test]
fn two_threads_send_on_one_socket() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let calls = [call(&mut kernel, 1, SENDER, 32), call(&mut kernel, 2, SENDER, 32)];
    let skbs = [datagram(0xa0, FLOW, 32), datagram(0xb0, FLOW, 32)];
    transmit(&mut kernel, 2, skbs[1]);
    transmit(&mut kernel, 1, skbs[0]);
    read(&mut kernel, skbs[0]);
    read(&mut kernel, skbs[1]);
    assert!(kernel.paths().iter().map(Path::start_ns).eq(calls));
}

#[test]
fn a_read_names_its_datagram_or_none() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let skb = datagram(0xa0, FLOW, 32);
    kernel.flow_in(8, 17, SERVER, CLIENT, NETNS);
    arrive(&mut kernel, skb);
    // Other data in the same memory.
    read(&mut kernel, Skb { len: 33, ..skb });
    read(&mut kernel, skb.on(8));
    read(&mut kernel, skb.on(NO_FLOW));
    read(&mut kernel, datagram(0xb0, FLOW, 32));
    assert_eq!(kernel.paths(), []);
    read(&mut kernel, skb);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn memory_that_is_used_again_was_read() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    arrive(&mut kernel, datagram(0xa0, FLOW, 32));
    arrive(&mut kernel, datagram(0xa0, FLOW, 32));
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::ReadNotSeen)]);
    read(&mut kernel, datagram(0xa0, FLOW, 32));
    assert_eq!(kernel.path().incomplete, None);
    // The record of a read by the tracepoint comes after the memory was free.
    let mut kernel = reads_by_tracepoint();
    arrive(&mut kernel, datagram(0xa0, FLOW, 32));
    arrive(&mut kernel, datagram(0xa0, FLOW, 48));
    let first = read_len(&mut kernel, READER, 32, 0xa0);
    let second = read_len(&mut kernel, READER, 48, 0);
    let paths = kernel.paths();
    assert_eq!((lens(&paths), reasons(&paths)), (vec![32, 48], vec![None, None]));
    assert_eq!(
        paths.iter().map(|path| path.hops.last().unwrap().time_ns).collect::<Vec<_>>(),
        [first, second]
    );
}

#[test]
fn datagrams_are_read_in_order() {
    let mut kernel = reads_by_tracepoint();
    for (at, len) in [(0xa0, 10), (0xb0, 20), (0xc0, 30)] {
        arrive(&mut kernel, datagram(at, FLOW, len));
    }
    for (len, next) in [(10, 0xb0), (20, 0xc0), (30, 0)] {
        let read = read_len(&mut kernel, READER, len, next);
        let path = kernel.path();
        assert_eq!((path.len, hops(&path), path.incomplete), (len, WAY.to_vec(), None));
        assert_eq!(time_at(&path, Point::UdpRecvmsg), Some(read));
    }
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_datagram_may_come_while_another_one_is_read() {
    let mut kernel = reads_by_tracepoint();
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    // The reader has it already.
    arrive(&mut kernel, datagram(0xb0, FLOW, 20));
    read_len(&mut kernel, READER, 10, 0xb0);
    assert_eq!(kernel.path().len, 10);
    read_len(&mut kernel, READER, 20, 0);
    assert_eq!(kernel.path().len, 20);
    // It has seen an empty queue, and is overtaken while it writes its record.
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    let began = kernel.now_ns;
    arrive(&mut kernel, datagram(0xb0, FLOW, 20));
    kernel.correlator.record(&Record::Hop(HopRecord {
        sk: RECEIVER,
        seq: 10,
        tid: READER,
        backend: Backend::Tracepoint as u8,
        ..empty(Point::UdpRecvmsg, began + 1)
    }));
    let path = kernel.path();
    assert_eq!((path.len, path.incomplete), (10, None));
    read_len(&mut kernel, READER, 20, 0);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn concurrent_readers_are_entangled() {
    let mut kernel = reads_by_tracepoint();
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    arrive(&mut kernel, datagram(0xb0, FLOW, 10));
    arrive(&mut kernel, datagram(0xc0, FLOW, 10));
    // Two threads have taken one each.
    read_wanted(&mut kernel, OTHER_READER, 10, 0xc0);
    read_wanted(&mut kernel, READER, 10, 0xc0);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::Entangled); 2]);
    assert!(paths.iter().all(|path| hops(path) == WAY[..7]), "{paths:#?}");
    read_wanted(&mut kernel, READER, 10, 0);
    assert_eq!(kernel.path().incomplete, None);

    // One takes the first, and before its record comes, the other takes the next one, whose record comes first.
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    arrive(&mut kernel, datagram(0xb0, FLOW, 10));
    read_wanted(&mut kernel, READER, 10, 0);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled); 2]);
    read_wanted(&mut kernel, OTHER_READER, 10, 0xb0);
    assert_eq!(kernel.paths(), []);
}

/// A third one may be taken as soon as the first is read: there is always one of which the read is to come.
#[test]
fn readers_that_take_turns_are_entangled_however_long() {
    let mut kernel = reads_by_tracepoint();
    for skb in [0xa0, 0xb0, 0xc0, 0xd0, 0xe0] {
        arrive(&mut kernel, datagram(skb, FLOW, 10));
    }
    // Both have one, and the other one reads first.
    read_wanted(&mut kernel, OTHER_READER, 10, 0xc0);
    for (reader, next) in [(READER, 0xd0), (OTHER_READER, 0xe0), (READER, 0)] {
        kernel.wait(1_100_000_000);
        read_wanted(&mut kernel, reader, 10, next);
    }
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::Entangled); 5]);
}

/// A read says nothing of what comes to other sockets, or to none.
#[test]
fn a_packet_that_nobody_reads_may_be_dropped_after_a_read() {
    const ECHO: u64 = 77;
    let mut kernel = with_flow(Kernel::new(by_tracepoints()));
    kernel.flow_in(ECHO, 1, CLIENT, SERVER, NETNS);
    arrive_by_tracepoints(&mut kernel, datagram(0xa0, FLOW, 10));
    let echo = datagram(0xb0, ECHO, 64);
    kernel.send(1, echo);
    kernel.at(Point::NetifReceiveSkb, 1, echo);
    read_wanted(&mut kernel, READER, 10, 0);
    let read = kernel.path();
    assert_eq!((hops(&read).last(), read.incomplete), (Some(&"udp_recvmsg"), None));
    let record = seen(Point::KfreeSkb, 0, 1, echo);
    kernel.hop(HopRecord { aux: 8, flow: NO_FLOW, ..record });
    assert!(kernel.path().dropped.is_some());
}

#[test]
fn of_a_queue_whose_head_is_not_known_nothing_is_joined() {
    let mut kernel = reads_by_tracepoint();
    // Something was in the queue before the trace.
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    arrive(&mut kernel, datagram(0xb0, FLOW, 20));
    read_len(&mut kernel, READER, 10, 0xee);
    assert_eq!(kernel.paths(), []);
    // The reads of what was there are over.
    read_len(&mut kernel, READER, 10, 0xa0);
    assert_eq!(kernel.paths(), []);
    read_len(&mut kernel, READER, 10, 0xb0);
    assert_eq!(kernel.path().incomplete, None);
    // A datagram that is not wanted is behind, and is read.
    read_len(&mut kernel, READER, 20, 0xee);
    assert_eq!(kernel.path().incomplete, None);
    read_len(&mut kernel, READER, 20, 0);
    assert_eq!(kernel.paths(), []);
    // Nothing is left, so from here on all are known.
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    read_len(&mut kernel, READER, 10, 0);
    assert_eq!(kernel.path().incomplete, None);
    // A read of another length is another one's.
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    read_len(&mut kernel, READER, 11, 0);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled)]);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn all_by_tracepoints() {
    let mut kernel = with_flow(Kernel::new(by_tracepoints()));
    arrive(&mut kernel, datagram(0xa0, FLOW, 10));
    read_len(&mut kernel, READER, 10, 0);
    let path = kernel.path();
    assert_eq!(hops(&path), WAY.into_iter().filter(|hop| *hop != "udp_rcv").collect::<Vec<_>>());
    assert_eq!(path.incomplete, None);
}

#[test]
fn a_datagram_that_nobody_reads_waits() {
    for mut kernel in [with_flow(Kernel::new(by_kprobes())), reads_by_tracepoint()] {
        arrive(&mut kernel, datagram(0xa0, FLOW, 10));
        kernel.wait(3_600_000_000_000);
        assert_eq!(kernel.paths(), []);
        assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NotRead)]);
        assert_eq!(kernel.correlator.datagrams.sizes(), [0; 3]);
    }
}

#[test]
fn the_flow_of_an_answer_is_another_one() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let skb = datagram(0xa0, FLOW, 10);
    arrive(&mut kernel, skb);
    // TCP's flow with the same ends.
    read(&mut kernel, skb.on(BACK));
    assert_eq!(kernel.paths(), []);
}

#[test]
fn calls_and_queues_are_bounded() {
    let coverage = coverage(|point| {
        Some(if point == Point::UdpRecvmsg { Backend::Tracepoint } else { Backend::Kprobe })
    });
    let limits = Limits { in_flight: 100, ..Limits::default() };
    let mut kernel = with_flow(Kernel::limited(coverage, limits));
    for at in 0..20_000u32 {
        let skb = datagram(0x1000 + u64::from(at), FLOW, 10);
        call(&mut kernel, at, SENDER, 10);
        kernel.at(Point::NetifReceiveSkb, 0, skb);
        let sk = u64::from(if at < 10_000 { at } else { at % 10 });
        kernel.hop(HopRecord { sk, ..seen(Point::SockDefReadable, 0, 0, skb) });
    }
    let sizes = kernel.correlator.datagrams.sizes();
    assert!(sizes.iter().all(|size| *size <= 4096), "{sizes:?}");
    assert!(sizes[2] <= 1400, "{sizes:?}");
    kernel.finish();
    assert_eq!(kernel.correlator.datagrams.sizes(), [0; 3]);
}

#[test]
fn a_read_tells_of_hops_that_were_missed() {
    // Kprobes do not run in a softirq that interrupts one.
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let skb = datagram(0xa0, FLOW, 32);
    call(&mut kernel, TID, SENDER, 32);
    kernel.hop(HopRecord { sk: SENDER, tid: TID, ..seen(Point::DevQueueXmit, 0, 0, skb) });
    kernel.at(Point::DevHardStartXmit, 0, skb);
    let read = read(&mut kernel, skb);
    let path = kernel.path();
    assert_eq!(path.incomplete, Some(Incomplete::HopNotSeen));
    assert_eq!(time_at(&path, Point::UdpRecvmsg), Some(read));
}

#[test]
fn several_datagrams_in_one_packet_are_followed_to_where_they_are_cut_apart() {
    let mut kernel = with_flow(Kernel::new(by_kprobes()));
    let skb = datagram(0xa0, FLOW, 2000);
    call(&mut kernel, TID, SENDER, 2000);
    let sent = HopRecord { sk: SENDER, tid: TID, ..seen(Point::DevQueueXmit, 0, 0, skb) };
    kernel.hop(HopRecord { marks: MARK_SEVERAL, ..sent });
    for point in [Point::LoopbackXmit, Point::EnqueueToBacklog, Point::NetifReceiveSkb, Point::UdpRcv] {
        kernel.at(point, 0, skb);
    }
    let path = kernel.path();
    assert_eq!((path.incomplete, path.hops.len()), (Some(Incomplete::CutByReceiver), 6));
}
