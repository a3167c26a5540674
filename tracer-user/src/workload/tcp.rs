//! TCP over sockets of this host.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::{ANSWER, MESSAGE, PATIENCE, Talk, check, segments::segments, wait::until_ready};

/// A listener that answers.
pub struct TcpServer {
    listener: TcpListener,
    address: SocketAddr,
}

/// A connection that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Who asked.
    pub client: SocketAddr,
    /// Who answered.
    pub server: SocketAddr,
    /// How many messages were sent, and as many answers.
    pub messages: u32,
    /// How many segments the client's socket says that it has sent and received, from SYN to the last ACK; `None` where the
    /// kernel does not count them.
    pub segments: Option<u32>,
}

impl TcpServer {
    /// Listens; with port 0 on one that the kernel chooses.
    pub fn bind(at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects to itself, asks and answers so many times, and closes both ends.
    pub fn converse(&self, messages: u32) -> io::Result<Conversation> {
        // The kernel completes the handshake before anybody accepts.
        let mut client = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        let from = client.local_addr()?;
        let server = self.accept(from)?;
        prepare(&client)?;
        prepare(&server)?;
        thread::scope(|scope| {
            let answering = thread::Builder::new().spawn_scoped(scope, || answer(server, messages))?;
            let asked = ask(&mut client, messages);
            let answered = answering.join().unwrap_or_else(|_| Err(io::Error::other("the server panicked")));
            asked.and(answered)
        })?;
        Ok(Conversation { client: from, server: self.address, messages, segments: segments(&client) })
    }

    /// Takes the connection of this client. Whoever else has found the port is sent away.
    fn accept(&self, client: SocketAddr) -> io::Result<TcpStream> {
        loop {
            let (server, from) = until_ready(PATIENCE, || self.listener.accept())?;
            if (from.ip(), from.port()) == (client.ip(), client.port()) {
                return Ok(server);
            }
        }
    }
}

impl Talk for TcpServer {
    fn ports(&self) -> Vec<u16> {
        vec![self.address.port()]
    }

    fn talk(&self) -> io::Result<()> {
        self.converse(1).map(drop)
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Ends first, and sees the other end.
fn ask(client: &mut TcpStream, messages: u32) -> io::Result<()> {
    for _ in 0..messages {
        client.write_all(MESSAGE)?;
        let mut answer = [0; ANSWER.len()];
        client.read_exact(&mut answer)?;
        check(&answer, ANSWER)?;
    }
    client.shutdown(Shutdown::Write)?;
    expect_end(client)
}

/// Ends when the client has ended.
fn answer(mut server: TcpStream, messages: u32) -> io::Result<()> {
    for _ in 0..messages {
        let mut message = [0; MESSAGE.len()];
        server.read_exact(&mut message)?;
        check(&message, MESSAGE)?;
        server.write_all(ANSWER)?;
    }
    expect_end(&mut server)
}

fn expect_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "more came than was sent")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_sockets_count_what_was_sent() {
        let server = TcpServer::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let conversation = server.converse(2).unwrap();
        assert_eq!((conversation.server, conversation.messages), (server.address(), 2));
        // SYN, SYN-ACK, ACK; two messages and two answers; FIN, FIN and the ACKs for them that nothing else carries.
        assert!(conversation.segments >= Some(9), "{conversation:?}");
    }
}
