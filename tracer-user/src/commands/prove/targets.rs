//! Which addresses are asked about: those that were given, or all of this host.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use super::{Failure, addresses_of};
use crate::{
    kernel::network::{Address, Interface},
    proof::{Asked, Holder, Target, is_link_local},
};

/// An address that is asked about, with what the kernel says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) address: IpAddr,
    /// The index and the name of the device that a link-local address lies on.
    pub(super) scope: Option<(u32, String)>,
    /// The device that it is set on.
    pub(super) holder: Option<Holder>,
}

impl Chosen {
    /// For a socket, with port 0.
    pub(super) fn socket_address(&self) -> SocketAddr {
        match self.address {
            IpAddr::V4(v4) => (v4, 0).into(),
            IpAddr::V6(v6) => {
                SocketAddrV6::new(v6, 0, 0, self.scope.as_ref().map_or(0, |(index, _)| *index)).into()
            }
        }
    }
}

/// The addresses that were given, those of named hosts among them.
pub(super) fn resolved(asked: &[Asked]) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::with_capacity(asked.len());
    for one in asked {
        match one {
            Asked::Address(target) => targets.push(target.clone()),
            Asked::Host(name) => {
                for address in addresses_of("address", name)? {
                    let target = Target::new(address.ip(), scope_of(address));
                    targets.push(target.map_err(|why| Failure::Value {
                        option: "address",
                        value: format!("{name} ({})", address.ip()),
                        why,
                    })?);
                }
            }
        }
    }
    Ok(targets)
}

/// The index of the device that a link-local address lies on.
fn scope_of(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V6(v6) if is_link_local(address.ip()) && v6.scope_id() != 0 => {
            Some(v6.scope_id().to_string())
        }
        _ => None,
    }
}

/// What was given, each once; all addresses of this host if nothing was.
pub(super) fn chosen(
    given: &[Target],
    interfaces: &[Interface],
    own: &[Address],
) -> Result<Vec<Chosen>, Failure> {
    let mut all = if given.is_empty() {
        own.iter().map(|address| set_on(*address, interfaces)).collect()
    } else {
        given.iter().map(|target| find(target, interfaces, own)).collect::<Result<Vec<Chosen>, _>>()?
    };
    if all.is_empty() {
        let why =
            "this network namespace has no address; the loopback device may be down (ip link set lo up)";
        return Err(Failure::Value {
            option: "prove",
            value: "without addresses".to_owned(),
            why: why.to_owned(),
        });
    }
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert((one.address, one.scope.clone())));
    Ok(all)
}

fn set_on(address: Address, interfaces: &[Interface]) -> Chosen {
    let device = interfaces.iter().find(|device| device.index == address.interface);
    let name = device.map_or_else(|| format!("if{}", address.interface), |device| device.name.clone());
    Chosen {
        address: address.address,
        scope: is_link_local(address.address).then(|| (address.interface, name.clone())),
        holder: Some(Holder {
            device: name,
            index: address.interface,
            is_up: device.is_some_and(|device| device.is_up),
            usability: address.usability,
        }),
    }
}

fn find(target: &Target, interfaces: &[Interface], own: &[Address]) -> Result<Chosen, Failure> {
    let refused = |why: String| {
        let scope = target.scope.as_ref().map(|scope| format!("%{scope}")).unwrap_or_default();
        Failure::Value { option: "address", value: format!("{}{scope}", target.address), why }
    };
    let scope = match &target.scope {
        None => None,
        Some(wanted) => Some(
            interfaces
                .iter()
                .find(|device| device.name == *wanted || wanted.parse() == Ok(device.index))
                .ok_or_else(|| refused(format!("there is no device {wanted} in this network namespace")))?,
        ),
    };
    let holders: Vec<&Address> = own
        .iter()
        .filter(|own| {
            own.address == target.address && scope.is_none_or(|device| device.index == own.interface)
        })
        .collect();
    match (&holders[..], scope) {
        ([holder, others @ ..], _) if others.is_empty() || !is_link_local(target.address) => {
            Ok(set_on(**holder, interfaces))
        }
        ([], Some(device)) => Ok(Chosen {
            address: target.address,
            scope: Some((device.index, device.name.clone())),
            holder: None,
        }),
        ([], None) if !is_link_local(target.address) => {
            Ok(Chosen { address: target.address, scope: None, holder: None })
        }
        _ => Err(refused("a link-local address needs its device, as in fe80::1%eth0".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::network::Usability;

    fn host() -> (Vec<Interface>, Vec<Address>) {
        let device =
            |index, name: &str| Interface { index, name: name.to_owned(), is_up: true, sent: 0, received: 0 };
        let address = |interface, text: &str| Address {
            address: text.parse().unwrap(),
            interface,
            usability: Usability::Usable,
        };
        (
            vec![device(1, "lo"), device(2, "eth0"), device(3, "eth1")],
            vec![
                address(1, "127.0.0.1"),
                address(2, "192.0.2.7"),
                address(2, "fe80::1"),
                address(3, "fe80::1"),
                address(3, "fe80::2"),
                address(3, "192.0.2.7"),
            ],
        )
    }

    fn ask(given: &[&str]) -> Result<Vec<String>, String> {
        let (interfaces, own) = host();
        let asked: Vec<Asked> = given.iter().map(|text| text.parse().unwrap()).collect();
        let given = resolved(&asked).map_err(|failure| failure.to_string())?;
        let chosen = chosen(&given, &interfaces, &own).map_err(|failure| failure.to_string())?;
        Ok(chosen
            .iter()
            .map(|one| {
                let holder = one.holder.as_ref().map_or("-", |holder| &holder.device);
                format!("{} {holder}", one.socket_address())
            })
            .collect())
    }

    #[test]
    fn nothing_means_all_each_once() {
        assert_eq!(
            ask(&[]).unwrap(),
            [
                "127.0.0.1:0 lo",
                "192.0.2.7:0 eth0",
                "[fe80::1%2]:0 eth0",
                "[fe80::1%3]:0 eth1",
                "[fe80::2%3]:0 eth1",
            ]
        );
        assert!(chosen(&[], &host().0, &[]).is_err());
    }

    #[test]
    fn an_address_may_be_set_on_no_device() {
        assert_eq!(
            ask(&["127.0.0.5", "192.0.2.7", "192.0.2.7"]).unwrap(),
            ["127.0.0.5:0 -", "192.0.2.7:0 eth0"]
        );
        assert_eq!(ask(&["fe80::9%eth0"]).unwrap(), ["[fe80::9%2]:0 -"]);
    }

    #[test]
    fn a_name_stands_for_each_of_its_addresses() {
        assert!(ask(&["localhost", "127.0.0.1"]).unwrap().contains(&"127.0.0.1:0 lo".to_owned()));
        assert!(ask(&["no-such-host.invalid"]).unwrap_err().contains("no-such-host.invalid"));
        let on_a_link = SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, 3);
        assert_eq!(scope_of(on_a_link.into()).as_deref(), Some("3"));
    }

    #[test]
    fn a_link_local_address_lies_on_one_device() {
        assert_eq!(
            ask(&["fe80::1%eth1", "fe80::1%2"]).unwrap(),
            ["[fe80::1%3]:0 eth1", "[fe80::1%2]:0 eth0"]
        );
        assert_eq!(ask(&["fe80::2"]).unwrap(), ["[fe80::2%3]:0 eth1"]);
        assert!(ask(&["fe80::1"]).unwrap_err().contains("fe80::1%eth0"));
        assert!(ask(&["fe80::9"]).is_err());
        assert!(ask(&["fe80::1%eth9"]).unwrap_err().contains("no device eth9"));
    }
}
