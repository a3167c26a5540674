//! Whom a path is about: the ends, the header, the device, the processes.

use std::fmt::{self, Write as _};

use arrayvec::ArrayString;

use crate::{
    analyze::Class,
    export::{Printable, UnixName, table_name},
    model::{Device, Dropped, Path, Protocol, Route, Task, Tcp},
};

/// `source → destination`, or the name of a UNIX socket.
pub(super) struct Ends<'a>(pub(super) &'a Path);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Class::of(self.0) == Class::Unix {
            return match self.0.unix.as_ref().and_then(|unix| unix.name.as_deref()).and_then(UnixName::new) {
                Some(name) => name.fmt(f),
                None => f.write_str("(unnamed)"),
            };
        }
        match &self.0.flow {
            // ICMP has no ports; those that an error shows are of the packet that it answers.
            Some(flow) if self.0.icmp.is_some_and(|icmp| icmp.answers.is_none()) => {
                write!(f, "{} → {}", flow.src.ip(), flow.dst.ip())
            }
            Some(flow) => write!(f, "{} → {}", flow.src, flow.dst),
            None => f.write_str("(flow not known)"),
        }
    }
}

/// TCP flags as tcpdump writes them, in other protocols their name.
pub(super) struct Flags<'a>(pub(super) &'a Path);

impl fmt::Display for Flags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ArrayString::<16>::new();
        match (self.0.tcp, Class::of(self.0), self.0.flow.map(|flow| flow.protocol)) {
            (_, Class::Unix, _) => {
                text.write_str(match self.0.unix.as_ref().map(|unix| unix.socket_type) {
                    Some(1) => "stream",
                    Some(2) => "dgram",
                    Some(5) => "seqpkt",
                    _ => "unix",
                })?;
            }
            (Some(tcp), ..) => tcp_flags(tcp, &mut text)?,
            (None, _, Some(Protocol::Other(number))) => write!(text, "ip {number}")?,
            (None, _, Some(protocol)) => write!(text, "{protocol}")?,
            (None, _, None) => text.write_char('?')?,
        }
        f.pad(&text)
    }
}

/// In the order of tcpdump's `tcp_flag_values`.
fn tcp_flags(tcp: Tcp, text: &mut impl fmt::Write) -> fmt::Result {
    const LETTERS: [(u8, char); 8] = [
        (Tcp::FIN, 'F'),
        (Tcp::SYN, 'S'),
        (Tcp::RST, 'R'),
        (0x08, 'P'),
        (0x10, '.'),
        (0x20, 'U'),
        (0x40, 'E'),
        (0x80, 'W'),
    ];
    if tcp.flags == 0 {
        return text.write_str("[none]");
    }
    text.write_char('[')?;
    for (_, letter) in LETTERS.iter().filter(|(flag, _)| tcp.flags & flag != 0) {
        text.write_char(*letter)?;
    }
    text.write_char(']')
}

/// What a routing table answered: `local→lo`, or `main: no route` and the like where it gave none.
pub(super) struct Answer<'a>(pub(super) &'a Route);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { table, device, error, .. } = self.0;
        match table_name(*table) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{table}")?,
        }
        match device {
            Some(device) => write!(f, "→{}", DeviceName(device)),
            None => f.write_str(match -*error {
                0 => "",
                libc::EINVAL => ": blackhole",
                libc::EACCES => ": prohibited",
                libc::EHOSTUNREACH | libc::ENETUNREACH => ": unreachable",
                _ => ": no route",
            }),
        }
    }
}

/// `NO_SOCKET in udp_rcv`.
pub(super) struct Reason<'a>(pub(super) &'a Dropped);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dropped { reason, reason_name, location, function } = self.0;
        match (reason_name, reason) {
            (Some(name), _) => Printable(name.as_bytes()).fmt(f)?,
            (None, Some(number)) => write!(f, "reason {number}")?,
            (None, None) => f.write_str("reason unknown")?,
        }
        match function {
            Some(function) => write!(f, " in {}", Printable(function.as_bytes())),
            None if *location != 0 => write!(f, " at {location:#x}"),
            None => Ok(()),
        }
    }
}

/// The name of a device, or `if` and its index.
pub(super) struct DeviceName<'a>(pub(super) &'a Device);

impl fmt::Display for DeviceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.name {
            Some(name) => Printable(name.as_bytes()).fmt(f),
            None => write!(f, "if{}", self.0.ifindex),
        }
    }
}

/// `client(812)`.
pub(super) struct Process<'a>(pub(super) &'a Task);

impl fmt::Display for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.comm {
            Some(comm) => write!(f, "{}({})", Printable::comm(comm), self.0.pid),
            None => write!(f, "pid {}", self.0.pid),
        }
    }
}

/// `client(812) → server(799)`; `?` for the side that is not known.
pub(super) struct Processes<'a>(pub(super) &'a Path);

impl fmt::Display for Processes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |task: Option<&Task>, f: &mut fmt::Formatter<'_>| match task {
            Some(task) => Process(task).fmt(f),
            None => f.write_char('?'),
        };
        side(self.0.sender.as_ref(), f)?;
        f.write_str(" → ")?;
        side(self.0.receiver.as_ref(), f)
    }
}
