//! Connections and messages on UNIX sockets.

mod early;
mod life;

use tracer_common::{
    event::{AUX_UNKNOWN, MARK_LISTENS, MARK_NOTHING_QUEUED, NO_FLOW, UnixRecord},
    probes::Point,
};

use super::kernel::{
    BACK, Kernel, TID, by_kprobes, data, empty, empty_unix, hops, reasons, time_at, way_and, without,
};
use crate::model::{Incomplete, Path};

const CLIENT: u64 = 0xc1;
const PEER: u64 = 0xc2;
const LISTENER: u64 = 0xc3;
/// The server's socket of a connection.
const ACCEPTED: u64 = 0xc4;

/// Threads that read.
const READER: u32 = 900;
const OTHER_READER: u32 = 901;

const DGRAM: u8 = 2;
const SEQPACKET: u8 = 5;

/// What a message on a stream passes.
const WAY: [&str; 3] = ["unix_stream_sendmsg", "sock_def_readable", "unix_stream_recvmsg"];

/// A stream socket's call, in thread `tid`.
fn call(kernel: &mut Kernel, tid: u32, len: u32) -> u64 {
    kernel.unix(UnixRecord { sk: CLIENT, peer: PEER, tid, len, ..empty_unix(Point::UnixStreamSendmsg, 0) })
}

/// The wake-up for a `sk_buff` of the stream's.
fn wake(kernel: &mut Kernel, tid: u32, skb: u64, len: u32) -> u64 {
    let peer = if skb == 0 { 0 } else { CLIENT };
    let wake = UnixRecord { sk: PEER, peer, skb, tid, len, tgid: 0, ..empty_unix(Point::SockDefReadable, 0) };
    kernel.unix(wake)
}

/// A copy of `len` bytes from `offset` of an `sk_buff` of `total`.
fn copy_by(kernel: &mut Kernel, tid: u32, skb: u64, (offset, len, total): (u32, u32, u32)) -> u64 {
    kernel.unix(UnixRecord {
        sk: CLIENT,
        skb,
        len,
        offset,
        total,
        tid,
        tgid: 60,
        ..empty_unix(Point::UnixStreamRecvmsg, 0)
    })
}

fn copy(kernel: &mut Kernel, skb: u64, part: (u32, u32, u32)) -> u64 {
    copy_by(kernel, READER, skb, part)
}

/// A whole message on the stream: call, wake-up.
fn send(kernel: &mut Kernel, tid: u32, skb: u64, len: u32) {
    call(kernel, tid, len);
    wake(kernel, tid, skb, len);
}

/// A datagram to a name: the call does not know its receiver.
fn send_datagram(kernel: &mut Kernel, socket_type: u8, tid: u32, len: u32) {
    let point = Point::UnixDgramSendmsg;
    kernel.unix(UnixRecord { sk: CLIENT, tid, len, socket_type, ..empty_unix(point, 0) });
}

/// The wake-up for a datagram in `skb`, which is `peer`'s.
fn wake_datagram(kernel: &mut Kernel, socket_type: u8, tid: u32, peer: u64, skb: u64, len: u32) {
    let point = Point::SockDefReadable;
    kernel.unix(UnixRecord { sk: PEER, peer, skb, tid, len, socket_type, ..empty_unix(point, 0) });
}

fn copy_datagram(kernel: &mut Kernel, socket_type: u8, tid: u32, skb: u64, len: u32, total: u32) -> u64 {
    let point = Point::UnixDgramRecvmsg;
    kernel.unix(UnixRecord {
        sk: CLIENT,
        skb,
        len,
        total,
        tid,
        socket_type,
        tgid: 60,
        ..empty_unix(point, 0)
    })
}

fn connect(kernel: &mut Kernel, tid: u32, sk: u64) {
    kernel.unix(UnixRecord { sk, tid, ..empty_unix(Point::UnixStreamConnect, 0) });
}

/// The wake-up of a listener by a connection of `sk`.
fn wake_listener(kernel: &mut Kernel, tid: u32, sk: u64) {
    let point = Point::SockDefReadable;
    kernel.unix(UnixRecord {
        sk: LISTENER,
        peer: sk,
        skb: 0xf0,
        tid,
        marks: MARK_LISTENS,
        ..empty_unix(point, 0)
    });
}

fn accept(kernel: &mut Kernel, sk: u64) {
    let point = Point::UnixAccept;
    kernel.unix(UnixRecord {
        sk: ACCEPTED,
        peer: sk,
        skb: 0xf0,
        tid: READER,
        tgid: 60,
        ..empty_unix(point, 0)
    });
}

fn reads(path: &Path) -> u32 {
    path.unix.as_ref().unwrap().reads
}

/// Nothing is left of any message.
fn assert_empty(kernel: &mut Kernel) {
    assert_eq!(kernel.finish(), []);
    let [calls, _, buffers, connecting] = kernel.correlator.unix.sizes();
    assert_eq!((calls, buffers, connecting), (0, 0, 0));
    assert_eq!(kernel.correlator.unix.unread(), 0);
}

#[test]
fn a_connection_and_a_message() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.unix_name(CLIENT, b"/run/app.sock");
    connect(&mut kernel, TID, CLIENT);
    wake_listener(&mut kernel, TID, CLIENT);
    assert_eq!(kernel.paths(), []);
    accept(&mut kernel, CLIENT);
    send(&mut kernel, TID, 0xa0, 100);
    let read = copy(&mut kernel, 0xa0, (0, 100, 100));
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None, None]);
    assert_eq!(hops(&paths[0]), ["unix_stream_connect", "sock_def_readable", "unix_accept"]);
    assert_eq!(hops(&paths[1]), WAY);
    assert_eq!(time_at(&paths[1], Point::UnixStreamRecvmsg), Some(read));
    let (sender, receiver) = (paths[1].sender.unwrap(), paths[1].receiver.unwrap());
    assert_eq!((paths[1].len, sender.pid, receiver.pid, paths[1].flow), (100, 50, 60, None));
    assert_eq!((sender.tid, receiver.tid), (Some(TID), Some(READER)));
    for path in &paths {
        let unix = path.unix.as_ref().unwrap();
        assert_eq!((unix.name.as_deref(), unix.inode), (Some(&b"/run/app.sock"[..]), 700));
    }
    assert_empty(&mut kernel);
}

#[test]
fn one_send_is_read_in_two_reads() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 40, 100));
    assert_eq!(kernel.paths(), []);
    let read = copy(&mut kernel, 0xa0, (40, 60, 100));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete, reads(&path)), (WAY.to_vec(), None, 2));
    assert_eq!(time_at(&path, Point::UnixStreamRecvmsg), Some(read), "the last read counts");
    assert_empty(&mut kernel);
}

#[test]
fn two_sends_are_read_in_one_call() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    send(&mut kernel, TID, 0xb0, 50);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    copy(&mut kernel, 0xb0, (0, 50, 50));
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None, None]);
    assert!(paths.iter().all(|path| hops(path) == WAY && reads(path) == 1), "{paths:#?}");
    assert_eq!((paths[0].len, paths[1].len), (100, 50));
    assert_empty(&mut kernel);
}

#[test]
fn a_long_send_is_several_buffers() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    let woken = wake(&mut kernel, TID, 0xa0, 60);
    // It is read while the call waits for room.
    copy(&mut kernel, 0xa0, (0, 60, 60));
    assert_eq!(kernel.paths(), []);
    wake(&mut kernel, TID, 0xb0, 40);
    assert_eq!(kernel.paths(), []);
    copy(&mut kernel, 0xb0, (0, 40, 40));
    let path = kernel.path();
    assert_eq!((path.len, path.incomplete, reads(&path)), (100, None, 2));
    assert_eq!((hops(&path), time_at(&path, Point::SockDefReadable)), (WAY.to_vec(), Some(woken)));
    assert_empty(&mut kernel);
}

#[test]
fn a_datagram_is_read_whole_or_cut() {
    for socket_type in [DGRAM, SEQPACKET] {
        let mut kernel = Kernel::new(by_kprobes());
        for taken in [100, 10] {
            send_datagram(&mut kernel, socket_type, TID, 100);
            wake_datagram(&mut kernel, socket_type, TID, CLIENT, 0xa0, 100);
            copy_datagram(&mut kernel, socket_type, READER, 0xa0, taken, 100);
            let path = kernel.path();
            assert_eq!((path.incomplete, path.len), (None, 100), "the rest is gone");
        }
        assert_empty(&mut kernel);
    }
}

#[test]
fn behind_a_datagram_may_be_that_of_another_sender() {
    let mut kernel = Kernel::new(by_kprobes());
    send_datagram(&mut kernel, DGRAM, TID, 100);
    // Somebody else's is the last one in the queue by now.
    wake_datagram(&mut kernel, DGRAM, TID, 0xee, 0xb0, 30);
    assert_eq!(kernel.paths(), []);
    copy_datagram(&mut kernel, DGRAM, READER, 0xa0, 100, 100);
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn a_datagram_is_named_after_its_receiver_if_its_sender_has_no_name() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.unix_name(CLIENT, b"");
    kernel.unix_name(PEER, b"/run/log");
    send_datagram(&mut kernel, DGRAM, TID, 100);
    wake_datagram(&mut kernel, DGRAM, TID, CLIENT, 0xa0, 100);
    copy_datagram(&mut kernel, DGRAM, READER, 0xa0, 100, 100);
    let unix = kernel.path().unix.unwrap();
    assert_eq!((unix.name.as_deref(), unix.type_name()), (Some(&b"/run/log"[..]), "dgram"));
}

#[test]
fn threads_with_sockets_of_their_own_are_kept_apart() {
    let mut kernel = Kernel::new(by_kprobes());
    let call = |kernel: &mut Kernel, tid, sk| {
        kernel.unix(UnixRecord { sk, peer: sk + 1, tid, len: 9, ..empty_unix(Point::UnixStreamSendmsg, 0) });
    };
    let wake = |kernel: &mut Kernel, tid, sk| {
        let point = Point::SockDefReadable;
        kernel.unix(UnixRecord { sk: sk + 1, peer: sk, skb: sk + 2, tid, len: 9, ..empty_unix(point, 0) });
    };
    call(&mut kernel, 1, 0xd10);
    call(&mut kernel, 2, 0xd20);
    wake(&mut kernel, 2, 0xd20);
    wake(&mut kernel, 1, 0xd10);
    for sk in [0xd20, 0xd10] {
        let point = Point::UnixStreamRecvmsg;
        kernel.unix(UnixRecord { sk, skb: sk + 2, len: 9, total: 9, tid: READER, ..empty_unix(point, 0) });
    }
    let paths = kernel.paths();
    assert!(paths.iter().map(|path| path.id).eq([2, 1]), "{paths:#?}");
    assert!(paths[0].hops[1].time_ns < paths[1].hops[1].time_ns);
    assert_eq!(reasons(&paths), [None, None]);
}

#[test]
fn a_call_that_queued_nothing_makes_no_path() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    send(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn a_send_may_be_cut_short() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    wake(&mut kernel, TID, 0xa0, 60);
    copy(&mut kernel, 0xa0, (0, 60, 60));
    assert_eq!(kernel.paths(), [], "more may come");
    // The rest did not fit; the thread tries again.
    send(&mut kernel, TID, 0xb0, 40);
    let path = kernel.path();
    assert_eq!((path.len, path.incomplete), (60, None));
    copy(&mut kernel, 0xb0, (0, 40, 40));
    assert_eq!(kernel.path().len, 40);
    assert_empty(&mut kernel);
}

#[test]
fn a_thread_that_reads_does_not_send_any_more() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, AUX_UNKNOWN);
    wake(&mut kernel, TID, 0xa0, 60);
    copy(&mut kernel, 0xa0, (0, 60, 60));
    assert_eq!(kernel.paths(), [], "nobody has said how long it is");
    let answer =
        UnixRecord { sk: PEER, skb: 0xb0, len: 1, total: 1, ..empty_unix(Point::UnixStreamRecvmsg, 0) };
    kernel.unix(answer);
    let path = kernel.path();
    assert_eq!((path.len, path.incomplete), (60, None));
    assert_empty(&mut kernel);
}

#[test]
fn what_is_read_by_splice_is_not_seen() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    send(&mut kernel, TID, 0xb0, 100);
    copy(&mut kernel, 0xb0, (0, 50, 100));
    let call = UnixRecord { sk: CLIENT, peer: PEER, len: 10, ..empty_unix(Point::UnixStreamSendmsg, 0) };
    kernel.unix(UnixRecord { marks: MARK_NOTHING_QUEUED, ..call });
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::ReadNotSeen); 2]);
    wake(&mut kernel, TID, 0xa0, 10);
    copy(&mut kernel, 0xa0, (0, 10, 10));
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn what_another_thread_is_about_to_queue_was_not_read() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1, 100);
    let call =
        UnixRecord { sk: CLIENT, peer: PEER, len: 10, tid: 2, ..empty_unix(Point::UnixStreamSendmsg, 0) };
    kernel.unix(UnixRecord { marks: MARK_NOTHING_QUEUED, ..call });
    assert_eq!(kernel.paths(), []);
}

#[test]
fn descriptors_that_travel_are_counted() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    for (skb, descriptors) in [(0xa0, 3), (0xb0, 0)] {
        let wake =
            UnixRecord { sk: PEER, peer: CLIENT, skb, len: 50, ..empty_unix(Point::SockDefReadable, 0) };
        kernel.unix(UnixRecord { descriptors, ..wake });
    }
    copy(&mut kernel, 0xa0, (0, 50, 50));
    copy(&mut kernel, 0xb0, (0, 50, 50));
    assert_eq!(kernel.path().unix.unwrap().descriptors, 3);
    // Taken before the wake-up saw it.
    call(&mut kernel, TID, 50);
    let copy =
        UnixRecord { sk: CLIENT, skb: 0xa0, len: 50, total: 50, ..empty_unix(Point::UnixStreamRecvmsg, 0) };
    kernel.unix(UnixRecord { tid: READER, descriptors: 2, ..copy });
    wake(&mut kernel, TID, 0, 0);
    assert_eq!(kernel.path().unix.unwrap().descriptors, 2);
}

#[test]
fn a_message_wakes_its_peer_and_nobody_else() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    let point = Point::SockDefReadable;
    kernel.unix(UnixRecord { sk: 0xee, peer: 0xef, skb: 0xb0, len: 100, ..empty_unix(point, 0) });
    wake(&mut kernel, TID + 1, 0xc0, 100);
    wake(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::StartNotSeen), None], "another thread's, and its own");
    assert_eq!((hops(&paths[1]), paths[1].len), (WAY.to_vec(), 100));
}

#[test]
fn wake_ups_of_tcp_sockets_are_not_taken() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1000, 10));
    connect(&mut kernel, TID, CLIENT);
    // Softirqs that interrupt the call. The records of two flows were lost.
    kernel.wake(1, 1010);
    kernel.wake(BACK, 1);
    kernel.wake(99, 1);
    kernel.wake(NO_FLOW, 1010);
    assert_eq!(kernel.paths(), []);
    wake_listener(&mut kernel, TID, CLIENT);
    accept(&mut kernel, CLIENT);
    assert_eq!(hops(&kernel.path()), ["unix_stream_connect", "sock_def_readable", "unix_accept"]);
    kernel.read(1, 1010);
    assert_eq!(hops(&kernel.path()), way_and(&["sock_def_readable", "tcp_recvmsg"]));
}

#[test]
fn a_path_goes_as_far_as_is_seen() {
    let mut kernel = Kernel::new(without(&[Point::SockDefReadable]));
    send(&mut kernel, TID, 0xa0, 100);
    connect(&mut kernel, TID, CLIENT);
    assert_eq!(reasons(&kernel.paths()), [None, None]);
    assert_empty(&mut kernel);
    let mut kernel = Kernel::new(without(&[Point::UnixStreamRecvmsg, Point::UnixAccept]));
    send(&mut kernel, TID, 0xa0, 100);
    connect(&mut kernel, TID, CLIENT);
    wake_listener(&mut kernel, TID, CLIENT);
    let paths = kernel.paths();
    assert_eq!((reasons(&paths), hops(&paths[0])), (vec![None, None], WAY[..2].to_vec()));
    assert_empty(&mut kernel);
}

#[test]
fn the_scheduler_worked_for_the_first_read() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    for point in [Point::SchedWaking, Point::SchedSwitch] {
        kernel.hop(tracer_common::event::HopRecord { sk: PEER, tid: READER, tgid: 0, ..empty(point, 0) });
    }
    copy(&mut kernel, 0xa0, (0, 40, 100));
    copy(&mut kernel, 0xa0, (40, 60, 100));
    let path = kernel.path();
    assert_eq!(
        hops(&path),
        ["unix_stream_sendmsg", "sock_def_readable", "sched_waking", "sched_switch", "unix_stream_recvmsg"]
    );
    let shares = path.shares().unwrap();
    assert_eq!((shares.kernel_ns, shares.scheduler_ns, shares.reader_ns), (2000, 1000, 2000));
}
