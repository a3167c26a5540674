//! Connections, names, memory: what begins, ends and is used again.

use std::sync::Arc;

use tracer_common::{
    event::{AUX_UNKNOWN, MARK_LISTENS, UnixNameRecord, UnixRecord},
    probes::Point,
};

use super::{
    super::kernel::{Kernel, TID, by_kprobes, empty_unix, hops, reasons, unix_name_record},
    CLIENT, DGRAM, PEER, READER, accept, assert_empty, call, connect, copy, copy_datagram, send,
    send_datagram, wake, wake_datagram, wake_listener,
};
use crate::{correlate::Limits, decode::Record, model::Incomplete};

#[test]
fn memory_of_messages_is_used_again() {
    let mut kernel = Kernel::new(by_kprobes());
    for len in 1..10 {
        send(&mut kernel, TID, 0xa0, len);
        copy(&mut kernel, 0xa0, (0, len, len));
        let path = kernel.path();
        assert_eq!((path.len, path.incomplete), (len, None));
    }
    // Read in a way that was not seen.
    send(&mut kernel, TID, 0xa0, 100);
    send(&mut kernel, TID, 0xa0, 50);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::ReadNotSeen)]);
    copy(&mut kernel, 0xa0, (0, 50, 50));
    assert_eq!(kernel.path().len, 50);
    // And one that is read before its wake-up.
    send(&mut kernel, TID, 0xb0, 100);
    call(&mut kernel, TID, 50);
    copy(&mut kernel, 0xb0, (0, 50, 50));
    wake(&mut kernel, TID, 0, 0);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::ReadNotSeen), None]);
    assert_eq!((paths[0].len, paths[1].len), (100, 50));
    // By another socket.
    send(&mut kernel, TID, 0xa0, 100);
    let point = Point::UnixStreamRecvmsg;
    kernel.unix(UnixRecord {
        sk: 0xee,
        skb: 0xa0,
        len: 100,
        total: 100,
        tid: READER,
        ..empty_unix(point, 0)
    });
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::ReadNotSeen)]);
    assert_empty(&mut kernel);
}

#[test]
fn another_socket_in_the_same_memory_has_messages_and_a_name_of_its_own() {
    let mut kernel = Kernel::new(by_kprobes());
    let name = |kernel: &mut Kernel, inode, name| {
        let record = UnixNameRecord { inode, ..unix_name_record(CLIENT, name) };
        kernel.correlator.record(&Record::UnixName(Box::new(record)));
    };
    // Nobody has accepted it yet.
    name(&mut kernel, 0, b"");
    name(&mut kernel, 1, b"/run/a");
    send(&mut kernel, TID, 0xa0, 100);
    send(&mut kernel, TID, 0xb0, 100);
    name(&mut kernel, 1, b"/run/a");
    assert_eq!(kernel.paths(), [], "the kernel had forgotten it");
    // A socket is not gone before all its messages are. One half of a pair is in its place.
    name(&mut kernel, 2, b"");
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [Some(Incomplete::ReadNotSeen); 2]);
    assert!(paths.iter().all(|path| path.unix.as_ref().unwrap().inode == 1));
    send(&mut kernel, TID, 0xc0, 100);
    copy(&mut kernel, 0xc0, (0, 100, 100));
    let unix = kernel.path().unix.unwrap();
    assert_eq!((unix.name.as_deref(), unix.inode), (Some(&b""[..]), 2));
    assert_empty(&mut kernel);
}

#[test]
fn sockets_known_before_the_trace_have_no_name() {
    let mut kernel = Kernel::new(by_kprobes());
    send(&mut kernel, TID, 0xa0, 100);
    copy(&mut kernel, 0xa0, (0, 100, 100));
    let unix = kernel.path().unix.unwrap();
    assert_eq!((unix.name, unix.inode), (None, 0));
}

#[test]
fn a_server_may_accept_before_it_is_woken() {
    let mut kernel = Kernel::new(by_kprobes());
    connect(&mut kernel, TID, CLIENT);
    accept(&mut kernel, CLIENT);
    assert_eq!(kernel.paths(), []);
    wake_listener(&mut kernel, TID, 0);
    let path = kernel.path();
    assert_eq!(hops(&path), ["unix_stream_connect", "unix_accept", "sock_def_readable"]);
    assert_eq!(path.incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn a_connection_that_is_refused_is_not_whole() {
    let mut kernel = Kernel::new(by_kprobes());
    connect(&mut kernel, TID, CLIENT);
    // A datagram to somebody else, and another one's connection.
    wake(&mut kernel, TID, 0xa0, 1);
    wake_listener(&mut kernel, TID, 0xee);
    accept(&mut kernel, 0xee);
    assert_eq!(kernel.paths(), []);
    connect(&mut kernel, TID, CLIENT);
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (vec!["unix_stream_connect"], Some(Incomplete::CallFailed)));
    kernel.wait(2_000_000_001);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::CallFailed)]);
    wake_listener(&mut kernel, TID, CLIENT);
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::StartNotSeen)], "the datagram");
    assert_empty(&mut kernel);
}

/// Another process's socket lies in the same memory.
#[test]
fn a_refused_connection_was_not_queued() {
    let mut kernel = Kernel::new(by_kprobes());
    connect(&mut kernel, TID, CLIENT);
    connect(&mut kernel, TID + 7, CLIENT);
    assert_eq!(kernel.path().incomplete, Some(Incomplete::CallFailed));
}

#[test]
fn a_connection_that_nobody_accepts_waits() {
    let mut kernel = Kernel::new(by_kprobes());
    connect(&mut kernel, TID, CLIENT);
    wake_listener(&mut kernel, TID, CLIENT);
    kernel.wait(3_600_000_000_000);
    assert_eq!(kernel.paths(), []);
    // The server is gone; the socket connects to another one.
    connect(&mut kernel, TID, CLIENT);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::NeverRead)]);
    wake_listener(&mut kernel, TID, CLIENT);
    accept(&mut kernel, CLIENT);
    assert_eq!(kernel.path().incomplete, None);
    assert_empty(&mut kernel);
}

#[test]
fn a_datagram_socket_may_talk_to_others_later() {
    let mut kernel = Kernel::new(by_kprobes());
    for (name, skb) in [(&b"/run/a"[..], 0xa0), (b"/run/b", 0xb0)] {
        kernel.unix_name(CLIENT, name);
        send_datagram(&mut kernel, DGRAM, TID, 100);
        wake_datagram(&mut kernel, DGRAM, TID, CLIENT, skb, 100);
    }
    for skb in [0xa0, 0xb0] {
        copy_datagram(&mut kernel, DGRAM, READER, skb, 100, 100);
    }
    let names: Vec<_> = kernel.paths().into_iter().map(|path| path.unix.unwrap().name.unwrap()).collect();
    assert_eq!(names, [Arc::from(&b"/run/a"[..]), Arc::from(&b"/run/b"[..])]);
}

#[test]
fn a_stream_sends_nothing_that_is_empty() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 0);
    assert_empty(&mut kernel);
}

#[test]
fn names_end_where_the_kernel_ends_them() {
    let names: [(&[u8], &[u8]); 3] =
        [(b"/run/a\0junk", b"/run/a"), (b"\0abstract\0too", b"\0abstract\0too"), (b"", b"")];
    for (given, shown) in names {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.unix_name(CLIENT, given);
        connect(&mut kernel, TID, CLIENT);
        wake_listener(&mut kernel, TID, CLIENT);
        accept(&mut kernel, CLIENT);
        assert_eq!(kernel.path().unix.unwrap().name.as_deref(), Some(shown));
    }
}

#[test]
fn the_end_of_the_trace_in_every_state() {
    type Reach = fn(&mut Kernel);
    let states: [(&str, Reach, Option<Option<Incomplete>>); 9] = [
        ("calls", |kernel| _ = call(kernel, TID, 100), Some(Some(Incomplete::CallFailed))),
        (
            "queued in part",
            |kernel| {
                call(kernel, TID, 100);
                wake(kernel, TID, 0xa0, 60);
            },
            Some(Some(Incomplete::TraceEnded)),
        ),
        ("queued", |kernel| send(kernel, TID, 0xa0, 100), Some(Some(Incomplete::NotRead))),
        (
            "read in part",
            |kernel| {
                send(kernel, TID, 0xa0, 100);
                copy(kernel, 0xa0, (0, 60, 100));
            },
            Some(Some(Incomplete::NotRead)),
        ),
        (
            "read",
            |kernel| {
                send(kernel, TID, 0xa0, 100);
                copy(kernel, 0xa0, (0, 100, 100));
            },
            Some(None),
        ),
        (
            "of unknown length, read",
            |kernel| {
                call(kernel, TID, AUX_UNKNOWN);
                wake(kernel, TID, 0xa0, 60);
                copy(kernel, 0xa0, (0, 60, 60));
            },
            Some(None),
        ),
        (
            "taken",
            |kernel| {
                send_datagram(kernel, DGRAM, TID, 100);
                wake_datagram(kernel, DGRAM, TID, 0, 0, 0);
            },
            Some(Some(Incomplete::ReadNotSeen)),
        ),
        ("connects", |kernel| connect(kernel, TID, CLIENT), Some(Some(Incomplete::CallFailed))),
        (
            "connected",
            |kernel| {
                connect(kernel, TID, CLIENT);
                wake_listener(kernel, TID, CLIENT);
            },
            Some(Some(Incomplete::NotRead)),
        ),
    ];
    for (state, reach, expected) in states {
        let mut kernel = Kernel::new(by_kprobes());
        reach(&mut kernel);
        let paths = kernel.finish();
        assert_eq!(reasons(&paths).first().copied(), expected, "{state}");
        assert_eq!(paths.len(), 1, "{state}");
        assert_empty(&mut kernel);
    }
}

#[test]
fn after_the_close_no_call_begins() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1, 100);
    kernel.correlator.close(kernel.now_ns);
    let point = Point::UnixStreamSendmsg;
    kernel.unix(UnixRecord { sk: 0xd1, peer: 0xd2, tid: 2, len: 100, ..empty_unix(point, 0) });
    wake(&mut kernel, 1, 0xa0, 100);
    let point = Point::SockDefReadable;
    kernel.unix(UnixRecord { sk: 0xd2, peer: 0xd1, skb: 0xb0, tid: 2, len: 100, ..empty_unix(point, 0) });
    copy(&mut kernel, 0xa0, (0, 100, 100));
    assert_eq!(kernel.path().id, 1);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn thousands_of_unread_messages_take_no_time() {
    let mut kernel = Kernel::limited(by_kprobes(), Limits { in_flight: 300_000, ..Limits::default() });
    let mut at = 0u32;
    for _ in 0..100_000 {
        at += 1;
        send(&mut kernel, TID, 0x1000 + u64::from(at), 10);
    }
    for _ in 0..3 {
        for at in 1..=100_000 {
            copy(&mut kernel, 0x1000 + at, (0, 10, 10));
            send(&mut kernel, TID, 0x1000 + at, 10);
        }
    }
    let paths = kernel.paths();
    assert_eq!(paths.len(), 300_000);
    assert!(paths.iter().all(|path| path.incomplete.is_none()));
    assert_eq!(kernel.finish().len(), 100_000);
    assert_empty(&mut kernel);
}

#[test]
fn messages_that_make_room_leave_nothing_behind() {
    let mut kernel = Kernel::limited(by_kprobes(), Limits { in_flight: 100, known: 10, ..Limits::default() });
    for at in 0..20_000u32 {
        let (sk, skb, tid) = (u64::from(at) << 8, u64::from(at) << 8 | 1, at);
        let point = [Point::UnixStreamSendmsg, Point::UnixStreamConnect][at as usize % 2];
        kernel.unix(UnixRecord { sk, peer: PEER, tid, len: 500, ..empty_unix(point, 0) });
        let wake =
            UnixRecord { sk: PEER, peer: sk, skb, tid, len: 50, ..empty_unix(Point::SockDefReadable, 0) };
        kernel.unix(UnixRecord { marks: if at % 2 == 0 { 0 } else { MARK_LISTENS }, ..wake });
    }
    let sizes = kernel.correlator.unix.sizes();
    assert!(sizes.iter().all(|size| *size <= 1300), "{sizes:?}");
    assert_eq!(kernel.correlator.unix.unread(), 50);
    // A call without end.
    let mut kernel = Kernel::limited(by_kprobes(), Limits { in_flight: 100, known: 10, ..Limits::default() });
    call(&mut kernel, TID, u32::MAX - 1);
    for at in 0..20_000u32 {
        wake(&mut kernel, TID, u64::from(at) << 8 | 1, 1);
    }
    let sizes = kernel.correlator.unix.sizes();
    assert!(sizes.iter().all(|size| *size <= 2400), "{sizes:?}");
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::TooMany)]);
}
