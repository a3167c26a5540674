//! Every packet, once, with its hops in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IoSlice, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::SystemTime,
};

use crate::support::{Sniffer, Trace, backends, free_port, hops, kernel, ping_pong, stream};

/// The hops of a TCP segment with data, in order, of which tracepoints do not show `ip_queue_xmit` and `process_backlog`.
const WAY: [&str; 9] = [
    "tcp_sendmsg",
    "ip_queue_xmit",
    "dev_queue_xmit",
    "loopback_xmit",
    "enqueue_to_backlog",
    "process_backlog",
    "netif_receive_skb",
    "tcp_v4_rcv",
    "tcp_recvmsg",
];

#[test]
fn each_packet_has_one_path_with_its_hops_in_order() {
    for backend in backends() {
        let port = free_port();
        let sniffer = Sniffer::start(port);
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 50, 100);
        let said = trace.stop();
        let sniffed = sniffer.stop();
        said.assert_whole();
        assert_eq!(said.paths.len(), sniffed, "paths and packets, {backend}\n{}", said.stderr);
        assert_eq!(said.data().count(), 100, "{backend}");

        let dark = said.dark();
        let probes_functions = WAY.iter().all(|hop| !dark.contains(hop));
        assert!(probes_functions || !matches!(backend.as_str(), "kprobe" | "fentry"), "{}", said.stderr);
        for path in &said.paths {
            assert_eq!(path["device"], "lo", "{path}");
            let times: Vec<u64> =
                path["hops"].as_array().unwrap().iter().map(|hop| hop["ns"].as_u64().unwrap()).collect();
            assert!(times.is_sorted() && times[0] == 0, "{path}");
            assert_eq!(path["total_ns"].as_u64(), times.last().copied(), "{path}");
        }
        for path in said.data() {
            // The poll may have been running already when the packet was queued.
            let way: Vec<&str> = WAY.into_iter().filter(|hop| *hop != "process_backlog").collect();
            said.assert_way(path, &way);
        }
        if probes_functions {
            let whole = said.data().filter(|path| hops(path).starts_with(&WAY[..8])).count();
            assert!(whole > 0, "no path with all hops: {:#?}", said.paths);
            let woken = said.data().filter(|path| hops(path).contains(&"sock_def_readable")).count();
            assert!(woken > 0, "no path with a wake-up");
        }
    }
}

/// A stream makes packets that the kernel cuts into segments on the way, and reads that do not end where packets do.
#[test]
fn a_stream_of_large_writes_is_whole() {
    const BYTES: usize = 16 << 20;
    for backend in backends() {
        let port = free_port();
        let sniffer = Sniffer::start(port);
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        stream((Ipv4Addr::LOCALHOST, port).into(), BYTES, 128 << 10);
        let said = trace.stop();
        assert_eq!(said.paths.len(), sniffer.stop(), "paths and packets, {backend}\n{}", said.summary);
        said.assert_whole();
        let sent: u64 = said.data().map(|path| path["len"].as_u64().unwrap()).sum();
        assert!(sent >= BYTES as u64, "all bytes: {sent}");
    }
}

/// By a tracepoint that fires for each segment that a call fills, and by whatever else sees calls.
#[test]
fn each_call_is_seen_once_however_its_data_lies() {
    const ROUNDS: usize = 8;
    /// Calls of so many vectors of so many bytes: what fills several segments, and ends a segment where a vector ends.
    const CALLS: [(usize, usize); 5] = [(1, 1), (16, 4096), (1, 200_000), (2, 60_000), (100, 1000)];
    for backend in backends() {
        for protocol in [&[][..], &["--proto", "tcp"]] {
            let port = free_port();
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let port = port.to_string();
            let trace = Trace::start(&backend, &[&["--port", &port], protocol].concat());
            let listener = TcpListener::bind(at).unwrap();
            let mut client = TcpStream::connect(at).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            for _ in 0..ROUNDS {
                for (vectors, bytes) in CALLS {
                    let data = vec![0; bytes];
                    let reader = thread::spawn(move || {
                        server.read_exact(&mut vec![0; vectors * bytes]).unwrap();
                        server
                    });
                    let data = vec![IoSlice::new(&data); vectors];
                    assert_eq!(client.write_vectored(&data).unwrap(), vectors * bytes, "a socket that waits");
                    server = reader.join().unwrap();
                }
            }
            drop((client, server));
            let said = trace.stop();
            said.assert_whole();
            let mut sent = BTreeMap::new();
            // What is sent again has had its call.
            for path in said.data().filter(|path| path["retransmitted"] == false) {
                assert_eq!(hops(path)[0], "tcp_sendmsg", "{backend} {protocol:?}: {path}");
                *sent.entry(path["time_ns"].as_u64().unwrap()).or_insert(0) += path["len"].as_u64().unwrap();
            }
            let sent: Vec<usize> = sent.into_values().map(|bytes| usize::try_from(bytes).unwrap()).collect();
            let calls = CALLS.map(|(vectors, bytes)| vectors * bytes).repeat(ROUNDS);
            assert_eq!(sent, calls, "{backend} {protocol:?}");
        }
    }
}

/// A call that has come back with nothing done is not the begin of what the next one sends.
#[test]
fn a_call_that_sends_nothing_begins_no_path() {
    const BYTES: usize = 100_000;
    for backend in backends() {
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let trace = Trace::start(&backend, &["--port", &port.to_string(), "--proto", "tcp"]);
        let listener = TcpListener::bind(at).unwrap();
        let mut client = TcpStream::connect(at).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // SAFETY: nothing can be read from there, which the call says.
        let sent = unsafe { libc::send(client.as_raw_fd(), std::ptr::null(), 10, 0) };
        assert_eq!(sent, -1, "EFAULT");
        let failed_at = SystemTime::now();
        client.set_nonblocking(true).unwrap();
        let mut filled = 0;
        // Twice nothing: as much as there was room for has left the socket meanwhile.
        let mut refused = 0;
        while refused < 2 {
            let sent = client.write(&vec![0; BYTES]).unwrap_or(0);
            refused = if sent == 0 { refused + 1 } else { 0 };
            filled += sent;
        }
        client.set_nonblocking(false).unwrap();
        let refused_at = SystemTime::now();
        let reader = thread::spawn(move || {
            server.read_exact(&mut vec![0; filled]).unwrap();
            server.read_exact(&mut vec![0; BYTES]).unwrap();
        });
        client.write_all(&vec![0; BYTES]).unwrap();
        reader.join().unwrap();
        let said = trace.stop();
        said.assert_whole();
        let (mut first_ns, mut last_ns) = (u64::MAX, 0);
        for path in said.data().filter(|path| path["retransmitted"] == false) {
            assert_eq!(hops(path)[0], "tcp_sendmsg", "{backend}: {path}");
            let begun_ns = path["time_ns"].as_u64().unwrap();
            (first_ns, last_ns) = (first_ns.min(begun_ns), last_ns.max(begun_ns));
        }
        let ns = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        assert!(u128::from(first_ns) > ns(failed_at), "{backend}: {first_ns} {failed_at:?}");
        assert!(u128::from(last_ns) > ns(refused_at), "{backend}: {last_ns} {refused_at:?}");
    }
}

/// Whoever only asks for TCP on a kernel whose functions cannot be probed does not make each system call of the machine slower.
#[test]
fn for_tcp_alone_no_system_call_is_looked_at() {
    let port = free_port();
    let call = |args: &[&str]| {
        let trace = Trace::start("tracepoint", &[&["--port", &port.to_string()], args].concat());
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 1, 10);
        let said = trace.stop();
        said.assert_whole();
        said.data().next().unwrap()["hops"][0]["function"].as_str().unwrap().to_owned()
    };
    let alone = if kernel() < (6, 16) { "raw_syscalls:sys_enter" } else { "tcp:tcp_sendmsg_locked" };
    assert_eq!(call(&["--proto", "tcp"]), alone);
    assert_eq!(call(&["--proto", "tcp", "--proto", "udp"]), "raw_syscalls:sys_enter");
    assert_eq!(call(&[]), "raw_syscalls:sys_enter");
}

#[test]
fn both_ends_are_named() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 20, 100);
        let said = trace.stop();
        said.assert_whole();
        for path in said.data() {
            for end in ["sender", "receiver"] {
                assert_eq!(path[end]["pid"], std::process::id(), "{path}");
                assert!(path[end]["comm"].as_str().is_some_and(|comm| !comm.is_empty()), "{path}");
            }
        }
    }
}

#[test]
fn connect_asks_the_routing_table() {
    for backend in backends() {
        let port = free_port();
        let at = (Ipv4Addr::LOCALHOST, port).into();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong(at, 1, 10);
        let said = trace.stop();
        said.assert_whole();
        let [syn] = said.with_flags("S", at)[..] else { panic!("one SYN: {:#?}", said.paths) };
        assert!(hops(syn).contains(&"fib_lookup"), "{syn}");
        for path in said.data() {
            assert!(
                !hops(path).contains(&"fib_lookup"),
                "an established connection's route is cached: {path}"
            );
        }
    }
}

#[test]
fn each_named_probe_point_fires() {
    for backend in backends() {
        if !matches!(backend.as_str(), "kprobe" | "fentry") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("socket");
        let trace = Trace::start(&backend, &[""; 0]);
        ping_pong((Ipv4Addr::LOCALHOST, free_port()).into(), 20, 100);
        let listener = UnixListener::bind(&name).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 100];
            while stream.read_exact(&mut buffer).is_ok() {
                stream.write_all(&buffer).unwrap();
            }
        });
        let mut client = UnixStream::connect(&name).unwrap();
        for _ in 0..20 {
            client.write_all(&[1; 100]).unwrap();
            client.read_exact(&mut [0; 100]).unwrap();
        }
        drop(client);
        server.join().unwrap();
        let said = trace.stop();
        assert_eq!(said.summary["lost"], 0, "{}", said.summary);

        let fired: BTreeSet<&str> = said.paths.iter().flat_map(hops).collect();
        for point in [
            "ip_queue_xmit",
            "fib_lookup",
            "dev_queue_xmit",
            "loopback_xmit",
            "enqueue_to_backlog",
            "process_backlog",
            "tcp_sendmsg",
            "sock_def_readable",
            "sched_waking",
            "sched_switch",
            "tcp_recvmsg",
            "unix_stream_connect",
            "unix_accept",
            "unix_stream_sendmsg",
            "unix_stream_recvmsg",
        ] {
            assert!(
                fired.contains(point),
                "{point} did not fire by {backend}; fired: {fired:?}\n{}",
                said.stderr
            );
        }
        let name = name.to_str().unwrap();
        let ours: Vec<_> = said.paths.iter().filter(|path| path["flow"]["path"] == name).collect();
        assert_eq!(ours.len(), 41, "one connect, and 20 messages each way: {ours:#?}");
        assert!(ours.iter().all(|path| path["complete"] == true), "{ours:#?}");
    }
}

#[test]
fn ipv6_packets_are_whole_too() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong((Ipv6Addr::LOCALHOST, port).into(), 10, 100);
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.data().count(), 20);
        for path in said.data() {
            assert_eq!(hops(path).last(), Some(&"tcp_recvmsg"), "{path}");
            assert!(path["flow"]["src"].as_str().unwrap().starts_with("[::1]:"), "{path}");
        }
    }
}

/// The transport header stands behind extension headers, as in every BIG TCP packet.
#[test]
fn ipv6_extension_headers_hide_nothing() {
    // Destination options (RFC 8200, 4.6): next header and length, filled in by the kernel, then PadN over four bytes.
    const OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];
    for backend in backends() {
        let port = free_port();
        let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let listener = TcpListener::bind(at).unwrap();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        let mut client = TcpStream::connect(at).unwrap();
        client.set_nodelay(true).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // SAFETY: pointer and length describe `OPTIONS`, which lives through the call.
        let result = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_DSTOPTS,
                OPTIONS.as_ptr().cast(),
                u32::try_from(OPTIONS.len()).unwrap(),
            )
        };
        assert_eq!(result, 0, "IPV6_DSTOPTS: {}", std::io::Error::last_os_error());
        for _ in 0..10 {
            client.write_all(&[1; 100]).unwrap();
            server.read_exact(&mut [0; 100]).unwrap();
        }
        drop((client, server));
        let said = trace.stop();
        said.assert_whole();
        let lengths: Vec<u64> = said.data().map(|path| path["len"].as_u64().unwrap()).collect();
        assert_eq!(lengths, [100; 10], "{:#?}", said.paths);
        assert!(said.data().all(|path| hops(path).contains(&"dev_queue_xmit")));
    }
}

#[test]
fn a_refused_connection_is_two_packets_on_lo() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        // All of 127.0.0.0/8 is local, and so is every address of the host: 127.0.0.1 is not special.
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 8, 8, 8)];
        for address in addresses {
            TcpStream::connect((address, port)).unwrap_err();
        }
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.paths.len(), 2 * addresses.len(), "{:#?}", said.paths);
        for address in addresses {
            let to = SocketAddr::from((address, port));
            let [syn] = said.with_flags("S", to)[..] else { panic!("one SYN to {to}: {:#?}", said.paths) };
            let from = to.to_string();
            let reset: Vec<_> =
                said.paths.iter().filter(|path| path["flow"]["src"] == from.as_str()).collect();
            let [reset] = reset[..] else { panic!("one RST from {from}: {:#?}", said.paths) };
            assert_eq!(reset["tcp"]["flags"], "RA", "{reset}");
            assert_eq!((&syn["device"], &reset["device"]), (&"lo".into(), &"lo".into()));
        }
    }
}
