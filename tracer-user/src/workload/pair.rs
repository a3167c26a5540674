//! Two ends that are connected, for two processes.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use nix::sys::socket::{UnixAddr, bind};

use super::{Link, unix::new_name};

/// After this long a datagram is lost, or nobody there to connect to.
const LOST: Duration = Duration::from_secs(5);

/// What one process holds of a connection. A read returns what is there, a write waits for room.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reading: File,
    pub(super) writing: File,
}

/// A connection, and by what the kernel's filter knows it.
#[derive(Debug)]
pub struct Pair {
    link: Link,
    port: Option<u16>,
    name: Option<Vec<u8>>,
    pub(super) client: End,
    pub(super) server: End,
}

impl Pair {
    /// Connects two ends. TCP sends at once what it is given (`TCP_NODELAY`). `reserved`: where TCP shall listen, if that
    /// was decided before.
    pub fn connect(link: Link, reserved: Option<TcpListener>) -> io::Result<Self> {
        let (mut port, mut name) = (None, None);
        let (client, server) = match link {
            Link::Tcp | Link::Sockmap => {
                let listener = reserved.map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)?;
                port = Some(listener.local_addr()?.port());
                let (client, server) = tcp(&listener)?;
                (End::socket(client)?, End::socket(server)?)
            }
            Link::Unix => {
                let address = new_name()?;
                name = address.as_abstract_name().map(<[u8]>::to_vec);
                let listener = UnixListener::bind_addr(&address)?;
                let client = UnixStream::connect_addr(&address)?;
                (End::socket(client)?, End::socket(listener.accept()?.0)?)
            }
            Link::Udp => {
                let [client, server] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
                let (client, server) = (client?, server?);
                client.connect(server.local_addr()?)?;
                server.connect(client.local_addr()?)?;
                // A datagram may be lost.
                client.set_read_timeout(Some(LOST))?;
                server.set_read_timeout(Some(LOST))?;
                port = Some(server.local_addr()?.port());
                (End::socket(client)?, End::socket(server)?)
            }
            Link::SocketPair => {
                let (client, server) = UnixStream::pair()?;
                // By its name the filter tells it from others' pairs, which have none.
                let address = new_name()?;
                name = address.as_abstract_name().map(<[u8]>::to_vec);
                let address = UnixAddr::new_abstract(name.as_deref().unwrap_or_default())?;
                bind(server.as_raw_fd(), &address)?;
                (End::socket(client)?, End::socket(server)?)
            }
            Link::Pipe => {
                let (question, asking) = io::pipe()?;
                let (answer, answering) = io::pipe()?;
                let file = |end: OwnedFd| File::from(end);
                (
                    End { reading: file(answer.into()), writing: file(asking.into()) },
                    End { reading: file(question.into()), writing: file(answering.into()) },
                )
            }
        };
        Ok(Self { link, port, name, client, server })
    }

    /// Of which kind it is.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The port that each of its IP packets has, if it has such packets.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The abstract name (without the NUL before it) of one end, if it is a UNIX socket.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }
}

impl End {
    fn socket(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let reading = File::from(socket.into());
        Ok(Self { writing: reading.try_clone()?, reading })
    }
}

/// Connects to the listener, whose port somebody else may have found as well.
fn tcp(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect_timeout(&listener.local_addr()?, LOST)?;
    let server = loop {
        let (server, from) = listener.accept()?;
        if from == client.local_addr()? {
            break server;
        }
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client, server))
}
