//! UDP over the loopback device.

use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

use super::{Family, MESSAGE, PATIENCE, Talk, check};

/// Two sockets, one of which sends to the other.
pub(super) struct UdpPair {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl UdpPair {
    pub(super) fn bind(family: Family) -> io::Result<Self> {
        Ok(Self { sender: bind(family)?, receiver: bind(family)? })
    }
}

impl Talk for UdpPair {
    fn ports(&self) -> Vec<u16> {
        [&self.sender, &self.receiver].into_iter().filter_map(port).collect()
    }

    fn talk(&self) -> io::Result<()> {
        self.sender.connect(self.receiver.local_addr()?)?;
        self.sender.send(MESSAGE)?;
        let mut message = [0; 2 * MESSAGE.len()];
        let len = self.receiver.recv(&mut message)?;
        check(&message[..len], MESSAGE)
    }
}

/// A socket that sends to a port that is closed to it.
pub(super) struct Refusal {
    sender: UdpSocket,
    /// Connected to itself, so no datagram of others finds it, and nobody else can take the port meanwhile.
    closed: UdpSocket,
}

impl Refusal {
    pub(super) fn bind(family: Family) -> io::Result<Self> {
        let closed = bind(family)?;
        closed.connect(closed.local_addr()?)?;
        Ok(Self { sender: bind(family)?, closed })
    }
}

impl Talk for Refusal {
    fn ports(&self) -> Vec<u16> {
        [&self.sender, &self.closed].into_iter().filter_map(port).collect()
    }

    fn talk(&self) -> io::Result<()> {
        self.sender.connect(self.closed.local_addr()?)?;
        self.sender.send(MESSAGE)?;
        match self.sender.recv(&mut [0; 1]) {
            // ICMP's "port unreachable" has come.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "a closed port has answered")),
        }
    }
}

fn bind(family: Family) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(family.loopback(0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn port(socket: &UdpSocket) -> Option<u16> {
    socket.local_addr().ok().map(|address| address.port())
}
