//! What lies in a socket is read after its connection has ended.

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket},
};
use serde_json::Value;

use crate::support::{Trace, backends, free_port, hops, set_option, wait_until};

const SIZE: usize = 1000;
const WRITES: usize = 4;

/// `TCP_CLOSE`, of which libc knows nothing.
const CLOSED: u8 = 7;

/// `tcpi_state` of `struct tcp_info`, its first byte.
fn state(socket: &TcpStream) -> u8 {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = u32::try_from(size_of_val(&info)).unwrap();
    // SAFETY: the pointers describe variables that live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "TCP_INFO: {}", std::io::Error::last_os_error());
    // SAFETY: plain numbers, zeroed before.
    unsafe { info.assume_init() }.tcpi_state
}

/// `reader` closes its half first, `writer` sends and closes the other one, the last data with its FIN; only then `reader` reads.
fn reads_late(mut reader: TcpStream, mut writer: TcpStream) {
    reader.shutdown(Shutdown::Write).unwrap();
    assert_eq!(writer.read(&mut [0]).unwrap(), 0);
    for last in 1..=WRITES {
        set_option(&writer, libc::IPPROTO_TCP, libc::TCP_CORK, &i32::from(last == WRITES));
        writer.write_all(&[7; SIZE]).unwrap();
    }
    drop(writer);
    wait_until("the reader's socket is closed", || state(&reader) == CLOSED);
    let mut buffer = [0; SIZE];
    for _ in 0..WRITES {
        reader.read_exact(&mut buffer).unwrap();
    }
    assert_eq!(reader.read(&mut buffer).unwrap(), 0);
}

/// Told without a look at it, which would be seen.
fn has_data(socket: &TcpStream) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
}

/// Connects from this address and port. If that is 0, the kernel chooses it when it connects.
fn connect_from(from: SocketAddrV4, to: SocketAddrV4) -> TcpStream {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32);
    bind(socket.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
    connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
    socket.into()
}

/// The port may be another socket's by then.
#[test]
fn a_read_after_the_end_is_not_of_a_later_connection() {
    for backend in backends() {
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free_port());
        let trace = Trace::start(&backend, &["--port", &at.port().to_string()]);
        let listener = TcpListener::bind(at).unwrap();
        // Nobody else's ports are at this address.
        let address = Ipv4Addr::new(127, 77, 88, 99);
        let mut earlier = connect_from(SocketAddrV4::new(address, 0), at);
        let (mut server, _) = listener.accept().unwrap();
        let port = earlier.local_addr().unwrap().port();
        server.write_all(&[7; SIZE]).unwrap();
        wait_until("it has data", || has_data(&earlier));
        // A RST, so that no port is kept for what may be under way.
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        set_option(&server, libc::SOL_SOCKET, libc::SO_LINGER, &now);
        drop(server);
        wait_until("the first connection is closed", || state(&earlier) == CLOSED);
        let later = connect_from(SocketAddrV4::new(address, port), at);
        let (mut server, _) = listener.accept().unwrap();
        let read = earlier.read(&mut [0; 2 * SIZE]).unwrap();
        assert_eq!(read, SIZE);
        server.write_all(&[7; SIZE / 2]).unwrap();
        wait_until("the later one has data", || has_data(&later));
        let said = trace.stop();
        let unread: Vec<_> = said.data().filter(|path| path["len"] == SIZE / 2).collect();
        assert_eq!(unread.len(), 1, "{:#?}", said.paths);
        assert_eq!(
            (&unread[0]["complete"], &unread[0]["receiver"]),
            (&false.into(), &Value::Null),
            "{}",
            unread[0]
        );
    }
}

/// `tcp_set_state` takes the port away from a socket that has not bound it itself: it is that of the client, and of the accepted one.
#[test]
fn a_read_after_the_connections_end_is_seen() {
    for backend in backends() {
        for at in
            [SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), (Ipv6Addr::LOCALHOST, free_port()).into()]
        {
            let trace = Trace::start(&backend, &["--port", &at.port().to_string()]);
            let listener = TcpListener::bind(at).unwrap();
            let connect = || (TcpStream::connect(at).unwrap(), listener.accept().unwrap().0);
            let (client, server) = connect();
            reads_late(client, server);
            let (client, server) = connect();
            reads_late(server, client);
            let said = trace.stop();
            said.assert_whole();
            assert_eq!(said.data().count(), 2 * WRITES, "{:#?}", said.paths);
            for path in said.data() {
                assert_eq!(hops(path).last(), Some(&"tcp_recvmsg"), "{path}");
            }
        }
    }
}
