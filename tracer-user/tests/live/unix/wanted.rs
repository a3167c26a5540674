//! Which sockets a filter lets through: by the processes that use them, and by the names at either end.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::{
            fs::symlink,
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    process,
};

use super::{pair, receive, send};
use crate::{
    peer::{Peer, Place},
    support::{Said, Trace, hops, one_backend},
};

const ROUNDS: usize = 10;

/// The lengths of the messages, each of which is whole, and what their sockets are called.
fn messages(said: &Said) -> Vec<(u64, Option<&str>)> {
    said.assert_whole();
    let messages = said.messages();
    messages.iter().map(|path| (path["len"].as_u64().unwrap(), path["flow"]["path"].as_str())).collect()
}

fn lengths(said: &Said) -> Vec<u64> {
    messages(said).into_iter().map(|(len, _)| len).collect()
}

#[test]
fn who_uses_a_socket_uses_both_directions() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for (at, kind) in [Place::UnixStream, Place::UnixDatagram].into_iter().enumerate() {
            for is_own in [true, false] {
                let place: Place = kind(file(&format!("{at}-{is_own}")));
                let peer = Peer::echo(&place);
                let pid = if is_own { process::id() } else { peer.pid() };
                let trace = Trace::start(&backend, &["--proto", "unix", "--pid", &pid.to_string()]);
                place.ask(ROUNDS);
                let said = trace.stop();
                said.assert_whole();
                // Only the first read shows that the server uses its socket.
                let least = if is_own { 2 * ROUNDS } else { 2 * ROUNDS - 1 };
                let count = said.messages().len();
                assert!((least..=2 * ROUNDS).contains(&count), "{count} of {place:?}: {:#?}", said.paths);
                for sender in [process::id(), peer.pid()] {
                    let sent = said.messages().iter().filter(|path| path["sender"]["pid"] == sender).count();
                    assert!((ROUNDS - 1..=ROUNDS).contains(&sent), "{sent} of {place:?}: {:#?}", said.paths);
                }
            }
        }
    }
}

/// A folder, the same by another name, and the name of a socket in both.
fn two_spellings() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    (folder, real.join("socket"), link.join("socket"))
}

#[test]
fn a_client_may_spell_the_name_otherwise() {
    if let Some(backend) = one_backend() {
        let (_folder, name, other_name) = two_spellings();
        let listener = UnixListener::bind(&name).unwrap();
        let trace = Trace::start(&backend, &["--unix", name.to_str().unwrap()]);
        let mut client = UnixStream::connect(&other_name).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for _ in 0..3 {
            client.write_all(&[1; 10]).unwrap();
            server.read_exact(&mut [0; 10]).unwrap();
            server.write_all(&[1; 20]).unwrap();
            client.read_exact(&mut [0; 20]).unwrap();
        }
        let said = trace.stop();
        assert_eq!(lengths(&said), [10, 20].repeat(3), "{:#?}", said.paths);
        said.assert_way(&said.paths[0], &["unix_stream_connect", "unix_accept"]);
        assert_eq!(said.paths.len(), 7, "{:#?}", said.paths);
        assert!(said.paths.iter().all(|path| path["flow"]["path"] == name.to_str().unwrap()));
    }
}

#[test]
fn datagrams_may_spell_the_name_otherwise() {
    if let Some(backend) = one_backend() {
        let (_folder, name, other_name) = two_spellings();
        let receiver = UnixDatagram::bind(&name).unwrap();
        let elsewhere = UnixDatagram::bind(name.with_extension("else")).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let trace = Trace::start(&backend, &["--unix", name.to_str().unwrap()]);
        for _ in 0..3 {
            sender.send_to(&[1; 10], &other_name).unwrap();
            sender.send_to(&[1; 99], other_name.with_extension("else")).unwrap();
            sender.send_to(&[1; 20], &name).unwrap();
        }
        for _ in 0..3 {
            elsewhere.recv(&mut [0; 99]).unwrap();
            receiver.recv(&mut [0; 99]).unwrap();
            receiver.recv(&mut [0; 99]).unwrap();
        }
        let said = trace.stop();
        assert_eq!(messages(&said), [(10, name.to_str()), (20, name.to_str())].repeat(3));
    }
}

/// Binds, or connects, a socket to a path.
fn at(call: unsafe extern "C" fn(i32, *const libc::sockaddr, u32) -> i32, socket: &OwnedFd, path: &Path) {
    // SAFETY: `sockaddr_un` is plain data, and zeroes are a value of it.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = u16::try_from(libc::AF_UNIX).unwrap();
    for (place, byte) in address.sun_path.iter_mut().zip(path.to_str().unwrap().bytes()) {
        *place = byte.cast_signed();
    }
    let len = u32::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the pointer and the length describe `address`, which lives through the call.
    let result = unsafe { call(socket.as_raw_fd(), (&raw const address).cast(), len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_client_that_is_bound_talks_to_a_wanted_name_too() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let [server_name, client_name] = ["server", "client"].map(|name| folder.path().join(name));
        let listener = UnixListener::bind(&server_name).unwrap();
        // SAFETY: no memory is involved.
        let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        let client = unsafe { OwnedFd::from_raw_fd(socket) };
        at(libc::bind, &client, &client_name);
        at(libc::connect, &client, &server_name);
        let (server, _) = listener.accept().unwrap();
        let trace = Trace::start(&backend, &["--unix", server_name.to_str().unwrap()]);
        for _ in 0..3 {
            send(&client, &[1; 10]);
            assert_eq!(receive(&server), 10);
            send(&server, &[1; 20]);
            assert_eq!(receive(&client), 20);
        }
        let said = trace.stop();
        assert_eq!(lengths(&said), [10, 20].repeat(3), "{:#?}", said.paths);
    }
}

#[test]
fn the_answers_of_a_wanted_name_are_wanted() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let [server_name, client_name] = ["server", "client"].map(|name| folder.path().join(name));
        let server = UnixDatagram::bind(&server_name).unwrap();
        let client = UnixDatagram::bind(&client_name).unwrap();
        for is_connected in [false, true] {
            let trace = Trace::start(&backend, &["--unix", server_name.to_str().unwrap()]);
            if is_connected {
                client.connect(&server_name).unwrap();
                client.send(&[1; 10]).unwrap();
            } else {
                client.send_to(&[1; 10], &server_name).unwrap();
            }
            server.recv(&mut [0; 10]).unwrap();
            server.send_to(&[1; 20], &client_name).unwrap();
            client.recv(&mut [0; 20]).unwrap();
            let said = trace.stop();
            assert_eq!(messages(&said), [(10, server_name.to_str()), (20, server_name.to_str())]);
        }
    }
}

#[test]
fn a_datagram_socket_talks_to_one_after_the_other() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b"].map(|name| folder.path().join(name));
        let [a, b] = names.each_ref().map(|name| UnixDatagram::bind(name).unwrap());
        let [a_name, b_name] = names.each_ref().map(|name| name.to_str().unwrap());
        let own = process::id().to_string();
        for (args, expected) in [
            (
                ["--pid", &own],
                vec![(1, Some(a_name)), (2, Some(b_name)), (3, Some(b_name)), (4, Some(a_name))],
            ),
            (["--unix", a_name], vec![(1, Some(a_name)), (4, Some(a_name))]),
            (["--unix", b_name], vec![(2, Some(b_name)), (3, Some(b_name))]),
        ] {
            let args = [&args[..], &["--proto", "unix"]].concat();
            let trace = Trace::start(&backend, &args);
            let sender = UnixDatagram::unbound().unwrap();
            sender.connect(a_name).unwrap();
            sender.send(&[1; 1]).unwrap();
            sender.connect(b_name).unwrap();
            sender.send(&[1; 2]).unwrap();
            sender.send(&[1; 3]).unwrap();
            // The name counts, not the connection.
            sender.send_to(&[1; 4], a_name).unwrap();
            for (receiver, len) in [(&b, 2), (&a, 1), (&b, 3), (&a, 4)] {
                assert_eq!(receiver.recv(&mut [0; 9]).unwrap(), len);
            }
            let said = trace.stop();
            assert_eq!(messages(&said), expected, "{args:?}: {:#?}", said.paths);
        }
    }
}

#[test]
fn a_socket_without_a_name_has_no_abstract_one() {
    if let Some(backend) = one_backend() {
        let name = format!("pathtrace-live-any-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let trace = Trace::start(&backend, &["--unix", "@*"]);
        let (one, other) = pair(libc::SOCK_STREAM);
        send(&one, &[1; 99]);
        assert_eq!(receive(&other), 99);
        let client = UnixStream::connect_addr(&address).unwrap();
        let (server, _) = listener.accept().unwrap();
        send(&client, &[1; 98]);
        assert_eq!(receive(&server), 98);
        let said = trace.stop();
        assert!(said.messages().iter().all(|path| path["len"] != 99), "{:#?}", said.paths);
        let is_shown = |path: &&serde_json::Value| path["len"] == 98 && hops(path).len() > 1;
        assert!(said.messages().into_iter().any(|path| is_shown(&path)), "{:#?}", said.paths);
    }
}

/// Not even for a moment, as the room is only free again when pathtrace comes by.
#[test]
fn sockets_that_are_not_wanted_take_no_room() {
    if let Some(backend) = one_backend() {
        let trace = Trace::start(&backend, &["--unix", "/nothing/of/that/name", "--buffer-size", "64K"]);
        trace.signal(libc::SIGSTOP);
        for _ in 0..2000 {
            let (one, other) = pair(libc::SOCK_STREAM);
            send(&one, &[1; 10]);
            assert_eq!(receive(&other), 10);
        }
        trace.signal(libc::SIGCONT);
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.summary["lost"], 0, "{}", said.summary);
    }
}
