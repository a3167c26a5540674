//! How much memory pathtrace takes: little for many flows, and no more the longer it runs.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream},
    },
    process, thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::ReuseAddr};

use crate::support::{Trace, free_port, one_backend, our_programs, wait_until};

/// What pathtrace may have resident at [`CONNECTIONS`], kB.
const MOST: u64 = 64 << 10;
const CONNECTIONS: usize = 10_000;
/// Connections that are open at a time.
const OPEN: usize = 100;

/// How long the soak lasts, seconds; `cargo xtask soak` sets it.
const SOAK: &str = "PATHTRACE_SOAK_SECONDS";
/// Long enough for tables that double their size to have done so for the last time.
const SHORT_SOAK: u64 = 20;
/// What may be resident later on and was not before, kB: less than any table that grows with each connection would need.
const DRIFT: u64 = 1 << 10;
/// Ports that the soak's clients use, one after the other: a flow comes again and again, as with real clients. None of them
/// is one that the kernel gives to others.
const PORTS: std::ops::Range<u16> = 20_000..20_200;
/// Messages on each connection of the soak.
const MESSAGES: usize = 10;
/// The soak's traffic flows for so long, and then pauses for half as long.
const FLOWS: Duration = Duration::from_millis(800);
/// Between two connections.
const BREATH: Duration = Duration::from_millis(2);

/// A line of the process's status, kB.
fn status(trace: &Trace, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", trace.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// A message there and one back, each read before the next thing happens.
fn exchange(
    client: &mut (impl std::io::Read + std::io::Write),
    server: &mut (impl std::io::Read + std::io::Write),
) {
    let mut buffer = [7; 100];
    client.write_all(&buffer).unwrap();
    server.read_exact(&mut buffer).unwrap();
    server.write_all(&buffer).unwrap();
    client.read_exact(&mut buffer).unwrap();
}

#[test]
fn ten_thousand_flows_fit() {
    let Some(backend) = one_backend() else { return };
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let at = listener.local_addr().unwrap();
    let trace = Trace::start(&backend, &["--port", &port.to_string(), "--summary"]);
    for _ in 0..CONNECTIONS / OPEN {
        let open: Vec<(TcpStream, TcpStream)> = (0..OPEN)
            .map(|_| {
                let mut client = TcpStream::connect(at).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                exchange(&mut client, &mut server);
                (client, server)
            })
            .collect();
        drop(open);
    }
    let (most, now) = (status(&trace, "VmHWM"), status(&trace, "VmRSS"));
    let said = trace.stop();
    eprintln!("{CONNECTIONS} connections: {most} kB at most, {now} kB at the end");
    // What a slow reader has lost was no hop the less. A SYN, its answer and two messages have four hops each, and more.
    let events =
        said.summary["events"].as_u64().zip(said.summary["lost"].as_u64()).map(|(came, lost)| came + lost);
    assert!(events > Some(16 * CONNECTIONS as u64), "{}", said.summary);
    assert!(most < MOST, "{most} kB");
}

/// A connection of each kind, from its beginning to its end.
struct Traffic {
    tcp: TcpListener,
    unix: UnixListener,
    unix_at: UnixAddr,
    ports: std::iter::Cycle<std::ops::Range<u16>>,
}

impl Traffic {
    fn new() -> Self {
        let unix_at = UnixAddr::from_abstract_name(format!("pathtrace-soak-{}", process::id())).unwrap();
        Self {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            unix: UnixListener::bind_addr(&unix_at).unwrap(),
            unix_at,
            ports: PORTS.cycle(),
        }
    }

    fn once(&mut self) {
        let at = self.tcp.local_addr().unwrap();
        let mut client = connect_from(self.ports.next().unwrap(), at);
        let (mut server, _) = self.tcp.accept().unwrap();
        for _ in 0..MESSAGES {
            exchange(&mut client, &mut server);
        }
        // Who closes first keeps the connection in TIME_WAIT; the client's port is free at once.
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);

        let mut client = UnixStream::connect_addr(&self.unix_at).unwrap();
        let (mut server, _) = self.unix.accept().unwrap();
        for _ in 0..MESSAGES {
            exchange(&mut client, &mut server);
        }
        client.flush().unwrap();
    }
}

fn connect_from(port: u16, to: SocketAddr) -> TcpStream {
    let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&client, ReuseAddr, &true).unwrap();
    let name = |port: u16| libc::sockaddr_in {
        sin_family: u16::try_from(libc::AF_INET).unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap();
    let call = |call: unsafe extern "C" fn(i32, *const libc::sockaddr, u32) -> i32, port| {
        let name = name(port);
        // SAFETY: `bind` and `connect` read a name of this length, which lives through the call.
        let result = unsafe { call(client.as_raw_fd(), (&raw const name).cast(), length) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    };
    call(libc::bind, port);
    call(libc::connect, to.port());
    client.into()
}

/// The middle one of what was resident in a part of the run.
fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn memory_is_flat_while_connections_come_and_go() {
    let Some(backend) = one_backend() else { return };
    let seconds = env::var(SOAK).ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT_SOAK);
    let lasts = Duration::from_secs(seconds);
    let before = our_programs();
    let mut traffic = Traffic::new();
    // By process, as then both kinds are wanted, and nobody else's.
    let trace = Trace::start(&backend, &["--pid", &process::id().to_string(), "--audit", "--summary"]);
    let begun = Instant::now();
    let mut samples = Vec::new();
    let mut connections = 0;
    while begun.elapsed() < lasts {
        let burst = Instant::now();
        while burst.elapsed() < FLOWS {
            traffic.once();
            connections += 1;
            thread::sleep(BREATH);
        }
        samples.push(status(&trace, "VmRSS"));
        thread::sleep(FLOWS / 2);
    }
    let said = trace.stop();
    let quarter = samples.len() / 4;
    let (second, last) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
    let most = samples.iter().max().unwrap();
    eprintln!(
        "{seconds} s, {connections} connections of each kind, {} events: {second} kB in the second quarter, {last} kB in \
         the last, {most} kB at most",
        said.summary["events"]
    );
    assert!(said.status.success(), "{}", said.stderr);
    assert_eq!(said.summary["lost"], 0, "{}", said.summary);
    assert_eq!(said.summary["audit"]["balance"], true, "{}", said.summary);
    assert!(
        said.summary["paths"]["complete"].as_u64() > Some(connections * 4 * MESSAGES as u64),
        "{}",
        said.summary
    );
    assert!(last <= second + DRIFT, "{second} kB, later {last} kB: {samples:?}");
    wait_until("nothing is left in the kernel", || our_programs().is_subset(&before));
}
