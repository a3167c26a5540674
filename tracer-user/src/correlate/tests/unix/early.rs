//! What is read before its wake-up, and whose messages cannot be told apart.

use tracer_common::{
    event::{AUX_UNKNOWN, MARK_TAKEN, UnixRecord},
    probes::Point,
};

use super::{
    super::kernel::{Kernel, TID, by_kprobes, empty_unix, hops, reasons, time_at},
    CLIENT, DGRAM, OTHER_READER, READER, SEQPACKET, WAY, assert_empty, call, copy, copy_datagram, reads,
    send, send_datagram, wake, wake_datagram,
};
use crate::model::Incomplete;

#[test]
fn a_reader_may_be_faster_than_its_wake_up() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    let read = copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.paths(), []);
    // The queue is empty again.
    let woken = wake(&mut kernel, TID, 0, 0);
    let path = kernel.path();
    assert_eq!((path.incomplete, path.len), (None, 100));
    assert_eq!(hops(&path), ["unix_stream_sendmsg", "unix_stream_recvmsg", "sock_def_readable"]);
    assert_eq!(path.hops[1..].iter().map(|hop| hop.time_ns).collect::<Vec<_>>(), [read, woken]);

    // It has read a part only, so the wake-up sees the rest of it.
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xb0, (0, 10, 100));
    wake(&mut kernel, TID, 0xb0, 100);
    copy(&mut kernel, 0xb0, (10, 90, 100));
    let path = kernel.path();
    assert_eq!((path.incomplete, path.len, reads(&path)), (None, 100, 2));
    assert_empty(&mut kernel);
}

#[test]
fn a_reader_takes_a_buffer_off_the_queue_after_it_has_read_it() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xa0, (0, 60, 60));
    wake(&mut kernel, TID, 0xa0, 60);
    wake(&mut kernel, TID, 0xb0, 40);
    copy(&mut kernel, 0xb0, (0, 40, 40));
    let path = kernel.path();
    assert_eq!((path.incomplete, path.len, reads(&path)), (None, 100, 2));
    assert_empty(&mut kernel);
}

#[test]
fn a_read_whose_wake_up_never_comes_is_not_believed() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    // The wake-up's record was lost.
    send(&mut kernel, TID, 0xb0, 50);
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (vec![WAY[0]], Some(Incomplete::HopNotSeen)));
    copy(&mut kernel, 0xb0, (0, 50, 50));
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn what_was_there_before_the_trace_is_not_taken_for_what_is_being_sent() {
    let mut kernel = Kernel::new(by_kprobes());
    // Nobody sends.
    copy(&mut kernel, 0xa0, (0, 100, 100));
    // Part of it was read before, or it is more than the call can have sent.
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xb0, (10, 90, 100));
    copy(&mut kernel, 0xc0, (0, 101, 101));
    wake(&mut kernel, TID, 0xd0, 100);
    copy(&mut kernel, 0xd0, (0, 100, 100));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete, reads(&path)), (WAY.to_vec(), None, 1));

    // It looks like it, but the wake-up shows what was really sent.
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xb0, (0, 50, 50));
    wake(&mut kernel, TID, 0xd0, 100);
    copy(&mut kernel, 0xd0, (0, 100, 100));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY[..2].to_vec(), Some(Incomplete::Entangled)));
    assert_empty(&mut kernel);
}

#[test]
fn a_datagram_that_is_taken_before_the_wake_up_is_copied_after_it() {
    for (socket_type, len) in [(DGRAM, 100), (SEQPACKET, 100), (DGRAM, AUX_UNKNOWN)] {
        let mut kernel = Kernel::new(by_kprobes());
        send_datagram(&mut kernel, socket_type, TID, len);
        wake_datagram(&mut kernel, socket_type, TID, 0, 0, 0);
        assert_eq!(kernel.paths(), []);
        copy_datagram(&mut kernel, socket_type, READER, 0xa0, 100, 100);
        let path = kernel.path();
        assert_eq!(hops(&path), ["unix_dgram_sendmsg", "sock_def_readable", "unix_dgram_recvmsg"]);
        assert_eq!((path.incomplete, path.len), (None, 100));
        assert_eq!(path.unix.as_ref().unwrap().socket_type, socket_type);
        assert_empty(&mut kernel);
    }
}

#[test]
fn a_datagram_that_was_taken_and_never_copied_is_said_to_be_read() {
    let mut kernel = Kernel::new(by_kprobes());
    send_datagram(&mut kernel, DGRAM, TID, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    kernel.wait(2_000_000_001);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::ReadNotSeen)]);
    assert_empty(&mut kernel);
}

#[test]
fn of_two_datagrams_that_two_threads_have_taken_nobody_knows_which_is_which() {
    let mut kernel = Kernel::new(by_kprobes());
    for _ in 0..2 {
        send_datagram(&mut kernel, DGRAM, TID, 100);
        wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    }
    copy_datagram(&mut kernel, DGRAM, READER, 0xb0, 100, 100);
    copy_datagram(&mut kernel, DGRAM, OTHER_READER, 0xa0, 100, 100);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::Entangled); 2]);
    assert!(paths.iter().all(|path| hops(path) == ["unix_dgram_sendmsg", "sock_def_readable"]), "{paths:#?}");

    // One has been taken, one is being sent: the copy may be of either.
    send_datagram(&mut kernel, DGRAM, TID, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    send_datagram(&mut kernel, DGRAM, TID, 100);
    copy_datagram(&mut kernel, DGRAM, READER, 0xb0, 100, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled); 2]);
    // The other copy may be of a third one, too, which is sent meanwhile.
    send_datagram(&mut kernel, DGRAM, TID, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    copy_datagram(&mut kernel, DGRAM, READER, 0xa0, 100, 100);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled)]);
    copy_datagram(&mut kernel, DGRAM, READER, 0xc0, 100, 100);
    // Their lengths tell them apart.
    send_datagram(&mut kernel, DGRAM, TID, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    send_datagram(&mut kernel, DGRAM, TID, 50);
    copy_datagram(&mut kernel, DGRAM, READER, 0xa0, 100, 100);
    wake_datagram(&mut kernel, DGRAM, TID, CLIENT, 0xb0, 50);
    copy_datagram(&mut kernel, DGRAM, READER, 0xb0, 50, 50);
    assert_eq!(reasons(&kernel.paths()), [None, None]);
    assert_empty(&mut kernel);
}

/// `sendmmsg`: the second datagram was taken before its wake-up, which sees another sender's; whose it is nobody knows.
#[test]
fn what_was_sent_by_no_call_that_was_seen_is_not_taken_for_another_one() {
    let mut kernel = Kernel::new(by_kprobes());
    let other = CLIENT + 0x100;
    kernel.unix(UnixRecord { sk: other, len: 50, tid: 7, ..empty_call() });
    wake_datagram(&mut kernel, DGRAM, 7, other, 0xc0, 50);
    wake_datagram(&mut kernel, DGRAM, TID, other, 0xc0, 50);
    send_datagram(&mut kernel, DGRAM, TID, 100);
    // The one of no call.
    copy_datagram(&mut kernel, DGRAM, READER, 0xa0, 100, 100);
    wake_datagram(&mut kernel, DGRAM, TID, 0, 0, 0);
    copy_datagram(&mut kernel, DGRAM, READER, 0xb0, 100, 100);
    let paths = kernel.finish();
    let of_call = paths.iter().find(|path| path.len == 100 && hops(path)[0] == "unix_dgram_sendmsg").unwrap();
    assert_eq!((of_call.incomplete, hops(of_call).len()), (Some(Incomplete::Entangled), 2), "{paths:#?}");
}

fn empty_call() -> UnixRecord {
    UnixRecord { socket_type: DGRAM, ..empty_unix(Point::UnixDgramSendmsg, 0) }
}

#[test]
fn two_threads_at_one_socket_are_entangled() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1, 100);
    call(&mut kernel, 2, 100);
    // Thread 2 has queued 0xa0, thread 1 0xb0, and both are woken for the last one.
    wake(&mut kernel, 2, 0xb0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    copy(&mut kernel, 0xb0, (0, 100, 100));
    wake(&mut kernel, 1, 0, 0);
    let paths = kernel.finish();
    assert_eq!(reasons(&paths), [Some(Incomplete::Entangled); 2]);
    assert!(paths.iter().all(|path| hops(path) == WAY[..2] && path.receiver.is_none()), "{paths:#?}");
    assert_empty(&mut kernel);
}

#[test]
fn two_threads_that_take_turns_are_not_entangled() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, 1, 0xa0, 100);
    send(&mut kernel, 2, 0xb0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    copy(&mut kernel, 0xb0, (0, 100, 100));
    assert_eq!(reasons(&kernel.paths()), [None, None]);
    // A third one, after two that were entangled.
    call(&mut kernel, 1, 100);
    call(&mut kernel, 2, 100);
    wake(&mut kernel, 1, 0xa0, 100);
    wake(&mut kernel, 2, 0xb0, 100);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled); 2]);
    send(&mut kernel, 3, 0xc0, 100);
    for skb in [0xa0, 0xb0, 0xc0] {
        copy(&mut kernel, skb, (0, 100, 100));
    }
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn whoever_peeks_reads_twice() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.path().incomplete, None, "the reader has it");
    // The same memory is read again while another message is being sent: it is not that one.
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    wake(&mut kernel, TID, 0xb0, 100);
    copy(&mut kernel, 0xb0, (0, 100, 100));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY[..2].to_vec(), Some(Incomplete::Entangled)));

    // Now it is known, and what is early is not believed any more.
    send(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.path().incomplete, None);
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    wake(&mut kernel, TID, 0, 0);
    // What is not early is.
    send(&mut kernel, TID, 0xb0, 100);
    copy(&mut kernel, 0xb0, (0, 100, 100));
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Entangled), None]);
    assert_empty(&mut kernel);
}

#[test]
fn a_buffer_whose_call_was_lost_is_of_no_other_call() {
    let mut kernel = Kernel::new(by_kprobes());
    wake(&mut kernel, TID, 0xa0, 100);
    call(&mut kernel, TID, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY[1..].to_vec(), Some(Incomplete::StartNotSeen)));
    wake(&mut kernel, TID, 0xb0, 100);
    let read = copy(&mut kernel, 0xb0, (0, 100, 100));
    let path = kernel.path();
    assert_eq!((path.incomplete, time_at(&path, Point::UnixStreamRecvmsg)), (None, Some(read)));
    assert_empty(&mut kernel);
}

#[test]
fn more_than_was_asked_for_is_not_of_one_call() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 100);
    // That call's wake-up was lost, and the record of the next one.
    wake(&mut kernel, TID, 0xb0, 200);
    copy(&mut kernel, 0xb0, (0, 200, 200));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY[..2].to_vec(), Some(Incomplete::Entangled)));
    assert_empty(&mut kernel);
}

#[test]
fn an_entangled_call_lasts_until_its_thread_does_something_else() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1, 9000);
    send(&mut kernel, 2, 0xa0, 5000);
    wake(&mut kernel, 1, 0xb0, 5000);
    // As much was seen to be queued as the first one has to send, but not all of it was its own.
    send(&mut kernel, 2, 0xc0, 5000);
    send(&mut kernel, 1, 0xd0, 10);
    send(&mut kernel, 2, 0xe0, 10);
    copy(&mut kernel, 0xd0, (0, 10, 10));
    copy(&mut kernel, 0xe0, (0, 10, 10));
    let mut paths = kernel.finish();
    paths.sort_by_key(|path| path.id);
    let entangled = Some(Incomplete::Entangled);
    assert_eq!(reasons(&paths), [entangled, entangled, entangled, entangled, None]);
    assert_empty(&mut kernel);
}

#[test]
fn messages_whose_calls_are_not_seen_have_no_start() {
    let mut kernel = Kernel::new(by_kprobes());
    let start_not_seen = Some(Incomplete::StartNotSeen);
    // `sendmmsg`: the call is that of the first message.
    send(&mut kernel, TID, 0xa0, 100);
    wake(&mut kernel, TID, 0xb0, 50);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.path().incomplete, None);
    copy(&mut kernel, 0xb0, (0, 20, 50));
    let read = copy(&mut kernel, 0xb0, (20, 30, 50));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (WAY[1..].to_vec(), start_not_seen));
    assert_eq!((path.len, reads(&path), time_at(&path, Point::UnixStreamRecvmsg)), (50, 2, Some(read)));

    // Read in a way that is not seen; in other memory, too.
    wake(&mut kernel, TID, 0xb0, 50);
    send(&mut kernel, TID, 0xb0, 10);
    assert_eq!(reasons(&kernel.paths()), [start_not_seen]);
    copy(&mut kernel, 0xb0, (0, 10, 10));
    assert_eq!(kernel.path().incomplete, None);

    // Taken before its wake-up, and so not known; nor is what lies in the queue while another thread is sending.
    wake(&mut kernel, TID, 0, 0);
    call(&mut kernel, TID, 100);
    wake(&mut kernel, TID + 1, 0xc0, 100);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [start_not_seen; 2]);
    assert!(paths.iter().all(|path| hops(path) == WAY[1..2]), "{paths:#?}");
    wake(&mut kernel, TID, 0xc0, 100);
    copy(&mut kernel, 0xc0, (0, 100, 100));
    assert_eq!(kernel.path().incomplete, None);

    // Nobody reads it.
    wake(&mut kernel, TID, 0xd0, 50);
    assert_eq!(reasons(&kernel.finish()), [start_not_seen]);
    assert_empty(&mut kernel);
}

#[test]
fn memory_that_is_used_again_is_no_peek_where_copies_are_known_to_take() {
    let mut kernel = Kernel::new(by_kprobes());
    for _ in 0..2 {
        call(&mut kernel, TID, 100);
        let copy = UnixRecord { sk: CLIENT, skb: 0xa0, len: 100, total: 100, tid: READER, ..empty_copy() };
        kernel.unix(UnixRecord { marks: MARK_TAKEN, ..copy });
        wake(&mut kernel, TID, 0, 0);
        assert_eq!(kernel.path().incomplete, None);
    }
    assert_empty(&mut kernel);
}

fn empty_copy() -> UnixRecord {
    empty_unix(Point::UnixStreamRecvmsg, 0)
}
