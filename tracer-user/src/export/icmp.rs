//! What ICMP messages are called.

use std::fmt;

use crate::model::{Flow, Icmp, Path, Protocol};

/// What an ICMP message says, in words: `port unreachable (udp)`.
#[derive(Clone, Copy, Debug)]
pub struct IcmpMessage {
    protocol: Protocol,
    says: Icmp,
}

impl IcmpMessage {
    /// That of a path, if it is of one.
    pub fn of(path: &Path) -> Option<Self> {
        let Flow { protocol, .. } = path.flow?;
        path.icmp.map(|says| Self { protocol, says })
    }

    /// The name of its type and code, if they have one.
    pub fn name(self) -> Option<&'static str> {
        let Icmp { kind, code, .. } = self.says;
        if self.protocol == Protocol::Icmpv6 { name_v6(kind, code) } else { name_v4(kind, code) }
    }
}

impl fmt::Display for IcmpMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Icmp { kind, code, answers } = self.says;
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "type {kind} code {code}")?,
        }
        answers.map_or(Ok(()), |transport| write!(f, " ({transport})"))
    }
}

/// `include/uapi/linux/icmp.h`.
fn name_v4(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (0, _) => "echo reply",
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 5) => "source route failed",
        (3, 9 | 10 | 13) => "administratively prohibited",
        (3, _) => "destination unreachable",
        (4, _) => "source quench",
        (5, _) => "redirect",
        (8, _) => "echo request",
        (9, _) => "router advertisement",
        (10, _) => "router solicitation",
        (11, 1) => "reassembly time exceeded",
        (11, _) => "time to live exceeded",
        (12, _) => "parameter problem",
        (13, _) => "timestamp request",
        (14, _) => "timestamp reply",
        _ => return None,
    })
}

/// `include/uapi/linux/icmpv6.h`.
fn name_v6(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "no route",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond scope of source",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source policy failed",
        (1, 6) => "route rejected",
        (1, _) => "destination unreachable",
        (2, _) => "packet too big",
        (3, 1) => "reassembly time exceeded",
        (3, _) => "hop limit exceeded",
        (4, _) => "parameter problem",
        (128, _) => "echo request",
        (129, _) => "echo reply",
        (130, _) => "multicast listener query",
        (131 | 143, _) => "multicast listener report",
        (132, _) => "multicast listener done",
        (133, _) => "router solicitation",
        (134, _) => "router advertisement",
        (135, _) => "neighbour solicitation",
        (136, _) => "neighbour advertisement",
        (137, _) => "redirect",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_numbers_of_its_own() {
        let text = |protocol, kind, code, answers| {
            IcmpMessage { protocol, says: Icmp { kind, code, answers } }.to_string()
        };
        assert_eq!(text(Protocol::Icmp, 3, 3, Some(Protocol::Udp)), "port unreachable (udp)");
        assert_eq!(text(Protocol::Icmpv6, 1, 4, Some(Protocol::Udp)), "port unreachable (udp)");
        assert_eq!(text(Protocol::Icmp, 8, 0, None), "echo request");
        assert_eq!(text(Protocol::Icmpv6, 128, 0, None), "echo request");
        assert_eq!(text(Protocol::Icmp, 128, 7, None), "type 128 code 7");
    }
}
