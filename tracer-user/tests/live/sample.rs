//! One of so many messages is traced, and each of those from its call to its read.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    thread,
};

use serde_json::Value;

use crate::{
    peer::Peer,
    support::{Said, Trace, backends, free_port, hops, ping_pong, round_trips, wait_until},
};

/// Round trips: twice as many messages.
const ROUNDS: usize = 1000;

/// One of so many.
const SAMPLE: usize = 16;

/// About as many messages are expected as were drawn. The bounds are five standard deviations away.
fn assert_share(said: &Said, messages: usize, sent: usize) {
    let expected = sent / SAMPLE;
    assert!((expected / 2..expected * 3 / 2).contains(&messages), "{messages} of {sent}: {}", said.summary);
    assert_eq!(said.summary["sample"], SAMPLE, "{}", said.summary);
    // Of the others nothing comes.
    let events = said.summary["events"].as_u64().unwrap();
    assert!(events < messages as u64 * 20 + 1000, "{events} events of {messages} messages");
}

/// Each message has the call and the read, and what is between them like all others, but for what depends on the moment.
fn assert_like_each_other(said: &Said, calls: &str, reads: &str) {
    let dark = said.dark();
    let mut ways: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    // An emulated machine stands still at times, and segments are sent again without a call; or it skips a program.
    let is_usual = |message: &&&Value| message["retransmitted"] != true && message["complete"] == true;
    for message in said.messages().iter().filter(is_usual) {
        // A reader that is running may even read before it is woken.
        let by_chance = |hop: &&str| {
            ["process_backlog", "sock_def_readable", "sched_waking", "sched_switch"].contains(hop)
        };
        let way: Vec<&str> = hops(message).into_iter().filter(|hop| !by_chance(hop)).collect();
        assert!(dark.contains(&calls) || way.first() == Some(&calls), "{message}");
        assert!(dark.contains(&reads) || way.last() == Some(&reads), "{message}");
        *ways.entry(way).or_default() += 1;
    }
    assert_eq!(ways.len(), 1, "{ways:?}");
}

#[test]
fn segments_of_drawn_calls_are_whole() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string(), "--sample", &SAMPLE.to_string()]);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), ROUNDS, 100);
        let said = trace.stop();
        said.assert_whole();
        assert_share(&said, said.messages().len(), 2 * ROUNDS);
        assert_like_each_other(&said, "tcp_sendmsg", "tcp_recvmsg");
    }
}

/// Who only reads makes a conversation a wanted one, before any call on it was drawn.
#[test]
fn what_a_wanted_process_only_reads_is_sampled() {
    // Each waits for a delayed acknowledgement.
    const MESSAGES: usize = 60;
    for backend in backends() {
        let at = (Ipv4Addr::LOCALHOST, free_port()).into();
        let sink = Peer::sink(at);
        let trace = Trace::start(&backend, &["--pid", &sink.pid().to_string(), "--sample", "2"]);
        let mut client = TcpStream::connect(at).unwrap();
        client.set_nodelay(true).unwrap();
        for _ in 0..MESSAGES {
            client.write_all(&[1; 100]).unwrap();
            // One after the other: of calls that are under way together no more than one is traced.
            wait_until("all was acknowledged", || unacknowledged(&client) == 0);
        }
        let said = trace.stop();
        let messages = said.messages();
        // The first ones were not wanted yet.
        assert!(messages.len() > MESSAGES / 8, "{} of {MESSAGES}: {}", messages.len(), said.summary);
        assert!(messages.iter().all(|message| message["receiver"]["pid"] == sink.pid()), "{messages:#?}");
    }
}

/// Bytes in a socket's send queue (`SIOCOUTQ`).
fn unacknowledged(socket: &TcpStream) -> i32 {
    let mut bytes = 0;
    // SAFETY: `bytes` is an `int` that lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    assert_eq!(result, 0);
    bytes
}

#[test]
fn messages_of_drawn_calls_are_whole() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let name = path.display().to_string();
        let trace = Trace::start(&backend, &["--unix", &name, "--sample", &SAMPLE.to_string()]);
        let server = thread::spawn(move || listener.accept().unwrap().0);
        let client = UnixStream::connect(&path).unwrap();
        round_trips(client, server.join().unwrap(), ROUNDS, 100);
        let said = trace.stop();
        said.assert_whole();
        assert_share(&said, said.messages().len(), 2 * ROUNDS);
        assert_like_each_other(&said, "unix_stream_sendmsg", "unix_stream_recvmsg");
    }
}

#[test]
fn drawn_datagrams_are_whole() {
    for backend in backends() {
        let [one, other] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        one.connect(other.local_addr().unwrap()).unwrap();
        let port = other.local_addr().unwrap().port();
        let trace = Trace::start(&backend, &["--port", &port.to_string(), "--sample", &SAMPLE.to_string()]);
        let mut buffer = [0; 100];
        for number in 0..2 * ROUNDS {
            buffer[..8].copy_from_slice(&number.to_ne_bytes());
            one.send(&buffer).unwrap();
            other.recv(&mut buffer).unwrap();
        }
        let said = trace.stop();
        said.assert_whole();
        assert_share(&said, said.messages().len(), 2 * ROUNDS);
        assert_like_each_other(&said, "udp_sendmsg", "udp_recvmsg");
    }
}
