//! Datagrams: each one path, whoever its socket is connected to; and what becomes of one that nobody waits for.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

use crate::support::{Said, Trace, backends, free_port, hops, set_option};

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Whether the routing table was asked for it.
fn asked(path: &Value) -> bool {
    hops(path).iter().any(|hop| hop.ends_with("_lookup"))
}

fn lengths(said: &Said) -> Vec<u64> {
    said.messages().iter().map(|path| path["len"].as_u64().unwrap()).collect()
}

#[test]
fn a_connected_socket_asks_for_its_route_once_and_another_one_each_time() {
    for backend in backends() {
        for address in ADDRESSES {
            for connected in [true, false] {
                let receiver = UdpSocket::bind((address, 0)).unwrap();
                let to = receiver.local_addr().unwrap();
                let sender = UdpSocket::bind((address, 0)).unwrap();
                if connected {
                    sender.connect(to).unwrap();
                }
                let trace = Trace::start(&backend, &["--dport", &to.port().to_string()]);
                for len in 1..=10 {
                    let message = vec![1; len];
                    let sent = if connected { sender.send(&message) } else { sender.send_to(&message, to) };
                    assert_eq!(sent.unwrap(), len);
                    assert_eq!(receiver.recv(&mut [0; 20]).unwrap(), len);
                }
                let said = trace.stop();
                said.assert_whole();
                assert_eq!(lengths(&said), (1..=10).collect::<Vec<u64>>(), "{:#?}", said.paths);
                for path in said.messages() {
                    assert_eq!(asked(path), !connected, "{path}");
                    assert_eq!(path["flow"]["src"], sender.local_addr().unwrap().to_string(), "{path}");
                    assert_eq!(path["flow"]["dst"], to.to_string(), "{path}");
                    assert_eq!(path["sender"]["pid"], std::process::id(), "{path}");
                    assert_eq!(path["receiver"]["pid"], std::process::id(), "{path}");
                }
            }
        }
    }
}

/// Reads say only how much they took: which datagram it was must come out right with many of them in the queue.
#[test]
fn datagrams_that_wait_in_a_queue_are_read_in_order() {
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        for len in 1..=40usize {
            sender.send_to(&vec![1; len], to).unwrap();
        }
        for len in 1..=40 {
            assert_eq!(receiver.recv(&mut [0; 100]).unwrap(), len);
        }
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(lengths(&said), (1..=40).collect::<Vec<u64>>(), "{:#?}", said.paths);
        let mut reads = Vec::new();
        for path in said.messages() {
            let last = path["hops"].as_array().unwrap().last().unwrap();
            assert_eq!(last["hop"], "udp_recvmsg", "{path}");
            reads.push(path["time_ns"].as_u64().unwrap() + last["ns"].as_u64().unwrap());
        }
        assert!(reads.is_sorted(), "{:#?}", said.paths);
    }
}

/// What was in the queue before, and a look that leaves the datagram there, must not shift the rest.
#[test]
fn what_came_before_and_what_is_only_looked_at_shift_nothing() {
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for len in 1..=3usize {
            sender.send_to(&vec![1; len], to).unwrap();
        }
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        for len in 4..=20usize {
            sender.send_to(&vec![1; len], to).unwrap();
        }
        for len in 1..=20 {
            assert_eq!(receiver.peek(&mut [0; 100]).unwrap(), len);
            assert_eq!(receiver.recv(&mut [0; 100]).unwrap(), len);
        }
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(lengths(&said), (4..=20).collect::<Vec<u64>>(), "{:#?}", said.paths);
        assert!(said.messages().iter().all(|path| hops(path).last() == Some(&"udp_recvmsg")));
    }
}

/// It may take a datagram before its wake-up is over.
#[test]
fn a_reader_that_never_sleeps_is_seen_too() {
    const DATAGRAMS: usize = 500;
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let to = receiver.local_addr().unwrap();
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        let read = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while read.load(Ordering::Relaxed) < DATAGRAMS {
                    match receiver.recv(&mut [0; 20]) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        len => {
                            assert_eq!(len.unwrap(), 10);
                            read.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
            let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            for sent in 0..DATAGRAMS {
                // The socket has room for more than that.
                while sent - read.load(Ordering::Relaxed).min(sent) > 50 {
                    std::thread::yield_now();
                }
                sender.send_to(&[1; 10], to).unwrap();
            }
        });
        let said = trace.stop();
        assert_eq!(said.paths.len(), DATAGRAMS, "{}", said.summary);
        // The tracepoint does not name the datagram, and where the reader races the wake-up it cannot always be told.
        let is_named = |path: &Value| {
            let hops = path["hops"].as_array().unwrap();
            hops.iter().all(|hop| hop["hop"] != "udp_recvmsg" || hop["backend"] != "tracepoint")
        };
        // Of the first one the read may not be there.
        let names_datagrams = said.paths.iter().all(is_named);
        let unclear = said.paths.iter().filter(|path| path["complete"] != true).count();
        assert!(unclear <= if names_datagrams { 0 } else { DATAGRAMS / 4 }, "{}", said.summary);
        let read = said.paths.iter().filter(|path| hops(path).last() == Some(&"udp_recvmsg")).count();
        assert_eq!(read + unclear, DATAGRAMS, "{}", said.summary);
    }
}

#[test]
fn a_datagram_of_no_bytes_has_a_path_too() {
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        sender.send_to(&[], to).unwrap();
        assert_eq!(receiver.recv(&mut [0; 20]).unwrap(), 0);
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.paths.len(), 1, "{:#?}", said.paths);
        assert_eq!(hops(&said.paths[0]).last(), Some(&"udp_recvmsg"), "{}", said.paths[0]);
    }
}

/// Of a datagram without bytes the length does not say that it stays in the queue.
#[test]
fn a_look_at_a_datagram_of_no_bytes_is_no_read() {
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        sender.send_to(&[], to).unwrap();
        assert_eq!(receiver.peek(&mut [0; 20]).unwrap(), 0);
        sender.send_to(&[1], to).unwrap();
        assert_eq!(receiver.recv(&mut [0; 20]).unwrap(), 0);
        assert_eq!(receiver.recv(&mut [0; 20]).unwrap(), 1);
        let said = trace.stop();
        said.assert_whole();
        let of_len = |len: u64| said.paths.iter().find(|path| path["len"] == len).unwrap();
        let (first, second) = (of_len(0), of_len(1));
        let read = first["hops"].as_array().unwrap().last().unwrap();
        assert_eq!(read["hop"], "udp_recvmsg", "{first}");
        let read_ns = first["time_ns"].as_u64().unwrap() + read["ns"].as_u64().unwrap();
        assert!(read_ns > second["time_ns"].as_u64().unwrap(), "{first} {second}");
    }
}

/// `MSG_ERRQUEUE` takes from another queue.
#[test]
fn who_reads_an_error_reads_no_datagram() {
    const ERRORS: u64 = 100;
    for backend in backends() {
        let events = [false, true].map(|reads| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let own = socket.local_addr().unwrap();
            set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, &1i32);
            let closed = (Ipv4Addr::LOCALHOST, free_port());
            let trace = Trace::start(&backend, &["--sport", &own.port().to_string(), "--proto", "udp"]);
            socket.send_to(&[1; 10], own).unwrap();
            socket.recv(&mut [0; 10]).unwrap();
            for _ in 0..ERRORS {
                socket.send_to(&[1; 10], closed).unwrap();
                // Else the next call says it.
                let _ = socket.take_error();
                if reads {
                    let mut bytes = [0u8; 10];
                    // SAFETY: the pointer and the length describe `bytes`, which lives through the call.
                    let got = unsafe {
                        libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), 10, libc::MSG_ERRQUEUE)
                    };
                    assert_eq!(got, 10);
                }
            }
            let said = trace.stop();
            said.assert_whole();
            said.summary["events"].as_u64().unwrap()
        });
        // How often the scheduler is seen is chance.
        assert!(events[1] < events[0] + ERRORS / 2, "{events:?}");
    }
}

#[test]
fn what_nobody_waits_for_is_dropped_and_answered() {
    for backend in backends() {
        for address in ADDRESSES {
            let closed = SocketAddr::new(address, free_port());
            let sender = UdpSocket::bind((address, 0)).unwrap();
            sender.connect(closed).unwrap();
            let trace = Trace::start(&backend, &["--port", &closed.port().to_string()]);
            sender.send(&[1; 10]).unwrap();
            let error = sender.recv(&mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            let said = trace.stop();
            said.assert_whole();
            assert_eq!(said.paths.len(), 2, "{:#?}", said.paths);

            let [datagram] = said.messages()[..] else { panic!("one datagram: {:#?}", said.paths) };
            assert_eq!(hops(datagram).last(), Some(&"kfree_skb"), "{datagram}");
            let dropped = &datagram["dropped"];
            assert!(dropped.is_object(), "{datagram}");
            // Kernels before 5.17 give no reason.
            if !dropped["reason_number"].is_null() {
                assert_eq!(dropped["reason"], "NO_SOCKET", "{datagram}");
            }
            let function = dropped["function"].as_str().unwrap();
            assert!(function.contains("udp"), "{datagram}");
            assert!(datagram["receiver"].is_null(), "{datagram}");
            assert_eq!(datagram["sender"]["pid"], std::process::id(), "{datagram}");

            let answer = said.paths.iter().find(|path| path["icmp"].is_object()).unwrap();
            let (proto, kind, code) = if address.is_ipv4() { ("icmp", 3, 3) } else { ("icmpv6", 1, 4) };
            assert_eq!(answer["flow"]["proto"], proto, "{answer}");
            let icmp = &answer["icmp"];
            assert_eq!((&icmp["type"], &icmp["code"]), (&kind.into(), &code.into()), "{answer}");
            assert_eq!(icmp["answers"], "udp", "{answer}");
            assert_eq!(answer["flow"]["src"], closed.to_string(), "{answer}");
            assert_eq!(answer["flow"]["dst"], sender.local_addr().unwrap().to_string(), "{answer}");
            assert!(hops(answer).contains(&"netif_receive_skb"), "{answer}");
        }
    }
}

/// `UDP_SEGMENT`: the receiver gets what was sent in one packet as datagrams in memory of their own.
#[test]
fn datagrams_that_are_sent_at_once_end_where_they_are_cut_apart() {
    for backend in backends() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        sender.connect(to).unwrap();
        set_option(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, &500i32);
        let trace = Trace::start(&backend, &["--dport", &to.port().to_string()]);
        assert_eq!(sender.send(&[1; 2000]).unwrap(), 2000);
        for _ in 0..4 {
            assert_eq!(receiver.recv(&mut [0; 2000]).unwrap(), 500);
        }
        let said = trace.stop();
        assert!(said.paths.iter().all(|path| path["complete"] == false), "{:#?}", said.paths);
        // On 5.10 the device layer cuts them apart, as `lo` cannot: they come from nowhere.
        if said.stderr.starts_with("Linux 5.10") {
            continue;
        }
        let [path] = &said.paths[..] else { panic!("{:#?}", said.paths) };
        assert_eq!(path["incomplete_reason"], "cut into several datagrams by its receiver", "{path}");
        assert_eq!(path["len"], 2000, "{path}");
    }
}
