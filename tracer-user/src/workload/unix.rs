//! UNIX sockets. Names are abstract: they leave no file behind.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::SystemTime,
};

use super::{MESSAGE, PATIENCE, Talk, check, wait::until_ready};

/// A listener with a name.
pub(super) struct UnixServer {
    listener: UnixListener,
    name: SocketAddr,
}

impl UnixServer {
    pub(super) fn bind() -> io::Result<Self> {
        let name = new_name()?;
        let listener = UnixListener::bind_addr(&name)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, name })
    }
}

impl Talk for UnixServer {
    fn ports(&self) -> Vec<u16> {
        Vec::new()
    }

    fn talk(&self) -> io::Result<()> {
        // Blocks only while the listener's queue is full, and it is ours alone.
        let client = UnixStream::connect_addr(&self.name)?;
        let (server, _) = until_ready(PATIENCE, || self.listener.accept())?;
        pass(client, server)
    }
}

/// A datagram socket with a name.
pub(super) struct UnixReceiver {
    receiver: UnixDatagram,
    name: SocketAddr,
}

impl UnixReceiver {
    pub(super) fn bind() -> io::Result<Self> {
        let name = new_name()?;
        let receiver = UnixDatagram::bind_addr(&name)?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { receiver, name })
    }
}

impl Talk for UnixReceiver {
    fn ports(&self) -> Vec<u16> {
        Vec::new()
    }

    fn talk(&self) -> io::Result<()> {
        let sender = UnixDatagram::unbound()?;
        sender.set_write_timeout(Some(PATIENCE))?;
        sender.connect_addr(&self.name)?;
        sender.send(MESSAGE)?;
        let mut message = [0; 2 * MESSAGE.len()];
        let len = self.receiver.recv(&mut message)?;
        check(&message[..len], MESSAGE)
    }
}

/// A pair, made anew each time.
pub(super) struct UnixSocketPair;

impl Talk for UnixSocketPair {
    fn ports(&self) -> Vec<u16> {
        Vec::new()
    }

    fn talk(&self) -> io::Result<()> {
        let (one, other) = UnixStream::pair()?;
        pass(one, other)
    }
}

/// One message from the one to the other.
fn pass(mut from: UnixStream, mut to: UnixStream) -> io::Result<()> {
    to.set_nonblocking(false)?;
    from.set_write_timeout(Some(PATIENCE))?;
    to.set_read_timeout(Some(PATIENCE))?;
    from.write_all(MESSAGE)?;
    let mut message = [0; MESSAGE.len()];
    to.read_exact(&mut message)?;
    check(&message, MESSAGE)
}

/// A name that nobody else in this network namespace has. The time is in it, as containers on the host's network may have
/// the same process identifiers.
pub(super) fn new_name() -> io::Result<SocketAddr> {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    let ns = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    SocketAddr::from_abstract_name(format!("pathtrace-{}-{ns}-{number}", process::id()))
}
