//! From one process to another, over every kind of socket: each message one whole path, from the send call to the read,
//! with both processes.

use std::{
    io::{Read, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    peer::{NAME, Peer, Place, SIZE},
    support::{Said, Trace, backends, free_port, hops},
};

const ROUNDS: usize = 25;

/// What lies between the send call of a transport over IP and its receive function.
const OVER_LOOPBACK: [&str; 4] =
    ["dev_queue_xmit", "loopback_xmit", "enqueue_to_backlog", "netif_receive_skb"];

fn way_over_loopback<'a>(before: &[&'a str], behind: &[&'a str]) -> Vec<&'a str> {
    [before, &OVER_LOOPBACK, behind].concat()
}

/// Traces questions to another process and its answers.
fn talk(backend: &str, place: &Place, filter: [&str; 2]) -> (Said, u32) {
    let peer = Peer::echo(place);
    let trace = Trace::start(backend, &filter);
    place.ask(ROUNDS);
    let mut said = trace.stop();
    // A machine that stands still for long enough makes TCP send again, which is no new message.
    said.paths.retain(|path| path["retransmitted"] != true);
    (said, peer.pid())
}

/// Whatever the kind of socket is.
fn assert_both_ends(said: &Said, peer: u32) {
    said.assert_whole();
    let messages = said.messages();
    assert_eq!(messages.len(), 2 * ROUNDS, "{:#?}", said.paths);
    // SAFETY: no memory is involved.
    let thread = Value::from(unsafe { libc::gettid() });
    let this = (Value::from(std::process::id()), Some(thread), None);
    let other = (Value::from(peer), None, Some(NAME));
    for (at, message) in said.whole_messages() {
        assert_eq!(message["len"], SIZE, "{message}");
        let (from, to) = if at % 2 == 0 { (&this, &other) } else { (&other, &this) };
        for (end, (pid, tid, comm)) in [("sender", from), ("receiver", to)] {
            assert_eq!(message[end]["pid"], *pid, "{end} of message {at}: {message}");
            let thread = &message[end]["tid"];
            let is_it = tid.as_ref().map_or(thread.is_u64(), |tid| tid == thread);
            assert!(is_it, "{end} of message {at}: {message}");
            let name = message[end]["comm"].as_str().unwrap();
            assert!(comm.map_or(!name.is_empty(), |comm| comm == name), "{end} of message {at}: {message}");
        }
        assert_shares(message);
    }
    let slept = messages.iter().filter(|message| hops(message).contains(&"sched_switch")).count();
    assert!(slept > 0, "no reader was ever asleep: {}\n{}\n{messages:#?}", said.summary, said.stderr);
}

/// The parts add up, and are there where the wake-up was seen. (A reader that is running may read what is in the queue before its sender
/// comes to wake it.)
fn assert_shares(message: &Value) {
    let shares = &message["shares"];
    let hops = hops(message);
    let at = |is_it: &dyn Fn(&str) -> bool| hops.iter().position(|hop| is_it(hop));
    let (woken, read) = (at(&|hop| hop == "sock_def_readable"), at(&|hop| hop.ends_with("_recvmsg")));
    let is_woken = woken.is_some_and(|woken| read.is_none_or(|read| woken < read));
    assert_eq!(shares.is_null(), !is_woken, "{message}");
    if !shares.is_null() {
        let sum: u64 = ["kernel_ns", "scheduler_ns", "reader_ns"]
            .iter()
            .map(|part| shares[part].as_u64().unwrap())
            .sum();
        assert_eq!(message["total_ns"], sum, "{message}");
    }
}

#[test]
fn over_tcp() {
    for backend in backends() {
        for (address, network, receive) in [
            (Ipv4Addr::LOCALHOST.into(), "ip_queue_xmit", "tcp_v4_rcv"),
            (Ipv6Addr::LOCALHOST.into(), "ip6_xmit", "tcp_v6_rcv"),
        ] {
            let port = free_port();
            let place = Place::Tcp(SocketAddr::new(address, port));
            let (said, peer) = talk(&backend, &place, ["--port", &port.to_string()]);
            assert_both_ends(&said, peer);
            let way = way_over_loopback(&["tcp_sendmsg", network], &[receive, "tcp_recvmsg"]);
            for (_, message) in said.whole_messages() {
                said.assert_way(message, &way);
                assert_eq!((&message["flow"]["proto"], &message["device"]), (&"tcp".into(), &"lo".into()));
                assert_eq!(message["route"], "cached", "{message}");
                assert_eq!(message["retransmitted"], false, "{message}");
            }
        }
    }
}

#[test]
fn over_udp() {
    for backend in backends() {
        for (address, send, receive) in [
            (Ipv4Addr::LOCALHOST.into(), "udp_sendmsg", "udp_rcv"),
            (Ipv6Addr::LOCALHOST.into(), "udpv6_sendmsg", "udpv6_rcv"),
        ] {
            let port = free_port();
            let place = Place::Udp(SocketAddr::new(address, port));
            let (said, peer) = talk(&backend, &place, ["--port", &port.to_string()]);
            assert_both_ends(&said, peer);
            assert_eq!(said.paths.len(), 2 * ROUNDS, "nothing but the messages: {:#?}", said.paths);
            // Before the first one `connect` has asked where it goes, which the tests of routes look at.
            for (_, message) in said.whole_messages().filter(|(at, _)| *at > 0) {
                // The server's socket is connected to nobody, so each of its answers asks where it goes.
                let asks = |hop: &str| hop.ends_with("_lookup");
                let mut way = way_over_loopback(&[send], &[receive, "udp_recvmsg"]);
                way.splice(1..1, hops(message).into_iter().filter(|hop| asks(hop)));
                said.assert_way(message, &way);
                assert_eq!((&message["flow"]["proto"], &message["device"]), (&"udp".into(), &"lo".into()));
                let is_answer = message["flow"]["src"] == SocketAddr::new(address, port).to_string();
                let route = if is_answer { "asked" } else { "cached" };
                assert_eq!(message["route"], route, "{message}");
            }
        }
    }
}

#[test]
fn over_a_unix_stream() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("stream");
        let name_text = name.to_str().unwrap().to_owned();
        let (said, peer) = talk(&backend, &Place::UnixStream(name), ["--unix", &name_text]);
        assert_both_ends(&said, peer);
        assert_eq!(said.paths.len(), 2 * ROUNDS + 1, "the messages and a connection: {:#?}", said.paths);
        for (_, message) in said.whole_messages() {
            said.assert_way(message, &["unix_stream_sendmsg", "unix_stream_recvmsg"]);
        }
        let connection = said.paths.iter().find(|path| path["len"] == 0).unwrap();
        said.assert_way(connection, &["unix_stream_connect", "unix_accept"]);
        assert_eq!(connection["sender"]["pid"], std::process::id(), "{connection}");
        assert_eq!(connection["receiver"]["pid"], peer, "{connection}");
        for path in &said.paths {
            assert_eq!(path["flow"]["path"], name_text.as_str(), "{path}");
            assert_eq!((&path["flow"]["proto"], &path["flow"]["type"]), (&"unix".into(), &"stream".into()));
        }
    }
}

#[test]
fn over_unix_datagrams() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("datagrams");
        // The client's socket has a name that begins alike.
        let pattern = format!("{}*", name.display());
        let name_text = name.to_str().unwrap().to_owned();
        let (said, peer) = talk(&backend, &Place::UnixDatagram(name), ["--unix", &pattern]);
        assert_both_ends(&said, peer);
        assert_eq!(said.paths.len(), 2 * ROUNDS, "nothing but the messages: {:#?}", said.paths);
        for (_, message) in said.whole_messages() {
            said.assert_way(message, &["unix_dgram_sendmsg", "unix_dgram_recvmsg"]);
            assert_eq!(message["flow"]["type"], "dgram", "{message}");
            let shown = message["flow"]["path"].as_str().unwrap();
            assert!(shown.starts_with(&name_text), "{message}");
        }
    }
}

/// A timer that wakes the reader while data comes for it is no part of the delivery.
#[test]
fn a_reader_that_sleeps_for_another_reason_is_not_woken_by_its_data() {
    const MESSAGES: usize = 50;
    fn poll(mut reader: impl Read) {
        let mut received = 0;
        while received < 10 * MESSAGES {
            thread::sleep(Duration::from_micros(300));
            if let Ok(len) = reader.read(&mut [0; 100]) {
                received += len;
            }
        }
    }
    for backend in backends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let trace = Trace::start(&backend, &["--dport", &at.port().to_string()]);
        let mut sender = TcpStream::connect(at).unwrap();
        sender.set_nodelay(true).unwrap();
        let (reader, _) = listener.accept().unwrap();
        reader.set_nonblocking(true).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| poll(&reader));
            for _ in 0..MESSAGES {
                sender.write_all(&[1; 10]).unwrap();
                // The reader's timer comes at any time after the data.
                let sent = Instant::now();
                while sent.elapsed() < Duration::from_micros(700) {
                    std::hint::spin_loop();
                }
            }
        });
        let said = trace.stop();
        assert!(said.messages().len() >= MESSAGES, "{}", said.summary);
        for path in said.messages() {
            assert!(!hops(path).contains(&"sched_waking"), "{path}");
        }
    }
}
