//! Messages on UNIX sockets, whatever pieces they are read in, and their names.

mod odd;
mod wanted;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    mem::{MaybeUninit, size_of},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    process, thread,
};

use serde_json::Value;

use crate::support::{Said, Trace, backends, hops};

/// A connection to a listener of this name, and the name's folder.
fn connection() -> (UnixStream, UnixStream, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("socket");
    let listener = UnixListener::bind(&name).unwrap();
    let client = UnixStream::connect(&name).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server, name.to_str().unwrap().to_owned(), folder)
}

/// A pair of connected sockets of any type.
fn pair(kind: i32) -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: new descriptors that nobody else owns.
    ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) }).into()
}

fn send(to: &impl AsRawFd, message: &[u8]) {
    // SAFETY: the pointer and the length describe `message`, which lives through the call.
    let sent = unsafe { libc::send(to.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    assert_eq!(usize::try_from(sent), Ok(message.len()), "{}", std::io::Error::last_os_error());
}

fn receive(from: &impl AsRawFd) -> usize {
    let mut message = [0u8; 4096];
    // SAFETY: the pointer and the length describe `message`, which lives through the call.
    let got = unsafe { libc::recv(from.as_raw_fd(), message.as_mut_ptr().cast(), message.len(), 0) };
    usize::try_from(got).unwrap_or_else(|_| panic!("{}", std::io::Error::last_os_error()))
}

/// The inode number of a socket.
fn inode(socket: &impl AsRawFd) -> u64 {
    let mut meta = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `meta` has room for what the kernel writes, which is all of it if there is no error.
    unsafe {
        assert_eq!(libc::fstat(socket.as_raw_fd(), meta.as_mut_ptr()), 0);
        meta.assume_init().st_ino
    }
}

fn own_process() -> Value {
    Value::from(process::id())
}

fn assert_lengths(said: &Said, lengths: &[u64]) {
    said.assert_whole();
    let seen: Vec<u64> = said.messages().iter().map(|path| path["len"].as_u64().unwrap()).collect();
    assert_eq!(seen, lengths, "{:#?}\n{}", said.paths, said.summary);
    for path in said.messages() {
        // The last hop, unless the reader was faster than its wake-up.
        assert!(hops(path)[1..].iter().any(|hop| hop.ends_with("_recvmsg")), "{path}");
        for end in ["sender", "receiver"] {
            assert_eq!(path[end]["pid"], own_process(), "{path}");
        }
    }
}

#[test]
fn a_message_that_is_read_in_two_reads_is_one_path() {
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for _ in 0..5 {
            client.write_all(&[1; 100]).unwrap();
            server.read_exact(&mut [0; 60]).unwrap();
            server.read_exact(&mut [0; 40]).unwrap();
        }
        let said = trace.stop();
        assert_lengths(&said, &[100; 5]);
        for path in said.messages() {
            assert_eq!(path["unix"]["reads"], 2, "{path}");
            let read = hops(path).iter().filter(|hop| **hop == "unix_stream_recvmsg").count();
            assert_eq!(read, 1, "the one that ended it: {path}");
        }
    }
}

#[test]
fn messages_that_are_read_at_once_are_a_path_each() {
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for _ in 0..5 {
            client.write_all(&[1; 30]).unwrap();
            client.write_all(&[1; 50]).unwrap();
            assert_eq!(server.read(&mut [0; 200]).unwrap(), 80);
        }
        let said = trace.stop();
        assert_lengths(&said, &[30, 50].repeat(5));
        assert!(said.messages().iter().all(|path| path["unix"]["reads"] == 1), "{:#?}", said.paths);
    }
}

#[test]
fn reads_that_end_in_the_middle_of_messages_lose_none() {
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for len in [10, 20, 30, 40] {
            client.write_all(&vec![1; len]).unwrap();
        }
        for len in [15, 1, 34, 50] {
            server.read_exact(&mut vec![0; len]).unwrap();
        }
        assert_lengths(&trace.stop(), &[10, 20, 30, 40]);
    }
}

/// Many buffers, more than the socket holds, so that sender and reader wait for each other.
#[test]
fn a_large_message_is_one_path() {
    const BYTES: usize = 200_000;
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for _ in 0..5 {
            thread::scope(|scope| {
                let reader = scope.spawn(|| server.read_exact(&mut vec![0; BYTES]).unwrap());
                assert_eq!(client.write(&vec![1; BYTES]).unwrap(), BYTES);
                reader.join().unwrap();
            });
        }
        let said = trace.stop();
        assert_lengths(&said, &[BYTES as u64; 5]);
    }
}

#[test]
fn sockets_from_before_the_trace_have_their_names() {
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for _ in 0..3 {
            client.write_all(&[1; 10]).unwrap();
            server.read_exact(&mut [0; 10]).unwrap();
            server.write_all(&[1; 20]).unwrap();
            client.read_exact(&mut [0; 20]).unwrap();
        }
        let said = trace.stop();
        assert_lengths(&said, &[10, 20].repeat(3));
        for path in said.messages() {
            assert_eq!(path["flow"]["path"], name.as_str(), "{path}");
            let sender = if path["len"] == 10 { inode(&client) } else { inode(&server) };
            assert_eq!(path["flow"]["inode"], sender, "{path}");
        }
    }
}

#[test]
fn pairs_have_no_name_and_are_whole() {
    for backend in backends() {
        for (kind, shown, send_hop, read_hop) in [
            (libc::SOCK_STREAM, "stream", "unix_stream_sendmsg", "unix_stream_recvmsg"),
            (libc::SOCK_DGRAM, "dgram", "unix_dgram_sendmsg", "unix_dgram_recvmsg"),
            (libc::SOCK_SEQPACKET, "seqpacket", "unix_dgram_sendmsg", "unix_dgram_recvmsg"),
        ] {
            let (one, other) = pair(kind);
            let pid = process::id().to_string();
            let trace = Trace::start(&backend, &["--proto", "unix", "--pid", &pid]);
            for len in 1..=10 {
                send(&one, &vec![1; len]);
                assert_eq!(receive(&other), len);
                send(&other, &vec![1; len + 100]);
                assert_eq!(receive(&one), len + 100);
            }
            let said = trace.stop();
            let lengths: Vec<u64> = (1..=10).flat_map(|len| [len, len + 100]).collect();
            assert_lengths(&said, &lengths);
            for path in said.messages() {
                said.assert_way(path, &[send_hop, read_hop]);
                assert_eq!(path["flow"]["type"], shown, "{path}");
                assert!(path["flow"]["path"].is_null(), "{path}");
                let sender = if path["len"].as_u64() < Some(100) { inode(&one) } else { inode(&other) };
                assert_eq!(path["flow"]["inode"], sender, "{path}");
            }
        }
    }
}

#[test]
fn datagrams_wait_in_a_queue_and_are_read_in_order() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("datagrams");
        let receiver = UnixDatagram::bind(&name).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let name_text = name.to_str().unwrap();
        let trace = Trace::start(&backend, &["--unix", name_text]);
        for _ in 0..5 {
            for len in 1..=8 {
                // To a name, and over a connection.
                let sent = if len % 2 == 0 {
                    sender.send_to(&vec![1; len], &name)
                } else {
                    let connected = UnixDatagram::unbound().unwrap();
                    connected.connect(&name).unwrap();
                    connected.send(&vec![1; len])
                };
                assert_eq!(sent.unwrap(), len);
            }
            for len in 1..=8 {
                assert_eq!(receiver.recv(&mut [0; 20]).unwrap(), len);
            }
        }
        let said = trace.stop();
        assert_lengths(&said, &[1, 2, 3, 4, 5, 6, 7, 8].repeat(5));
        for path in said.messages() {
            assert_eq!(path["flow"]["path"], name_text, "{path}");
        }
    }
}

/// Of a datagram the rest is gone after the first read.
#[test]
fn a_datagram_that_is_read_in_part_is_whole() {
    for backend in backends() {
        let (one, other) = pair(libc::SOCK_SEQPACKET);
        let pid = process::id().to_string();
        let trace = Trace::start(&backend, &["--proto", "unix", "--pid", &pid]);
        send(&one, &[1; 100]);
        let mut part = [0u8; 10];
        // SAFETY: the pointer and the length describe `part`, which lives through the call.
        let got = unsafe { libc::recv(other.as_raw_fd(), part.as_mut_ptr().cast(), part.len(), 0) };
        assert_eq!(got, 10);
        assert_lengths(&trace.stop(), &[100]);
    }
}

#[test]
fn abstract_names_are_names() {
    for backend in backends() {
        let name = format!("pathtrace-live-{}", process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let shown = format!("@{name}");
        // One that begins alike is not the same.
        let longer = format!("{name}-longer");
        let other = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&longer).unwrap()).unwrap();
        for (pattern, wanted) in [(shown.clone(), 1), (format!("@{}*", &name[..12]), 2)] {
            let trace = Trace::start(&backend, &["--unix", &pattern]);
            for (listener, name) in [(&listener, &name), (&other, &longer)] {
                let address = SocketAddr::from_abstract_name(name).unwrap();
                let mut client = UnixStream::connect_addr(&address).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client.write_all(&[1; 10]).unwrap();
                server.read_exact(&mut [0; 10]).unwrap();
            }
            let said = trace.stop();
            assert_lengths(&said, &vec![10; wanted]);
            assert_eq!(said.paths.len(), 2 * wanted, "a connection each: {:#?}", said.paths);
            let names = [shown.clone(), format!("@{longer}")];
            for (path, name) in said.messages().into_iter().zip(names) {
                assert_eq!(path["flow"]["path"], name, "{path}");
            }
            assert!(!said.stderr.contains("is bound to"), "{}", said.stderr);
        }
    }
}

#[test]
fn a_star_stands_for_the_rest_of_a_path() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = format!("{}/a*", folder.path().display());
        let names = ["a", "abc", "b", "xa"].map(|name| folder.path().join(name));
        let listeners = names.each_ref().map(|name| UnixListener::bind(name).unwrap());
        let trace = Trace::start(&backend, &["--unix", &pattern]);
        for (name, listener) in names.iter().zip(&listeners) {
            let mut client = UnixStream::connect(name).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; 10]).unwrap();
            server.read_exact(&mut [0; 10]).unwrap();
        }
        let said = trace.stop();
        assert_lengths(&said, &[10; 2]);
        for (path, name) in said.messages().into_iter().zip(&names) {
            assert_eq!(path["flow"]["path"], name.to_str().unwrap(), "{path}");
        }
    }
}

#[test]
fn other_sockets_never_reach_the_ring_buffer() {
    for backend in backends() {
        let (mut client, mut server, name, folder) = connection();
        let other = format!("{name}2");
        let listener = UnixListener::bind(&other).unwrap();
        let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).unwrap();
        let trace = Trace::start(&backend, &["--unix", &other]);
        for _ in 0..20 {
            client.write_all(&[1; 10]).unwrap();
            server.read_exact(&mut [0; 10]).unwrap();
            let sender = UnixDatagram::unbound().unwrap();
            sender.send_to(&[1; 10], folder.path().join("datagrams")).unwrap();
            datagrams.recv(&mut [0; 10]).unwrap();
            let (one, two) = pair(libc::SOCK_SEQPACKET);
            send(&one, &[1; 10]);
            receive(&two);
        }
        let said = trace.stop();
        said.assert_whole();
        assert_eq!(said.summary["events"], 0, "{}\n{:#?}", said.summary, said.paths);
        drop(listener);
    }
}

#[test]
fn descriptors_are_counted() {
    for backend in backends() {
        let (client, server, name, _folder) = connection();
        let trace = Trace::start(&backend, &["--unix", &name]);
        for count in [1, 3] {
            send_descriptors(&client, count);
            assert_eq!(receive_descriptors(&server), count);
        }
        (&client).write_all(&[1; 10]).unwrap();
        (&server).read_exact(&mut [0; 10]).unwrap();
        let said = trace.stop();
        assert_lengths(&said, &[1, 1, 10]);
        let passed: Vec<u64> =
            said.messages().iter().map(|path| path["unix"]["descriptors"].as_u64().unwrap()).collect();
        assert_eq!(passed, [1, 3, 0], "{:#?}", said.paths);
    }
}

/// Room for the header of a control message and a few descriptors, aligned as it must be.
type Control = [u64; 16];

/// Sends one byte, and `count` descriptors (`SCM_RIGHTS`).
fn send_descriptors(to: &UnixStream, count: usize) {
    let mut byte = 1u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control: Control = [0; 16];
    let bytes = u32::try_from(count * size_of::<i32>()).unwrap();
    // SAFETY: `msghdr` is plain data, and zeroes are a value of it. Its pointers point to variables that live through
    // the call; `control` is aligned for `cmsghdr` and has room for a header and 16 descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
        let data = libc::CMSG_DATA(header);
        for at in 0..count {
            let descriptor = to.as_fd().as_raw_fd().to_ne_bytes();
            data.add(at * size_of::<i32>()).copy_from_nonoverlapping(descriptor.as_ptr(), descriptor.len());
        }
        assert_eq!(libc::sendmsg(to.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// Receives one byte, closes the descriptors that came with it, and says how many they were.
fn receive_descriptors(from: &UnixStream) -> usize {
    let mut byte = 0u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control: Control = [0; 16];
    // SAFETY: as in `send_descriptors`; the descriptors are new, and nobody else owns them.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        assert_eq!(libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null());
        let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
        let count = bytes / size_of::<i32>();
        let data = libc::CMSG_DATA(header);
        for at in 0..count {
            let descriptor = std::slice::from_raw_parts(data.add(at * size_of::<i32>()), size_of::<i32>());
            drop(OwnedFd::from_raw_fd(i32::from_ne_bytes(descriptor.try_into().unwrap())));
        }
        count
    }
}

#[test]
fn a_send_that_fails_is_no_message() {
    for backend in backends() {
        let (mut client, mut server, name, _folder) = connection();
        client.set_nonblocking(true).unwrap();
        let trace = Trace::start(&backend, &["--unix", &name]);
        let mut sent = 0;
        let error = loop {
            match client.write(&[1; 1000]) {
                Ok(1000) => sent += 1,
                Ok(part) => panic!("{part} bytes"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        server.read_exact(&mut vec![0; sent * 1000]).unwrap();
        // After the one that failed, one that does not.
        client.write_all(&[1; 7]).unwrap();
        server.read_exact(&mut [0; 7]).unwrap();
        let said = trace.stop();
        let mut lengths = vec![1000; sent];
        lengths.push(7);
        assert_lengths(&said, &lengths);
    }
}

#[test]
fn a_name_that_nothing_is_bound_to_is_warned_of() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let (name, link) = (folder.path().join("socket"), folder.path().join("link"));
        let _bound = UnixDatagram::bind(&name).unwrap();
        std::os::unix::fs::symlink(&name, &link).unwrap();
        let warning = |asked: &std::path::Path| {
            let asked = asked.to_str().unwrap();
            let said = Trace::start(&backend, &["--unix", asked]).stop();
            assert!(said.status.success(), "{}", said.stderr);
            let says = format!("is bound to {asked}");
            said.stderr.lines().find(|line| line.contains(&says)).map(str::to_owned)
        };
        assert_eq!(warning(&name), None);
        let nothing = warning(&folder.path().join("nothing")).unwrap();
        assert!(nothing.contains("when one is"), "{nothing}");
        // Bound under another name: that one is said.
        let other_name = warning(&link).unwrap();
        assert!(other_name.contains(name.to_str().unwrap()), "{other_name}");
    }
}

/// It may take a connection, or data, before its wake-up is over.
#[test]
fn a_server_that_never_sleeps_is_seen_too() {
    const CONNECTIONS: usize = 200;
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("socket");
        let listener = UnixListener::bind(&name).unwrap();
        listener.set_nonblocking(true).unwrap();
        let trace = Trace::start(&backend, &["--unix", name.to_str().unwrap()]);
        thread::scope(|scope| {
            scope.spawn(|| {
                // A socket that is closed while its wake-up is under way has no name any more.
                let mut open = Vec::new();
                for _ in 0..CONNECTIONS {
                    let mut stream = retry(|| listener.accept()).0;
                    stream.set_nonblocking(true).unwrap();
                    assert_eq!(retry(|| stream.read(&mut [0; 20])), 10);
                    open.push(stream);
                }
            });
            for _ in 0..CONNECTIONS {
                UnixStream::connect(&name).unwrap().write_all(&[1; 10]).unwrap();
            }
        });
        let said = trace.stop();
        if said.may_have_missed() {
            continue;
        }
        assert_lengths(&said, &[10; CONNECTIONS]);
        assert_eq!(said.paths.len(), 2 * CONNECTIONS, "a connection each: {}", said.summary);
        // Not as the last hop, if the wake-up was still under way.
        let accepted = said.paths.iter().filter(|path| hops(path).contains(&"unix_accept")).count();
        assert_eq!(accepted, CONNECTIONS, "{}", said.summary);
    }
}

/// Tries until there is something.
fn retry<T>(mut what: impl FnMut() -> std::io::Result<T>) -> T {
    loop {
        match what() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            result => return result.unwrap(),
        }
    }
}

/// Sockets of other programs must not disturb: many at once, each message whole.
#[test]
fn many_sockets_at_a_time_are_kept_apart() {
    const PAIRS: usize = 8;
    const ROUNDS: usize = 50;
    for backend in backends() {
        let pid = process::id().to_string();
        let trace = Trace::start(&backend, &["--proto", "unix", "--pid", &pid]);
        thread::scope(|scope| {
            for number in 1..=PAIRS {
                scope.spawn(move || {
                    let (mut one, mut other) = UnixStream::pair().unwrap();
                    let echo = thread::spawn(move || {
                        let mut message = vec![0; number];
                        while other.read_exact(&mut message).is_ok() {
                            other.write_all(&message).unwrap();
                        }
                    });
                    let mut message = vec![0; number];
                    for _ in 0..ROUNDS {
                        one.write_all(&message).unwrap();
                        one.read_exact(&mut message).unwrap();
                    }
                    drop(one);
                    echo.join().unwrap();
                });
            }
        });
        let said = trace.stop();
        if said.may_have_missed() {
            continue;
        }
        said.assert_whole();
        for number in 1..=PAIRS {
            let count = said.messages().iter().filter(|path| path["len"] == number).count();
            assert_eq!(count, 2 * ROUNDS, "messages of {number} bytes\n{}", said.summary);
        }
    }
}
