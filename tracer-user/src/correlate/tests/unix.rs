//! Calls on UNIX sockets and the wake-ups that end them.

use tracer_common::{
    event::{HopRecord, NO_FLOW},
    probes::Point,
};

use super::kernel::{BACK, Kernel, TID, by_kprobes, data, empty, hops, reasons, way_and, without};
use crate::model::Incomplete;

const CLIENT: u64 = 0xc1;
const PEER: u64 = 0xc2;
const LISTENER: u64 = 0xc3;

fn connect(kernel: &mut Kernel, tid: u32, sk: u64) {
    kernel.hop(HopRecord { sk, tid, ..empty(Point::UnixStreamConnect, 0) });
}

fn send(kernel: &mut Kernel, tid: u32, sk: u64, peer: u64) {
    kernel.hop(HopRecord { sk, tid, skb: peer, len: 100, ..empty(Point::UnixStreamSendmsg, 0) });
}

fn wake(kernel: &mut Kernel, tid: u32, sk: u64) {
    kernel.hop(HopRecord { sk, tid, ..empty(Point::SockDefReadable, 0) });
}

#[test]
fn a_connection_and_a_message() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.unix_name(CLIENT, b"/run/app.sock");
    connect(&mut kernel, TID, CLIENT);
    wake(&mut kernel, TID, LISTENER);
    send(&mut kernel, TID, CLIENT, PEER);
    wake(&mut kernel, TID, PEER);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None, None]);
    assert_eq!(hops(&paths[0]), ["unix_stream_connect", "sock_def_readable"]);
    assert_eq!(hops(&paths[1]), ["unix_stream_sendmsg", "sock_def_readable"]);
    assert_eq!((paths[1].len, paths[1].sender.unwrap().pid, paths[1].flow), (100, 50, None));
    assert!(paths.iter().all(|path| path.unix_name.as_deref() == Some(b"/run/app.sock")));
}

#[test]
fn threads_are_kept_apart() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, 1, 0xd1, PEER);
    send(&mut kernel, 2, 0xd2, PEER);
    wake(&mut kernel, 2, PEER);
    wake(&mut kernel, 1, PEER);
    let paths = kernel.paths();
    assert!(paths.iter().map(|path| path.id).eq([2, 1]), "{paths:#?}");
    assert!(paths[0].hops[1].time_ns < paths[1].hops[1].time_ns);
}

#[test]
fn a_message_wakes_its_peer_and_nobody_else() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, CLIENT, PEER);
    wake(&mut kernel, TID, 0xee);
    assert_eq!(kernel.paths(), []);
    wake(&mut kernel, TID, PEER);
    assert_eq!(kernel.path().incomplete, None);
    // A long message wakes more than once.
    wake(&mut kernel, TID, PEER);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_call_that_failed_is_not_whole() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, CLIENT, PEER);
    send(&mut kernel, TID, CLIENT, PEER);
    wake(&mut kernel, TID, PEER);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::LostTrack), None]);
    send(&mut kernel, TID, CLIENT, PEER);
    kernel.wait(2_000_000_001);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::LostTrack)]);
    wake(&mut kernel, TID, PEER);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_connect_that_failed_does_not_take_a_later_wake_up() {
    let mut kernel = Kernel::new(by_kprobes());
    connect(&mut kernel, TID, CLIENT);
    // A datagram to somebody else.
    kernel.now_ns += 30_000_000;
    wake(&mut kernel, TID, 0xee);
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::TraceEnded)]);
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
    wake(&mut kernel, TID, LISTENER);
    assert_eq!(hops(&kernel.path()), ["unix_stream_connect", "sock_def_readable"]);
    kernel.read(1, 1010);
    assert_eq!(hops(&kernel.path()), way_and(&["sock_def_readable", "tcp_recvmsg"]));
}

#[test]
fn names_end_where_the_kernel_ends_them() {
    let names: [(&[u8], &[u8]); 3] =
        [(b"/run/a\0junk", b"/run/a"), (b"\0abstract\0too", b"\0abstract\0too"), (b"", b"")];
    for (given, shown) in names {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.unix_name(CLIENT, given);
        connect(&mut kernel, TID, CLIENT);
        wake(&mut kernel, TID, LISTENER);
        assert_eq!(kernel.path().unix_name.as_deref(), Some(shown));
    }
}

#[test]
fn another_socket_in_the_same_memory_has_another_name() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.unix_name(CLIENT, b"/run/a");
    send(&mut kernel, TID, CLIENT, PEER);
    wake(&mut kernel, TID, PEER);
    // One half of a pair that was never connected by name.
    for _ in 0..2 {
        send(&mut kernel, TID, CLIENT, 0xee);
        wake(&mut kernel, TID, 0xee);
    }
    let names: Vec<_> = kernel.paths().into_iter().map(|path| path.unix_name.unwrap()).collect();
    assert_eq!(names, [(&b"/run/a"[..]).into(), (&b""[..]).into(), (&b""[..]).into()]);
}

#[test]
fn where_wake_ups_are_not_seen_the_call_is_the_end() {
    let mut kernel = Kernel::new(without(&[Point::SockDefReadable]));
    send(&mut kernel, TID, CLIENT, PEER);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn after_the_close_no_call_begins() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, 1, CLIENT, PEER);
    kernel.correlator.close(kernel.now_ns);
    send(&mut kernel, 2, CLIENT, PEER);
    wake(&mut kernel, 1, PEER);
    wake(&mut kernel, 2, PEER);
    assert_eq!(kernel.path().id, 1);
    assert_eq!(kernel.finish(), []);
}
