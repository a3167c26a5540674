//! Calls that look like others: reads that only look, several messages at once, calls that are not known.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    process,
};

use super::{pair, receive, send};
use crate::support::{Trace, backends, hops};

/// What a path says whose call is none of those that are known.
const NO_START: &str = "its start was not seen";

const KINDS: [i32; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];

fn own_sockets() -> [String; 4] {
    ["--proto", "unix", "--pid", &process::id().to_string()].map(str::to_owned)
}

fn peek(at: &OwnedFd, len: usize) {
    let mut bytes = vec![0u8; len];
    // SAFETY: the pointer and the length describe `bytes`, which lives through the call.
    let got = unsafe { libc::recv(at.as_raw_fd(), bytes.as_mut_ptr().cast(), len, libc::MSG_PEEK) };
    assert_eq!(usize::try_from(got), Ok(len), "{}", std::io::Error::last_os_error());
}

#[test]
fn who_peeks_does_not_read() {
    for backend in backends() {
        for kind in KINDS {
            let (one, other) = pair(kind);
            let trace = Trace::start(&backend, &own_sockets());
            for looks in [100, 4] {
                send(&one, &[1; 100]);
                peek(&other, looks);
                // What is sent after the look, and before the read.
                send(&other, &[1; 7]);
                assert_eq!(receive(&one), 7);
                assert_eq!(receive(&other), 100);
            }
            let said = trace.stop();
            said.assert_whole();
            // Who looks at a stream is told from who reads it from 5.15 on (`bpf_task_pt_regs`).
            if said.stderr.starts_with("Linux 5.10") && kind == KINDS[0] {
                continue;
            }
            let messages = said.messages();
            assert_eq!(messages.len(), 4, "{:#?}", said.paths);
            for turn in messages.chunks(2) {
                let time = |path: &serde_json::Value, field: &str| path[field].as_u64().unwrap();
                let read = time(turn[0], "time_ns") + time(turn[0], "total_ns");
                assert!(read > time(turn[1], "time_ns") + time(turn[1], "total_ns"), "{turn:#?}");
                assert_eq!(turn[0]["unix"]["reads"], 1, "{turn:#?}");
            }
        }
    }
}

/// Sends messages of these lengths in one call.
fn send_several(to: &OwnedFd, lengths: &[usize]) {
    let bytes = [1u8; 64];
    let mut vectors: Vec<libc::iovec> = lengths
        .iter()
        .map(|len| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: *len })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = vectors
        .iter_mut()
        .map(|vector| {
            // SAFETY: `mmsghdr` is plain data, and zeroes are a value of it.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = u32::try_from(messages.len()).unwrap();
    // SAFETY: the headers point to vectors, and these to bytes, that live through the call.
    let sent = unsafe { libc::sendmmsg(to.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    assert_eq!(sent, count.cast_signed(), "{}", std::io::Error::last_os_error());
}

#[test]
fn each_message_of_one_call_is_accounted_for() {
    for backend in backends() {
        for kind in KINDS {
            let (one, other) = pair(kind);
            let trace = Trace::start(&backend, &own_sockets());
            send_several(&one, &[10, 11, 12]);
            let mut left = 33;
            while left > 0 {
                left -= receive(&other);
            }
            let said = trace.stop();
            let messages = said.messages();
            let lengths: Vec<u64> = messages.iter().map(|path| path["len"].as_u64().unwrap()).collect();
            assert_eq!(lengths, [10, 11, 12], "{:#?}", said.paths);
            assert_eq!(messages[0]["complete"], true, "{:#?}", said.paths);
            for path in messages {
                assert!(path["complete"] == true || path["incomplete_reason"] == NO_START, "{path}");
                assert!(hops(path).last().unwrap().ends_with("_recvmsg"), "{path}");
            }
        }
    }
}

#[test]
fn calls_that_are_not_known_are_no_secret() {
    for backend in backends() {
        for kind in KINDS {
            let (one, other) = pair(kind);
            let trace = Trace::start(&backend, &own_sockets());
            for len in [10, 20] {
                let bytes = [1u8; 64];
                let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: len };
                // SAFETY: the vector points to bytes that live through the call.
                let sent = unsafe { libc::pwritev2(one.as_raw_fd(), &raw const vector, 1, -1, 0) };
                assert_eq!(usize::try_from(sent), Ok(len), "{}", std::io::Error::last_os_error());
                assert_eq!(receive(&other), len);
            }
            let said = trace.stop();
            let lengths: Vec<u64> =
                said.messages().iter().map(|path| path["len"].as_u64().unwrap()).collect();
            assert_eq!(lengths, [10, 20], "{:#?}", said.paths);
            for path in said.messages() {
                assert!(path["complete"] == true || path["incomplete_reason"] == NO_START, "{path}");
                assert!(hops(path).last().unwrap().ends_with("_recvmsg"), "{path}");
                assert!(!path["flow"]["inode"].is_null(), "{path}");
            }
        }
    }
}

#[test]
fn an_empty_send_on_a_stream_is_no_message() {
    for backend in backends() {
        let (one, _other) = pair(libc::SOCK_STREAM);
        let trace = Trace::start(&backend, &own_sockets());
        send(&one, &[]);
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.paths.len(), 0, "{:#?}", said.paths);
    }
}
