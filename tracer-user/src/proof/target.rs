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

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "an address is needed, such as 192.0.2.7, ::1 or fe80::1%eth0".to_owned())?;
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

/// Whether an address means something on one link only.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        let read = |text: &str| text.parse::<Target>();
        assert_eq!(read("fe80::1%eth0").unwrap().scope.as_deref(), Some("eth0"));
        assert_eq!(read("::ffff:192.0.2.7").unwrap(), read("192.0.2.7").unwrap());
        for wrong in ["localhost", "", "0.0.0.0", "::", "192.0.2.7%eth0", "2001:db8::1%eth0", "10.0.0.0/8"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
