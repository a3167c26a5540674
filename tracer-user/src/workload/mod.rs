//! Traffic of our own over sockets of this host, small and of known shape: whoever looks for it knows what must be seen.
//!
//! Sockets are bound first and used later, so that their ports are known before the first packet. No wait is without
//! an end, and nothing here needs a privilege.

mod job;
mod link;
mod pair;
mod processes;
mod segments;
mod tcp;
mod udp;
mod unix;
mod wait;

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

pub use self::{
    job::{Job, Shape},
    link::Link,
    pair::Pair,
    processes::{Ends, Report, allowed_cpus, pin, stop_signal},
    tcp::{Conversation, TcpServer},
};
use self::{
    udp::{Refusal, UdpPair},
    unix::{UnixReceiver, UnixServer, UnixSocketPair},
};

/// How long one step of an exchange may take: far longer than anything takes over the loopback device, on an emulated
/// machine as well.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is sent; short, so that each message is one packet.
const MESSAGE: &[u8] = b"pathtrace: hello";
/// What is answered.
const ANSWER: &[u8] = b"pathtrace: hello, too";

/// A family of IP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Address and port of the loopback device; port 0 lets the kernel choose one.
    fn loopback(self, port: u16) -> SocketAddr {
        let address = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(address, port)
    }
}

/// A conversation between two sockets of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Connect, a message, an answer, close, first the client; the two ends in two threads, so that one waits for the other.
    Tcp(Family),
    /// One datagram, which is read.
    Udp(Family),
    /// One datagram to a port that takes none from us: dropped, and answered with ICMP's "port unreachable".
    UdpRefused(Family),
    /// Connect to an abstract name, accept, a message.
    UnixStream,
    /// One datagram to an abstract name.
    UnixDatagram,
    /// A message through a pair of stream sockets, which have no names and never connect.
    UnixPair,
}

impl Exchange {
    /// All of them, TCP first: there the process shows itself beside a flow.
    pub const ALL: [Self; 9] = [
        Self::Tcp(Family::V4),
        Self::Tcp(Family::V6),
        Self::Udp(Family::V4),
        Self::Udp(Family::V6),
        Self::UdpRefused(Family::V4),
        Self::UdpRefused(Family::V6),
        Self::UnixStream,
        Self::UnixDatagram,
        Self::UnixPair,
    ];

    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp(Family::V4) => "tcp4",
            Self::Tcp(Family::V6) => "tcp6",
            Self::Udp(Family::V4) => "udp4",
            Self::Udp(Family::V6) => "udp6",
            Self::UdpRefused(Family::V4) => "udp4_refused",
            Self::UdpRefused(Family::V6) => "udp6_refused",
            Self::UnixStream => "unix_stream",
            Self::UnixDatagram => "unix_datagram",
            Self::UnixPair => "unix_pair",
        }
    }

    /// Binds what it needs.
    fn prepare(self) -> io::Result<Box<dyn Talk>> {
        Ok(match self {
            Self::Tcp(family) => Box::new(TcpServer::bind(family.loopback(0))?),
            Self::Udp(family) => Box::new(UdpPair::bind(family)?),
            Self::UdpRefused(family) => Box::new(Refusal::bind(family)?),
            Self::UnixStream => Box::new(UnixServer::bind()?),
            Self::UnixDatagram => Box::new(UnixReceiver::bind()?),
            Self::UnixPair => Box::new(UnixSocketPair),
        })
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(Family::V4) => "TCP over 127.0.0.1",
            Self::Tcp(Family::V6) => "TCP over ::1",
            Self::Udp(Family::V4) => "UDP over 127.0.0.1",
            Self::Udp(Family::V6) => "UDP over ::1",
            Self::UdpRefused(Family::V4) => "UDP to a closed port of 127.0.0.1",
            Self::UdpRefused(Family::V6) => "UDP to a closed port of ::1",
            Self::UnixStream => "UNIX stream",
            Self::UnixDatagram => "UNIX datagram",
            Self::UnixPair => "UNIX socket pair",
        })
    }
}

/// Why an exchange did not take place.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// This host does not have what it needs: IPv6 is off, say.
    #[error("not available here ({0})")]
    Unavailable(#[source] io::Error),
    /// It began and did not come to its end.
    #[error("{0}")]
    Failed(#[source] io::Error),
    /// The time was up before it could begin.
    #[error("not begun, as the time was up")]
    TimeUp,
}

impl ExchangeError {
    /// An address that no device has and a family that the kernel was built or booted without are no failures.
    fn of_bind(error: io::Error) -> Self {
        let unavailable = matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
            || error.raw_os_error() == Some(libc::EAFNOSUPPORT);
        if unavailable { Self::Unavailable(error) } else { Self::Failed(error) }
    }
}

/// Two ends that are bound and can talk any number of times.
trait Talk {
    /// The bound ports; at least one of them stands in each packet.
    fn ports(&self) -> Vec<u16>;

    /// Talks once, to the end.
    fn talk(&self) -> io::Result<()>;
}

/// Every exchange, bound and ready.
pub struct Workload {
    ready: Vec<(Exchange, Box<dyn Talk>)>,
    failed: Vec<(Exchange, ExchangeError)>,
}

impl Workload {
    /// Binds the sockets of all exchanges. Those that this host does not have are said to be so by [`end`](Self::end).
    pub fn prepare() -> Self {
        let mut workload = Self { ready: Vec::new(), failed: Vec::new() };
        for exchange in Exchange::ALL {
            match exchange.prepare() {
                Ok(talk) => workload.ready.push((exchange, talk)),
                Err(error) => workload.failed.push((exchange, ExchangeError::of_bind(error))),
            }
        }
        workload
    }

    /// The bound ports. Each IP packet of the workload has one of them.
    pub fn ports(&self) -> Vec<u16> {
        self.ready.iter().flat_map(|(_, talk)| talk.ports()).collect()
    }

    /// Does each exchange once, but begins none after `until`. `after_each` is called between them. What fails is not
    /// done again.
    pub fn run(&mut self, until: Instant, mut after_each: impl FnMut()) {
        for (exchange, talk) in std::mem::take(&mut self.ready) {
            let result = if Instant::now() < until {
                talk.talk().map_err(ExchangeError::Failed)
            } else {
                Err(ExchangeError::TimeUp)
            };
            match result {
                Ok(()) => self.ready.push((exchange, talk)),
                Err(error) => self.failed.push((exchange, error)),
            }
            after_each();
        }
    }

    /// How each exchange went, in the order of [`Exchange::ALL`].
    pub fn end(self) -> Vec<(Exchange, Result<(), ExchangeError>)> {
        let mut failed = self.failed;
        let mut result = |exchange| match failed.iter().position(|(which, _)| *which == exchange) {
            Some(at) => Err(failed.swap_remove(at).1),
            None => Ok(()),
        };
        Exchange::ALL.into_iter().map(|exchange| (exchange, result(exchange))).collect()
    }
}

/// An error unless what was read is what was sent.
fn check(read: &[u8], sent: &[u8]) -> io::Result<()> {
    if read == sent {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidData, "somebody else's bytes came"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_ipv6() -> bool {
        std::net::UdpSocket::bind(Family::V6.loopback(0)).is_ok()
    }

    #[test]
    fn every_exchange_comes_to_its_end_again_and_again() {
        let mut workload = Workload::prepare();
        assert!(workload.ports().len() >= 3, "{:?}", workload.ports());
        let until = Instant::now() + Duration::from_secs(60);
        let mut count = 0;
        for _ in 0..3 {
            workload.run(until, || count += 1);
        }
        for (exchange, result) in workload.end() {
            match result {
                Ok(()) => {}
                Err(ExchangeError::Unavailable(_)) => assert!(!has_ipv6(), "{exchange}"),
                Err(error) => panic!("{exchange}: {error}"),
            }
        }
        assert_eq!(count, if has_ipv6() { 27 } else { 18 });
    }

    #[test]
    fn nothing_begins_when_the_time_is_up() {
        let mut workload = Workload::prepare();
        workload.run(Instant::now(), || {});
        for (exchange, result) in workload.end() {
            assert!(
                matches!(result, Err(ExchangeError::TimeUp | ExchangeError::Unavailable(_))),
                "{exchange}: {result:?}"
            );
        }
    }

    #[test]
    fn a_host_without_ipv6_is_no_failure() {
        for errno in [libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT] {
            let error = ExchangeError::of_bind(io::Error::from_raw_os_error(errno));
            assert!(matches!(error, ExchangeError::Unavailable(_)), "{error:?}");
        }
        let error = ExchangeError::of_bind(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(error, ExchangeError::Failed(_)), "{error:?}");
    }
}
