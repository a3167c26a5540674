//! What lies in a socket is read after its connection has ended.

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

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
