//! `sendfile` gives TCP pages of the kernel's, many at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
    time::SystemTime,
};

use crate::support::{Trace, backends, free_port, hops, kernel, set_option};

const PAGE: usize = 4096;

/// What a pipe holds, and so what `sendfile` gives TCP at once (`splice_to_socket()`).
const AT_ONCE: usize = 16 * PAGE;

/// What the segments of this size carry are whole pages: the rest is TCP's timestamps. So TCP goes on with the next segment, or waits
/// for room, where a page begins, which looks like the begin of a call.
const SEGMENT: i32 = 4096 + 12;

/// Less than what is given at once has room.
const SEND_BUFFER: i32 = 16 << 10;

/// What each call sends. Behind the last but one, pages begin at other places in the file than what is given at once.
const PARTS: [usize; 8] = [AT_ONCE, AT_ONCE, PAGE, 3 * PAGE, 16 * AT_ONCE, AT_ONCE, 10_000, AT_ONCE / 2];

/// By `tcp:tcp_sendmsg_locked`, which fires for each segment.
#[test]
fn each_sendfile_is_seen_once_however_many_segments_it_fills() {
    if backends().is_empty() {
        return;
    }
    if kernel() < (6, 16) {
        eprintln!("NOT TESTED: this kernel has no tcp:tcp_sendmsg_locked");
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(PARTS.iter().sum::<usize>() as u64).unwrap();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let trace = Trace::start("tracepoint", &["--port", &at.port().to_string(), "--proto", "tcp"]);
    let listener = TcpListener::bind(at).unwrap();
    set_option(&listener, libc::IPPROTO_TCP, libc::TCP_MAXSEG, &SEGMENT);
    let client = TcpStream::connect(at).unwrap();
    set_option(&client, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER);
    let (mut server, _) = listener.accept().unwrap();
    let (has_read, is_read) = mpsc::channel();
    let reader = thread::spawn(move || {
        for part in PARTS {
            server.read_exact(&mut vec![0; part]).unwrap();
            has_read.send(()).unwrap();
        }
    });
    // When each call began and came back.
    let calls = PARTS.map(|part| {
        let begun = SystemTime::now();
        // SAFETY: the offset is the file's own, so no memory is involved.
        let sent = unsafe {
            libc::sendfile(client.as_raw_fd(), file.as_file().as_raw_fd(), std::ptr::null_mut(), part)
        };
        let done = SystemTime::now();
        assert_eq!(usize::try_from(sent), Ok(part), "{}", std::io::Error::last_os_error());
        // No segment carries bytes of two calls.
        is_read.recv().unwrap();
        [begun, done].map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos())
    });
    reader.join().unwrap();
    drop(client);
    let said = trace.stop();
    said.assert_whole();
    let (mut bytes, mut begins) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<u64>>::new());
    // What is sent again has had its call.
    for path in said.data().filter(|path| path["retransmitted"] == false) {
        let call = &path["hops"][0];
        assert_eq!(
            (&call["hop"], &call["function"]),
            (&"tcp_sendmsg".into(), &"tcp:tcp_sendmsg_locked".into())
        );
        assert_eq!(hops(path).last(), Some(&"tcp_recvmsg"), "{path}");
        let begun = path["time_ns"].as_u64().unwrap();
        let call = calls.iter().position(|call| (call[0]..=call[1]).contains(&u128::from(begun)));
        let call = call.unwrap_or_else(|| panic!("no call at that time: {path}\n{calls:?}"));
        *bytes.entry(call).or_insert(0) += usize::try_from(path["len"].as_u64().unwrap()).unwrap();
        begins.entry(call).or_default().insert(begun);
    }
    assert_eq!(bytes.into_values().collect::<Vec<_>>(), PARTS);
    let begins: Vec<usize> = begins.into_values().map(|begins| begins.len()).collect();
    assert_eq!(begins, PARTS.map(|part| part.div_ceil(AT_ONCE)));
}
