//! The addresses of packets that are wanted.

use std::net::IpAddr;

use tracer_common::settings::{AddressPattern, SIDE_DESTINATION, SIDE_EITHER, SIDE_SOURCE};

/// Which end an address is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `--host`
    Either,
    /// `--saddr`
    Source,
    /// `--daddr`
    Destination,
}

/// Addresses that begin alike, such as `10.0.0.0/8`; a single address has all its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The address; bits behind the prefix are zero.
    address: IpAddr,
    /// How many bits count.
    prefix: u8,
}

impl AddressRange {
    /// The range of `address` with `prefix` bits; `None` if it has not so many.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = as_sent(address, prefix);
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4(
                (v4.to_bits() & u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)).into(),
            ),
            IpAddr::V6(v6) => IpAddr::V6(
                (v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)).into(),
            ),
        };
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// Whether its addresses are of IPv4.
    pub(super) fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether some address lies in both. (Of two that do, one holds the other.)
    pub(super) fn meets(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Whether an address lies in it.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.prefix) == Some(self)
    }

    pub(super) fn pattern(self, side: Side) -> AddressPattern {
        let words = |bytes: [u8; 16]| {
            let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]));
            [word(0), word(8)]
        };
        let (address, family) = match self.address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                ([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], libc::AF_INET)
            }
            IpAddr::V6(v6) => (v6.octets(), libc::AF_INET6),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        AddressPattern {
            address: words(address),
            mask: words(mask.to_be_bytes()),
            side: match side {
                Side::Either => SIDE_EITHER,
                Side::Source => SIDE_SOURCE,
                Side::Destination => SIDE_DESTINATION,
            },
            family: family.cast_unsigned(),
        }
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        let (address, prefix) = as_sent(address, bits(address));
        Self { address, prefix }
    }
}

/// What goes to an IPv4-mapped address (`::ffff:a.b.c.d`) is sent as IPv4.
fn as_sent(address: IpAddr, prefix: u8) -> (IpAddr, u8) {
    const MAPPED: u8 = 96;
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) if address.is_ipv6() && (MAPPED..=128).contains(&prefix) => (v4, prefix - MAPPED),
        _ => (address, prefix),
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_masks() {
        let range = AddressRange::new("10.1.2.3".parse().unwrap(), 8).unwrap();
        let pattern = range.pattern(Side::Source);
        assert_eq!(pattern.address, [u64::from_ne_bytes([10, 0, 0, 0, 0, 0, 0, 0]), 0]);
        assert_eq!(pattern.mask, [u64::from_ne_bytes([255, 0, 0, 0, 0, 0, 0, 0]), 0]);
        let all = AddressRange::new("::".parse().unwrap(), 0).unwrap().pattern(Side::Either);
        assert_eq!((all.mask, all.family), ([0, 0], 10));
        let one = AddressRange::from("::1".parse::<IpAddr>().unwrap()).pattern(Side::Either);
        assert_eq!(one.mask, [u64::MAX, u64::MAX]);
        assert_eq!(AddressRange::new("127.0.0.1".parse().unwrap(), 33), None);
        let mapped = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(AddressRange::from(mapped("::ffff:10.1.2.3")), AddressRange::from(mapped("10.1.2.3")));
        assert_eq!(
            AddressRange::new(mapped("::ffff:10.1.2.3"), 104),
            AddressRange::new(mapped("10.0.0.0"), 8)
        );
        assert_eq!(AddressRange::new(mapped("::ffff:10.1.2.3"), 129), None);
    }
}
