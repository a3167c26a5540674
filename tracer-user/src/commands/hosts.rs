//! Names of hosts.

use std::net::{SocketAddr, ToSocketAddrs as _};

use super::Failure;

/// All addresses of a host, each once, in the order in which the resolver names them; never none. `option`: for what it was
/// given.
pub(super) fn addresses_of(option: &'static str, name: &str) -> Result<Vec<SocketAddr>, Failure> {
    let refused = |why: String| Failure::Value { option, value: name.to_owned(), why };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (name, 0).to_socket_addrs().map_err(|error| refused(error.to_string()))? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(refused("it has no address".to_owned())) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_addresses_or_is_refused() {
        let addresses = addresses_of("--host", "localhost").unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        let refused = addresses_of("--host", "no-such-host.invalid").unwrap_err().to_string();
        assert!(refused.starts_with("--host no-such-host.invalid: "), "{refused}");
    }
}
