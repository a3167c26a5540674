//! Each filter alone, and several together: what was asked for is there to the last packet, and of the rest nothing has
//! come out of the kernel.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _},
};

use serde_json::Value;

use crate::{
    namespaces::{CLIENT_DEVICE, Network, SERVER, SERVER_DEVICE},
    netlink,
    peer::{NAME, Peer, Place},
    support::{Said, Trace, free_port, hops, one_backend, pathtrace, ping_pong, set_option, wait_until},
};

const ROUNDS: usize = 10;

/// Traces a datagram of each length over loopback between these ports of `address`.
struct Datagrams {
    one: UdpSocket,
    other: UdpSocket,
}

impl Datagrams {
    fn at(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        let bind = || UdpSocket::bind((address, 0)).unwrap();
        Self { one: bind(), other: bind() }
    }

    fn ports(&self) -> [String; 2] {
        [&self.one, &self.other].map(|socket| socket.local_addr().unwrap().port().to_string())
    }

    /// Bytes 10 from the one to the other, and 20 back.
    fn exchange(&self) {
        for _ in 0..ROUNDS {
            self.one.send_to(&[1; 10], self.other.local_addr().unwrap()).unwrap();
            self.other.recv(&mut [0; 10]).unwrap();
            self.other.send_to(&[1; 20], self.one.local_addr().unwrap()).unwrap();
            self.one.recv(&mut [0; 20]).unwrap();
        }
    }
}

/// How many messages there are of 10 and of 20 bytes. All is whole, and there is nothing else.
fn counts(said: &Said) -> [usize; 2] {
    said.assert_whole();
    let counts = [10, 20].map(|len| said.messages().iter().filter(|path| path["len"] == len).count());
    assert_eq!(said.paths.len(), counts[0] + counts[1], "{:#?}", said.paths);
    counts
}

fn traced<S: AsRef<OsStr>>(backend: &str, args: &[S], traffic: impl FnOnce()) -> Said {
    let trace = Trace::start(backend, args);
    traffic();
    trace.stop()
}

/// No path, and no record either.
fn assert_nothing(said: &Said) {
    said.assert_whole();
    assert_eq!(said.paths.len(), 0, "{:#?}", said.paths);
    assert_eq!(said.summary["events"], 0, "{}", said.summary);
}

#[test]
fn ports_at_one_end() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let [one, other] = datagrams.ports();
        for (args, expected) in [
            (vec!["--sport", &one], [ROUNDS, 0]),
            (vec!["--dport", &one], [0, ROUNDS]),
            (vec!["--sport", &one, "--dport", &other], [ROUNDS, 0]),
            (vec!["--sport", &one, "--sport", &other], [ROUNDS, ROUNDS]),
            (vec!["--port", &one], [ROUNDS, ROUNDS]),
            (vec!["--port", &one, "--sport", &other], [0, ROUNDS]),
        ] {
            let said = traced(&backend, &args, || datagrams.exchange());
            assert_eq!(counts(&said), expected, "{args:?}: {}", said.summary);
        }
    }
}

#[test]
fn datagrams_of_other_ports_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let [one, other] = datagrams.ports();
        let unused = free_port().to_string();
        for args in [
            vec!["--port", &unused],
            vec!["--dport", &unused],
            vec!["--sport", &unused],
            vec!["--sport", &one, "--dport", &one],
            vec!["--port", &unused, "--sport", &other],
        ] {
            assert_nothing(&traced(&backend, &args, || datagrams.exchange()));
        }
    }
}

#[test]
fn addresses() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams {
            one: UdpSocket::bind("127.1.2.3:0").unwrap(),
            other: UdpSocket::bind("127.1.2.4:0").unwrap(),
        };
        for (args, expected) in [
            (vec!["--host", "127.1.2.3"], [ROUNDS, ROUNDS]),
            (vec!["--saddr", "127.1.2.3"], [ROUNDS, 0]),
            (vec!["--daddr", "127.1.2.3"], [0, ROUNDS]),
            (vec!["--saddr", "127.1.2.3", "--daddr", "127.1.2.4"], [ROUNDS, 0]),
            (vec!["--saddr", "127.1.0.0/16"], [ROUNDS, ROUNDS]),
            (vec!["--host", "127.1.2.3/32", "--host", "::1"], [ROUNDS, ROUNDS]),
        ] {
            let said = traced(&backend, &args, || datagrams.exchange());
            assert_eq!(counts(&said), expected, "{args:?}: {}", said.summary);
        }
    }
}

#[test]
fn datagrams_of_other_addresses_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams {
            one: UdpSocket::bind("127.1.2.3:0").unwrap(),
            other: UdpSocket::bind("127.1.2.4:0").unwrap(),
        };
        let [port, _] = datagrams.ports();
        for args in [
            vec!["--host", "127.1.2.5", "--port", &port],
            vec!["--saddr", "127.1.2.5/32", "--port", &port],
            vec!["--saddr", "127.1.2.3", "--daddr", "127.1.2.3", "--port", &port],
            vec!["--host", "::1", "--port", &port],
        ] {
            assert_nothing(&traced(&backend, &args, || datagrams.exchange()));
        }
    }
}

#[test]
fn addresses_of_ipv6() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv6Addr::LOCALHOST);
        let [port, _] = datagrams.ports();
        for (args, expected) in [
            (vec!["--host", "::1", "--port", &port], [ROUNDS, ROUNDS]),
            (vec!["--saddr", "::/64", "--sport", &port], [ROUNDS, 0]),
        ] {
            let said = traced(&backend, &args, || datagrams.exchange());
            assert_eq!(counts(&said), expected, "{args:?}: {}", said.summary);
        }
    }
}

#[test]
fn datagrams_of_other_ipv6_addresses_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv6Addr::LOCALHOST);
        let [port, _] = datagrams.ports();
        for range in ["2001:db8::/32", "127.0.0.1", "::2"] {
            assert_nothing(&traced(&backend, &["--host", range, "--port", &port], || datagrams.exchange()));
        }
    }
}

#[test]
fn transports() {
    if let Some(backend) = one_backend() {
        // The same number is a port of both transports.
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let datagrams = Datagrams { one: UdpSocket::bind(at).unwrap(), ..Datagrams::at(Ipv4Addr::LOCALHOST) };
        let port = port.to_string();
        let both = || {
            datagrams.exchange();
            ping_pong(at, ROUNDS, 30);
        };
        let udp = traced(&backend, &["--port", &port, "--proto", "udp"], both);
        assert_eq!(counts(&udp), [ROUNDS, ROUNDS]);
        let tcp = traced(&backend, &["--port", &port, "--proto", "tcp"], both);
        tcp.assert_whole();
        assert_eq!(tcp.messages().len(), 2 * ROUNDS, "{:#?}", tcp.paths);
        assert!(tcp.paths.iter().all(|path| path["flow"]["proto"] == "tcp"), "{:#?}", tcp.paths);
        let all = traced(&backend, &["--port", &port, "--proto", "tcp", "--proto", "udp"], both);
        all.assert_whole();
        assert_eq!(all.messages().len(), 4 * ROUNDS, "{:#?}", all.paths);
        assert_nothing(&traced(&backend, &["--port", &port, "--proto", "icmp"], both));

        // The answer alone to a datagram that nobody waits for.
        let closed = free_port();
        let icmp = traced(&backend, &["--port", &closed.to_string(), "--proto", "icmp"], || {
            let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            sender.connect((Ipv4Addr::LOCALHOST, closed)).unwrap();
            sender.send(&[1]).unwrap();
            sender.recv(&mut [0]).unwrap_err();
        });
        icmp.assert_whole();
        assert_eq!(icmp.paths.len(), 1, "{:#?}", icmp.paths);
        assert_eq!(icmp.paths[0]["flow"]["proto"], "icmp");
    }
}

/// Two processes do the same; one is wanted.
fn by_process(place: impl Fn() -> Place, backend: &str, args: impl Fn(u32) -> Vec<String>) -> Said {
    let mut wanted = Peer::alone(&place(), ROUNDS);
    let mut other = Peer::alone(&place(), ROUNDS);
    let trace = Trace::start(backend, &args(wanted.pid()));
    other.go();
    wanted.go();
    let said = trace.stop();
    said.assert_whole();
    assert_eq!(said.messages().len(), 2 * ROUNDS, "{:#?}\n{}", said.paths, said.summary);
    for path in said.messages() {
        for end in ["sender", "receiver"] {
            assert_eq!(path[end]["pid"], wanted.pid(), "{path}");
        }
    }
    said
}

#[test]
fn a_process_by_its_number() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let ip = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let at = || SocketAddr::new(ip.ip(), free_port());
        let number = std::sync::atomic::AtomicU32::new(0);
        let file = || {
            let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            folder.path().join(number.to_string())
        };
        for (proto, places) in [
            ("tcp", &(|| Place::Tcp(at())) as &dyn Fn() -> Place),
            ("udp", &|| Place::Udp(at())),
            ("unix", &|| Place::UnixStream(file())),
            ("unix", &|| Place::UnixDatagram(file())),
        ] {
            by_process(places, &backend, |pid| {
                ["--pid", &pid.to_string(), "--proto", proto].map(str::to_owned).into()
            });
        }
    }
}

#[test]
fn other_processes_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        // It does nothing.
        let idle = Peer::alone(&Place::Tcp((Ipv4Addr::LOCALHOST, free_port()).into()), ROUNDS);
        let pid = idle.pid().to_string();
        let comm = NAME.to_owned();
        for (option, value) in [("--pid", pid), ("--comm", comm)] {
            for proto in ["tcp", "udp", "unix"] {
                let said = traced(&backend, &[option, &value, "--proto", proto], || {
                    let at = (Ipv4Addr::LOCALHOST, free_port()).into();
                    ping_pong(at, ROUNDS, 100);
                    Datagrams::at(Ipv4Addr::LOCALHOST).exchange();
                    let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
                    one.send(&[1]).unwrap();
                    other.recv(&mut [0]).unwrap();
                });
                assert_nothing(&said);
            }
        }
    }
}

#[test]
fn a_process_by_its_name() {
    if let Some(backend) = one_backend() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut named = Peer::alone(&Place::Tcp(at), ROUNDS);
        let trace = Trace::start(&backend, &["--comm", NAME, "--proto", "tcp"]);
        let other = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        ping_pong(other, ROUNDS, 100);
        named.go();
        let said = trace.stop();
        assert_eq!(said.summary["lost"], 0, "{}", said.summary);
        // What was on its way when the process was first seen to use the socket has no start.
        for path in said.paths.iter().filter(|path| path["complete"] != true) {
            assert_eq!(path["incomplete_reason"], "its start was not seen", "{path}");
            assert_eq!(path["len"], 0, "{path}");
        }
        assert_eq!(said.messages().len(), 2 * ROUNDS, "{:#?}", said.paths);
        for path in said.messages() {
            let flow = &path["flow"];
            assert!([&flow["src"], &flow["dst"]].contains(&&Value::from(at.to_string())), "{path}");
            assert_eq!(path["sender"]["comm"], NAME, "{path}");
        }
    }
}

/// A connection to `at` from this port of the same address.
fn connect_from(port: u16, at: SocketAddr) -> TcpStream {
    let SocketAddr::V4(v4) = at else { panic!("{at}") };
    let name = |port: u16| libc::sockaddr_in {
        sin_family: u16::try_from(libc::AF_INET).unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: v4.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    };
    let len = u32::try_from(size_of::<libc::sockaddr_in>()).unwrap();
    // SAFETY: no memory is involved, and the new descriptor is nobody else's.
    let socket = unsafe { TcpStream::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0)) };
    for (call, name) in
        [(libc::bind as unsafe extern "C" fn(_, _, _) -> _, name(port)), (libc::connect, name(at.port()))]
    {
        // SAFETY: the pointer and the length describe `name`, which lives through the call.
        let result = unsafe { call(socket.as_raw_fd(), (&raw const name).cast(), len) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    socket
}

/// What the process whose connection had the same ends before was, says nothing of who has them now.
#[test]
fn a_connection_between_the_ends_of_an_earlier_one_is_another_one() {
    use std::io::{Read as _, Write as _};
    if let Some(backend) = one_backend() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let from = free_port();
        let listener = TcpListener::bind(at).unwrap();
        let own = std::fs::read("/proc/self/comm").unwrap();
        let call_it = |name: &[u8]| std::fs::write("/proc/self/comm", name).unwrap();
        let said = traced(&backend, &["--comm", NAME, "--port", &at.port().to_string()], || {
            for (name, len) in [(NAME.as_bytes(), 10), (own.trim_ascii_end(), 20)] {
                call_it(name);
                let mut client = connect_from(from, at);
                let (mut server, _) = listener.accept().unwrap();
                for _ in 0..ROUNDS {
                    client.write_all(&vec![1; len]).unwrap();
                    server.read_exact(&mut vec![0; len]).unwrap();
                }
                // A RST ends it, and leaves the ends free at once.
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                set_option(&client, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
                drop(client);
                server.read(&mut [0]).unwrap_err();
            }
        });
        let of_len = |len: u64| said.paths.iter().filter(|path| path["len"] == len).count();
        assert_eq!((of_len(10), of_len(20)), (ROUNDS, 0), "{:#?}", said.paths);
    }
}

/// It is seen to use the socket only when it reads, which says nothing of who has sent.
#[test]
fn a_process_that_only_receives_datagrams() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let own = std::fs::read("/proc/self/comm").unwrap();
        let call_it = |name: &[u8]| std::fs::write("/proc/self/comm", name).unwrap();
        let said = traced(&backend, &["--comm", NAME, "--proto", "udp"], || {
            for _ in 0..ROUNDS {
                datagrams.one.send_to(&[1; 10], datagrams.other.local_addr().unwrap()).unwrap();
                call_it(NAME.as_bytes());
                datagrams.other.recv(&mut [0; 10]).unwrap();
                call_it(own.trim_ascii_end());
                // Nobody who is wanted reads this.
                datagrams.one.send_to(&[1; 20], datagrams.one.local_addr().unwrap()).unwrap();
                datagrams.one.recv(&mut [0; 20]).unwrap();
            }
        });
        said.assert_whole();
        // The first shows who reads, the second that its flow is his.
        let messages = said.messages();
        assert!((ROUNDS - 2..ROUNDS).contains(&messages.len()), "{:#?}", said.paths);
        for path in messages {
            assert_eq!((&path["len"], hops(path).last()), (&10.into(), Some(&"udp_recvmsg")), "{path}");
        }
    }
}

/// What was wanted leaves its memory to others.
#[test]
fn drops_of_other_processes_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let closed = free_port();
        let own = std::fs::read("/proc/self/comm").unwrap();
        let call_it = |name: &[u8]| std::fs::write("/proc/self/comm", name).unwrap();
        let events = [0, 20 * ROUNDS].map(|drops| {
            let said = traced(&backend, &["--comm", NAME, "--proto", "udp"], || {
                call_it(NAME.as_bytes());
                // What is read goes to a store of 64 for the device layer first (`kfree_skb_napi_cache()`).
                for _ in 0..ROUNDS {
                    datagrams.exchange();
                }
                call_it(own.trim_ascii_end());
                for _ in 0..drops {
                    datagrams.one.send_to(&[1; 10], (Ipv4Addr::LOCALHOST, closed)).unwrap();
                }
            });
            said.summary["events"].as_u64().unwrap()
        });
        // How often the scheduler is seen is chance.
        assert!(events[1] < events[0] + 10 * ROUNDS as u64, "{events:?}");
    }
}

/// Received packets are routed without naming a transport.
#[test]
fn routes_of_other_transports_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        assert_nothing(&traced(&backend, &["--proto", "icmp", "--host", "192.0.2.0/24"], || {
            talk(&mut network.connect(port));
        }));
    }
}

/// A packet that has left the namespace is no drop of the driver that it left by.
#[test]
fn drops_in_another_namespace_are_not_shown() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let sender = network.client.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        let [client, server] = [&network.client, &network.server].map(|one| one.inode().to_string());
        for (namespaces, expected) in [
            (vec!["--netns", &client], None),
            (vec!["--netns", &client, "--netns", &server], Some("kfree_skb")),
        ] {
            let args = [&["--proto", "udp", "--dport", "9"], &namespaces[..]].concat();
            let said = traced(&backend, &args, || {
                for _ in 0..ROUNDS {
                    // It may be told that nobody listens.
                    let _ = sender.send_to(&[1; 10], (SERVER, 9));
                }
            });
            said.assert_whole();
            assert!(!said.paths.is_empty());
            for path in &said.paths {
                assert_eq!(path["dropped"].is_null(), expected.is_none(), "{path}");
                assert_eq!(hops(path).last(), Some(&expected.unwrap_or("dev_hard_start_xmit")), "{path}");
            }
        }
    }
}

#[test]
fn a_namespace() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        // The same addresses and ports in two namespaces.
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port = port.to_string();
        let wanted = network.client.inode();
        let said = traced(&backend, &["--netns", &wanted.to_string(), "--port", &port], || {
            network.client.run(|| ping_pong(at, ROUNDS, 100));
            network.server.run(|| ping_pong(at, 2 * ROUNDS, 100));
            ping_pong(at, 3 * ROUNDS, 100);
        });
        said.assert_whole();
        assert_eq!(said.messages().len(), 2 * ROUNDS, "{:#?}", said.paths);
        assert!(said.paths.iter().all(|path| path["netns"] == wanted), "{:#?}", said.paths);
    }
}

#[test]
fn other_namespaces_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (wanted, port) = (network.client.inode().to_string(), port.to_string());
        let nothing = traced(&backend, &["--netns", &wanted, "--port", &port], || {
            network.server.run(|| ping_pong(at, ROUNDS, 100));
            ping_pong(at, ROUNDS, 100);
        });
        assert_nothing(&nothing);
    }
}

#[test]
fn a_device() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port_text = port.to_string();
        let said =
            traced(&backend, &["--interface", "lo", "--port", &port_text], || ping_pong(at, ROUNDS, 100));
        said.assert_whole();
        assert_eq!(said.messages().len(), 2 * ROUNDS, "{:#?}", said.paths);

        let Some(network) = Network::direct() else { return };
        let namespaces = [network.client.inode(), network.server.inode()].map(|inode| inode.to_string());
        let [client, server] = namespaces.each_ref().map(String::as_str);
        for device in [CLIENT_DEVICE, SERVER_DEVICE] {
            let args = ["--interface", device, "--port", &port_text, "--netns", client, "--netns", server];
            let said = traced(&backend, &args, || {
                let mut ends = network.connect(port);
                talk(&mut ends);
                // Not over the device.
                network.client.run(|| ping_pong(at, ROUNDS, 77));
                ping_pong(at, ROUNDS, 77);
            });
            assert_eq!(said.summary["lost"], 0, "{}", said.summary);
            assert!(said.paths.iter().all(|path| path["len"] != 77), "{:#?}", said.paths);
            for len in [100, 60] {
                let whole =
                    |path: &&&Value| path["complete"] == true && hops(path).last() == Some(&"tcp_recvmsg");
                let messages = said.messages();
                let found = messages.iter().filter(|path| path["len"] == len).filter(whole).count();
                assert_eq!(found, ROUNDS, "{len} bytes, {device}: {:#?}", said.paths);
            }
        }
    }
}

#[test]
fn other_devices_never_reach_the_ring_buffer() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (client, port) = (network.client.inode().to_string(), port.to_string());
        let args = ["--interface", CLIENT_DEVICE, "--port", &port, "--netns", &client];
        let nothing = traced(&backend, &args, || {
            network.client.run(|| ping_pong(at, ROUNDS, 77));
            ping_pong(at, ROUNDS, 77);
        });
        assert_nothing(&nothing);
    }
}

/// The kernel leaves the end of the longer name behind the NUL of the new one.
#[test]
fn a_device_that_had_a_longer_name() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let [_, other] = join_again(&network, ["a-long-old-name", "other-server"]);
        network.client.run(|| {
            netlink::set_down("a-long-old-name").unwrap();
            netlink::rename("a-long-old-name", "new").unwrap();
            netlink::set_up("new").unwrap();
        });
        let receiver = network.server.run(|| UdpSocket::bind((other, 0)).unwrap());
        let to = receiver.local_addr().unwrap();
        let sender = network.client.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        let namespace = network.client.inode().to_string();
        let said = traced(&backend, &["--interface", "new", "--netns", &namespace, "--proto", "udp"], || {
            wait_until("datagrams come through", || sender.send_to(&[1; 10], to).is_ok());
            for _ in 1..ROUNDS {
                sender.send_to(&[1; 10], to).unwrap();
            }
        });
        said.assert_whole();
        assert_eq!(said.messages().len(), ROUNDS, "{:#?}", said.paths);
        assert!(said.paths.iter().all(|path| path["device"] == "new"), "{:#?}", said.paths);
    }
}

/// A second pair of devices between the same namespaces; the addresses of its ends.
fn join_again(network: &Network, devices: [&str; 2]) -> [IpAddr; 2] {
    let addresses = [1, 2].map(|host| IpAddr::from([198, 51, 100, host]));
    network.client.run(|| netlink::add_veth(devices[0], devices[1], network.server.as_fd())).unwrap();
    for (namespace, device, address) in
        [(&network.client, devices[0], addresses[0]), (&network.server, devices[1], addresses[1])]
    {
        namespace.run(|| {
            netlink::set_up(device).unwrap();
            netlink::add_address(device, address, 24).unwrap();
        });
    }
    addresses
}

/// A driver may free a packet; the next one in its memory is somebody else's.
#[test]
fn what_a_driver_has_freed_marks_no_other_packet() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let [_, other] = join_again(&network, ["other-client", "other-server"]);
        // `is_skb_forwardable()`: what the peer of a veth device cannot take is dropped in the driver.
        network.server.run(|| netlink::set_mtu(SERVER_DEVICE, 500)).unwrap();
        let namespaces = [network.client.inode(), network.server.inode()].map(|inode| inode.to_string());
        let [client, server] = namespaces.each_ref().map(String::as_str);
        let args = ["--interface", CLIENT_DEVICE, "--netns", client, "--netns", server, "--proto", "udp"];
        let receiver = network.server.run(|| UdpSocket::bind((other, 0)).unwrap());
        let to = receiver.local_addr().unwrap();
        let said = traced(&backend, &args, || {
            let sender = network.client.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
            for _ in 0..ROUNDS {
                sender.send_to(&[1; 1000], (SERVER, 9)).unwrap();
                sender.send_to(&[1; 77], to).unwrap();
                receiver.recv(&mut [0; 77]).unwrap();
            }
        });
        said.assert_whole();
        let dropped = said.paths.iter().filter(|path| path["dropped"].is_object()).count();
        assert_eq!(dropped, ROUNDS, "{:#?}", said.paths);
        assert_eq!(said.paths.len(), ROUNDS, "{:#?}", said.paths);
    }
}

fn talk((client, server): &mut (TcpStream, TcpStream)) {
    use std::io::{Read as _, Write as _};
    for _ in 0..ROUNDS {
        client.write_all(&[1; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        server.write_all(&[2; 60]).unwrap();
        client.read_exact(&mut [0; 60]).unwrap();
    }
}

#[test]
fn all_together() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let [port_text, pid, namespace] =
            [u64::from(port), std::process::id().into(), network.client.inode()].map(|it| it.to_string());
        let server = SERVER.to_string();
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned();
        let args = [
            ["--dport", &port_text],
            ["--daddr", &server],
            ["--saddr", "192.0.2.0/24"],
            ["--proto", "tcp"],
            ["--pid", &pid],
            ["--comm", &comm],
            ["--netns", &namespace],
            ["--interface", CLIENT_DEVICE],
            ["--min-latency", "1ns"],
        ]
        .concat();
        let said = traced(&backend, &args, || {
            let mut ends = network.connect(port);
            talk(&mut ends);
        });
        assert_eq!(said.summary["lost"], 0, "{}", said.summary);
        let to = SocketAddr::new(SERVER, port).to_string();
        assert!(said.paths.iter().all(|path| path["flow"]["dst"] == to.as_str()), "{:#?}", said.paths);
        // The first one may show the process and the device to be wanted, and so be seen too late.
        let seen = said.messages().iter().filter(|path| path["complete"] == true).count();
        assert!((ROUNDS - 1..=ROUNDS).contains(&seen), "{:#?}", said.paths);
    }
}

#[test]
fn a_least_latency() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let [port, _] = datagrams.ports();
        let all = traced(&backend, &["--port", &port, "--min-latency", "1ns"], || datagrams.exchange());
        assert_eq!(counts(&all), [ROUNDS, ROUNDS]);
        let none = traced(&backend, &["--port", &port, "--min-latency", "1000s"], || datagrams.exchange());
        none.assert_whole();
        assert_eq!(none.paths.len(), 0, "{:#?}", none.paths);
        assert_eq!(none.summary["paths"]["complete"], 0, "{}", none.summary);
        assert!(none.summary["events"].as_u64() > Some(0), "{}", none.summary);
    }
}

/// Numbers of another PID namespace are other processes to the kernel.
#[test]
fn numbers_of_a_pid_namespace_are_refused() {
    if let Some(backend) = one_backend() {
        let said = std::thread::spawn(move || {
            // SAFETY: no memory is involved; only what this thread, which ends here, starts is in the new namespace.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
            let args = ["--backend", &backend, "--duration", "50ms", "--pid", "1"];
            pathtrace().args(args).output().unwrap()
        });
        let said = said.join().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("PID namespace"), "{stderr}");
    }
}

/// What goes to an IPv4-mapped address is IPv4.
#[test]
fn an_ipv4_mapped_address() {
    if let Some(backend) = one_backend() {
        let datagrams = Datagrams::at(Ipv4Addr::LOCALHOST);
        let [port, _] = datagrams.ports();
        for host in ["::ffff:127.0.0.1", "::ffff:127.0.0.0/104"] {
            let said = traced(&backend, &["--host", host, "--port", &port], || datagrams.exchange());
            assert_eq!(counts(&said), [ROUNDS, ROUNDS], "{host}");
        }
    }
}

#[test]
fn what_can_match_nothing_is_refused() {
    if let Some(backend) = one_backend() {
        // A test runs in a thread of its own.
        // SAFETY: no memory is involved.
        let thread = unsafe { libc::gettid() }.to_string();
        let give = format!("give --pid {}", std::process::id());
        for (args, says) in [
            (vec!["--pid", "4194305"], "no such process"),
            (vec!["--interface", "no-such-dev"], "no such device"),
            (vec!["--pid", &thread], &give),
            (vec!["--netns", "no-such-namespace"], "/run/netns/no-such-namespace"),
            (vec!["--netns", "0"], "--netns 0"),
            (vec!["--netns", "/proc/self/status"], "no network namespace"),
            (vec!["--netns", "/proc/self/ns/pid"], "no network namespace"),
            (vec!["--port", "no-such-service"], "/etc/services"),
            (vec!["--host", "10.0.0.0/33"], "10.0.0.0/33"),
            (vec!["--unix", "/run/x", "--port", "80"], "--unix"),
            (vec!["--proto", "unix", "--host", "::1"], "--proto unix"),
        ] {
            let mut command = pathtrace();
            // Bounded, so that one that is not refused ends.
            let said =
                command.args(["--backend", &backend, "--duration", "50ms"]).args(&args).output().unwrap();
            let stderr = String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.contains(says), "{args:?}: {stderr}");
        }
    }
}
