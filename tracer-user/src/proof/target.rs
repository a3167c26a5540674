//! An address as it is typed.

use std::{net::IpAddr, str::FromStr};

/// An address that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// The device that it lies on: its name or index, as in `fe80::1%eth0`.
    pub scope: Option<String>,
}

impl Target {
    /// An address that can be asked about.
    pub fn new(address: IpAddr, scope: Option<String>) -> Result<Self, String> {
        let address = address.to_canonical();
        if address.is_unspecified() {
            return Err("this stands for every address of the host; give none to ask about all".to_owned());
        }
        if scope.is_some() && !is_link_local(address) {
            return Err("only link-local addresses (fe80::/10) belong to a device".to_owned());
        }
        Ok(Self { address, scope })
    }
}

/// What is asked about, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One address.
    Address(Target),
    /// All addresses of the host with this name.
    Host(String),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (text, None),
        };
        match address.parse() {
            Ok(address) => Target::new(address, scope).map(Self::Address),
            Err(_) if is_host_name(text) => Ok(Self::Host(text.to_owned())),
            Err(_) => {
                Err("an address is needed, such as 192.0.2.7, ::1 or fe80::1%eth0, or the name of a host"
                    .to_owned())
            }
        }
    }
}

/// Without a letter it is an address that somebody has mistyped.
fn is_host_name(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

/// Whether an address means something on one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_or_refused() {
        let read = |text: &str| text.parse::<Asked>();
        let Asked::Address(link_local) = read("fe80::1%eth0").unwrap() else { panic!("an address") };
        assert_eq!(link_local.scope.as_deref(), Some("eth0"));
        assert_eq!(read("::ffff:192.0.2.7").unwrap(), read("192.0.2.7").unwrap());
        for name in ["localhost", "db.example", "host-1"] {
            assert_eq!(read(name), Ok(Asked::Host(name.to_owned())));
        }
        for wrong in
            ["", "0.0.0.0", "::", "300.0.0.1", "192.0.2.7%eth0", "2001:db8::1%eth0", "10.0.0.0/8", "a b"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
