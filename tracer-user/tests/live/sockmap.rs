//! TCP that is short-cut by a map of sockets.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use aya::{maps::loaded_maps, programs::loaded_programs};
use pathtrace::collect::Sockmap;

use crate::{
    peer::{Peer, Place, SIZE},
    support::{Sniffer, free_port, one_backend, ping_pong, wait_until},
};

const ROUNDS: usize = 50;

/// Messages of a ping-pong.
const MESSAGES: u64 = 2 * ROUNDS as u64;

/// At most so many segments open and close a connection: each end sends one, and another one that acknowledges it.
const EMPTY: usize = 3 + 4;

/// Identifiers of what the kernel holds of socket maps.
fn in_kernel() -> BTreeSet<(&'static str, u32)> {
    let programs = loaded_programs().flatten().filter(|it| it.name().starts_with(b"sockmap_"));
    let maps = loaded_maps().flatten().filter(|it| [&b"SOCKETS"[..], b"DELIVERED"].contains(&it.name()));
    programs.map(|it| ("program", it.id())).chain(maps.map(|it| ("map", it.id()))).collect()
}

/// This process and those that it starts from now on take part.
fn enter(sockmap: &Sockmap) {
    fs::write(sockmap.cgroup_procs(), "0").unwrap();
}

fn cgroup_of(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap()
}

#[test]
fn messages_pass_no_device_and_nothing_is_left() {
    if one_backend().is_none() {
        return;
    }
    let (ours, cgroup_before) = (std::process::id(), cgroup_of(std::process::id()));
    let before = in_kernel();
    let at = (Ipv4Addr::LOCALHOST, free_port()).into();
    let sockmap = Sockmap::attach(SocketAddr::port(&at)).unwrap();
    let cgroup = sockmap.cgroup_procs().parent().unwrap().to_owned();
    let ours_in_kernel: BTreeSet<_> = in_kernel().difference(&before).copied().collect();
    assert_eq!(ours_in_kernel.len(), 4, "{ours_in_kernel:?}");

    enter(&sockmap);
    let place = Place::Tcp(at);
    let peer = Peer::echo(&place);
    assert_ne!(cgroup_of(peer.pid()), cgroup_before);
    let sniffer = Sniffer::start(at.port());
    place.ask(ROUNDS);
    let sniffed = sniffer.stop();
    assert!((3..=EMPTY).contains(&sniffed), "{sniffed} segments");
    assert_eq!(sockmap.delivered_bytes().unwrap(), MESSAGES * SIZE as u64);

    drop(sockmap);
    assert!(!cgroup.exists(), "{}", cgroup.display());
    assert_eq!(cgroup_of(ours), cgroup_before);
    // The kernel frees programs after a grace period of its own.
    wait_until("nothing is left in the kernel", || in_kernel().is_disjoint(&ours_in_kernel));
}

#[test]
fn other_connections_stay_as_they_are() {
    if one_backend().is_none() {
        return;
    }
    let place = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (wanted, other) = (free_port(), free_port());
    let sockmap = Sockmap::attach(wanted).unwrap();
    let crosses = |port| {
        let sniffer = Sniffer::start(port);
        ping_pong(place(port), ROUNDS, 100);
        assert!(sniffer.stop() as u64 >= MESSAGES, "port {port}");
        assert_eq!(sockmap.delivered_bytes().unwrap(), 0, "port {port}");
    };
    // The port, but not the cgroup; the cgroup, but not the port.
    crosses(wanted);
    // One end in the cgroup.
    let outside = Peer::echo(&Place::Tcp(place(wanted)));
    enter(&sockmap);
    Place::Tcp(place(wanted)).ask(ROUNDS);
    drop(outside);
    crosses(other);
    ping_pong(place(wanted), ROUNDS, 100);
    assert_eq!(sockmap.delivered_bytes().unwrap(), MESSAGES * SIZE as u64);
}

#[test]
fn a_connection_outlives_the_map() {
    use std::io::{Read as _, Write as _};
    if one_backend().is_none() {
        return;
    }
    let listening = free_port();
    let sockmap = Sockmap::attach(listening).unwrap();
    enter(&sockmap);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listening)).unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut say = |text: &[u8; 4]| {
        client.write_all(text).unwrap();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(heard, *text);
    };
    say(b"by m");
    assert_eq!(sockmap.delivered_bytes().unwrap(), 4);
    drop(sockmap);
    say(b"by l");
    drop(client);
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 0);
}

/// The cgroup of a process that was killed is removed by the next one.
#[test]
fn a_cgroup_left_behind_is_removed() {
    if one_backend().is_none() {
        return;
    }
    let mut gone = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    gone.wait().unwrap();
    let first = Sockmap::attach(free_port()).unwrap();
    let parent = first.cgroup_procs().ancestors().nth(2).unwrap().to_owned();
    drop(first);
    let folder = |process: u32| parent.join(format!("pathtrace-{process}"));
    let [left, alive] = [gone.id(), 1].map(folder);
    for cgroup in [&left, &alive] {
        fs::create_dir(cgroup).unwrap();
    }
    let second = Sockmap::attach(free_port()).unwrap();
    let still = [&left, &alive].map(|cgroup| Path::exists(cgroup));
    drop(second);
    fs::remove_dir(&alive).unwrap();
    assert_eq!(still, [false, true]);
}
