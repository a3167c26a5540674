//! A listener of our own on each address.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use crate::workload::TcpServer;

/// How often another port is tried where one is taken.
const TRIES: usize = 16;

/// Listens on each of these addresses, on a port that the kernel chooses. It is the same one for all: the kernel programs
/// compare few ports, and a host may have many addresses.
pub(super) fn listen(addresses: &[SocketAddr]) -> Vec<io::Result<TcpServer>> {
    let is_taken = |server: &io::Result<TcpServer>| {
        server.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    };
    let mut servers = listen_once(addresses);
    for _ in 1..TRIES {
        if !servers.iter().any(is_taken) {
            break;
        }
        // The old ones hold their port until the new ones are there, so it is another one.
        servers = listen_once(addresses);
    }
    servers
}

/// Takes for all the port that the first one gets.
fn listen_once(addresses: &[SocketAddr]) -> Vec<io::Result<TcpServer>> {
    let mut port = 0;
    let bind = |address: &SocketAddr| {
        let mut at = *address;
        at.set_port(port);
        let server = TcpServer::bind(at)?;
        port = server.address().port();
        Ok(server)
    };
    addresses.iter().map(bind).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn all_have_one_port_and_a_failure_keeps_its_place() {
        let elsewhere = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 0));
        let loopback = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        let servers = listen(&[loopback(1), elsewhere, loopback(2), loopback(3)]);
        assert_eq!(servers.len(), 4);
        assert!(servers[1].is_err());
        let ports: Vec<u16> = servers.iter().flatten().map(|server| server.address().port()).collect();
        assert!(ports[0] != 0 && ports == [ports[0]; 3], "{ports:?}");
    }
}
