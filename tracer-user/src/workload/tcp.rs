//! TCP over the loopback device.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::{ANSWER, Family, MESSAGE, PATIENCE, Talk, check, wait::until_ready};

/// A listener that answers.
pub(super) struct TcpServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpServer {
    pub(super) fn bind(family: Family) -> io::Result<Self> {
        let listener = TcpListener::bind(family.loopback(0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

impl Talk for TcpServer {
    fn ports(&self) -> Vec<u16> {
        vec![self.address.port()]
    }

    fn talk(&self) -> io::Result<()> {
        // The kernel completes the handshake before anybody accepts.
        let mut client = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        let (server, _) = until_ready(PATIENCE, || self.listener.accept())?;
        prepare(&client)?;
        prepare(&server)?;
        thread::scope(|scope| {
            let answering = thread::Builder::new().spawn_scoped(scope, || answer(server))?;
            let asked = ask(&mut client);
            let answered = answering.join().unwrap_or_else(|_| Err(io::Error::other("the server panicked")));
            asked.and(answered)
        })
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn ask(client: &mut TcpStream) -> io::Result<()> {
    client.write_all(MESSAGE)?;
    let mut answer = [0; ANSWER.len()];
    client.read_exact(&mut answer)?;
    check(&answer, ANSWER)
}

fn answer(mut server: TcpStream) -> io::Result<()> {
    let mut message = [0; MESSAGE.len()];
    server.read_exact(&mut message)?;
    check(&message, MESSAGE)?;
    server.write_all(ANSWER)
}
