//! What the kernel says of its network by rtnetlink, in the network namespace of the thread that asks.

use std::{io, net::IpAddr};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    Error, Handle, IpVersion,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType, RouteVia},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use tokio::task::JoinHandle;

/// `RT_TABLE_LOCAL`: the routing table of this host's own addresses.
pub const TABLE_LOCAL: u32 = 255;

/// `RTN_LOCAL`: the type of a route that ends on this host.
pub const TYPE_LOCAL: u8 = 2;

/// A connection to the kernel. Lives in a tokio runtime.
pub struct Network {
    handle: Handle,
    connection: JoinHandle<()>,
}

/// A network device and what it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub is_up: bool,
    /// Packets that it has sent since it is there.
    pub sent: u64,
    /// Packets that it has received.
    pub received: u64,
}

/// How far an address can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usability {
    /// It can.
    Usable,
    /// It can, but is not chosen for new connections.
    Deprecated,
    /// Not yet: the kernel is finding out whether another host has it.
    Tentative,
    /// Never: another host has it.
    Duplicate,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The index of the device that it is set on.
    pub interface: u32,
    /// How far it can be used.
    pub usability: Usability,
}

/// A route, as an answer or as an entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `RTN_*`.
    pub kind: u8,
    /// The number of the table.
    pub table: u32,
    /// The index of the device.
    pub interface: Option<u32>,
    /// The next host on the way.
    pub gateway: Option<IpAddr>,
}

/// A routing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Rules are asked in the order of these, the lowest first.
    pub priority: u32,
    /// The table that is looked into; `None` if the rule does something else.
    pub table: Option<u32>,
    /// Whether it holds for all packets.
    pub is_for_all: bool,
}

impl Network {
    /// Connects to the namespace of this thread.
    pub fn open() -> io::Result<Self> {
        // Otherwise kernels ignore what a dump asks for, and send whole tables.
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All devices, with their counters of this moment.
    pub async fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let messages: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(as_io)?;
        Ok(messages.into_iter().map(interface).collect())
    }

    /// All addresses.
    pub async fn addresses(&self) -> io::Result<Vec<Address>> {
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(as_io)?;
        Ok(messages.iter().filter_map(address).collect())
    }

    /// Where packets to an address go, as `ip route get` says it. `interface`: the one that it lies on, for a link-local
    /// address.
    pub async fn route_to(&self, to: IpAddr, interface: Option<u32>) -> io::Result<Route> {
        let mut question = about(to);
        question.header.destination_prefix_length = bits(to);
        question.attributes.push(RouteAttribute::Destination(to.into()));
        question.attributes.extend(interface.map(RouteAttribute::Oif));
        if to.is_ipv4() {
            // Without it IPv4 always says `main`; IPv6 always says the truth, and refuses the flag.
            question.header.flags = RouteFlags::LookupTable;
        }
        let answers: Vec<RouteMessage> =
            self.handle.route().get(question).execute().try_collect().await.map_err(as_io)?;
        answers.first().map(route).ok_or_else(|| io::Error::other("the kernel gives no answer"))
    }

    /// The entry of the table `local` that an address falls under, and no narrower one. It says in which table the address
    /// really stands: where nobody has changed the rules, the kernel keeps `local` and `main` in one tree, and calls that
    /// `main` when it answers for IPv4.
    pub async fn local_entry(&self, of: IpAddr) -> io::Result<Option<Route>> {
        let mut question = about(of);
        question.header.table = TABLE_LOCAL.to_le_bytes()[0];
        question.header.kind = RouteType::Local;
        let entries: Vec<RouteMessage> =
            self.handle.route().get(question).execute().try_collect().await.map_err(as_io)?;
        let narrowest = entries
            .iter()
            .filter(|entry| covers(entry, of))
            .map(|entry| (entry.header.destination_prefix_length, route(entry)))
            .filter(|(_, route)| route.table == TABLE_LOCAL && route.kind == TYPE_LOCAL)
            .max_by_key(|(prefix, _)| *prefix);
        Ok(narrowest.map(|(_, route)| route))
    }

    /// The routing rules of a family of addresses, in the order in which they are asked. An error if the kernel has none
    /// (`CONFIG_IP_MULTIPLE_TABLES`).
    pub async fn rules(&self, version: IpVersion) -> io::Result<Vec<Rule>> {
        let messages: Vec<RuleMessage> =
            self.handle.rule().get(version).execute().try_collect().await.map_err(as_io)?;
        let mut rules: Vec<Rule> = messages.iter().map(rule).collect();
        rules.sort_by_key(|rule| rule.priority);
        Ok(rules)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The kernel's own error where it gave one.
fn as_io(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(refusal) => refusal.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn about(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn interface(message: LinkMessage) -> Interface {
    let is_up = message.header.flags.contains(LinkFlags::Up);
    let mut interface =
        Interface { index: message.header.index, name: String::new(), is_up, sent: 0, received: 0 };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Stats64(stats) => {
                (interface.sent, interface.received) = (stats.tx_packets, stats.rx_packets);
            }
            _ => {}
        }
    }
    interface
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut own, mut shown, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            // With a peer it is this one that is ours, and the other one the peer's.
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => shown = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let usability = if flags.contains(AddressFlags::Dadfailed) {
        Usability::Duplicate
    } else if flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic) {
        Usability::Tentative
    } else if flags.contains(AddressFlags::Deprecated) {
        Usability::Deprecated
    } else {
        Usability::Usable
    };
    own.or(shown).map(|address| Address { address, interface: message.header.index, usability })
}

fn route(message: &RouteMessage) -> Route {
    let mut route = Route {
        kind: message.header.kind.into(),
        table: message.header.table.into(),
        interface: None,
        gateway: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Oif(index) => route.interface = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway))
            | RouteAttribute::Via(RouteVia::Inet(gateway)) => {
                route.gateway = Some((*gateway).into());
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
            | RouteAttribute::Via(RouteVia::Inet6(gateway)) => {
                route.gateway = Some((*gateway).into());
            }
            _ => {}
        }
    }
    route
}

fn covers(entry: &RouteMessage, address: IpAddr) -> bool {
    let prefix = u32::from(entry.header.destination_prefix_length);
    let destination = entry.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(destination) => Some(destination),
        _ => None,
    });
    match (destination, address) {
        (Some(RouteAddress::Inet(range)), IpAddr::V4(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        (Some(RouteAddress::Inet6(range)), IpAddr::V6(address)) => {
            (range.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        (None, _) => prefix == 0,
        _ => false,
    }
}

fn rule(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut rule = Rule {
        // The kernel says nothing of a priority of 0.
        priority: 0,
        table: Some(header.table.into()),
        is_for_all: header.dst_len == 0 && header.src_len == 0 && header.tos == 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(table) => rule.table = Some(*table),
            RuleAttribute::Source(_)
            | RuleAttribute::Destination(_)
            | RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::FwMark(_)
            | RuleAttribute::L3MDev(true)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => rule.is_for_all = false,
            _ => {}
        }
    }
    if header.action != RuleAction::ToTable {
        rule.table = None;
    }
    rule
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn ask<T>(question: impl AsyncFnOnce(&Network) -> io::Result<T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { question(&Network::open()?).await }).unwrap()
    }

    #[test]
    fn the_loopback_address_is_local_and_leads_to_the_first_device() {
        let to = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (answer, entry) =
            ask(async |network| Ok((network.route_to(to, None).await?, network.local_entry(to).await?)));
        assert_eq!((answer.kind, answer.interface, answer.gateway), (TYPE_LOCAL, Some(1), None));
        assert_eq!(entry.map(|entry| (entry.table, entry.interface)), Some((TABLE_LOCAL, Some(1))));
        let addresses = ask(Network::addresses);
        assert!(addresses.iter().any(|own| own.address == to && own.interface == 1), "{addresses:?}");
        let interfaces = ask(Network::interfaces);
        assert!(interfaces.iter().any(|device| device.index == 1 && device.is_up), "{interfaces:?}");
    }

    #[test]
    fn what_no_route_leads_to_is_the_kernels_own_error() {
        let nowhere = IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1));
        let (answer, entry) = ask(async |network| {
            Ok((network.route_to(nowhere, None).await, network.local_entry(nowhere).await?))
        });
        if let Err(error) = answer {
            assert!(error.raw_os_error().is_some(), "{error}");
        }
        assert_eq!(entry, None);
    }

    #[test]
    fn an_entry_covers_its_range() {
        let entry = |range: IpAddr, prefix| {
            let mut entry = about(range);
            entry.header.destination_prefix_length = prefix;
            entry.attributes.push(RouteAttribute::Destination(range.into()));
            entry
        };
        let loopback = entry(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
        assert!(covers(&loopback, Ipv4Addr::new(127, 3, 2, 1).into()));
        assert!(!covers(&loopback, Ipv4Addr::new(128, 0, 0, 1).into()));
        assert!(!covers(&loopback, Ipv6Addr::LOCALHOST.into()));
        assert!(covers(&entry(Ipv6Addr::LOCALHOST.into(), 128), Ipv6Addr::LOCALHOST.into()));
        assert!(!covers(&entry(Ipv6Addr::LOCALHOST.into(), 128), Ipv6Addr::UNSPECIFIED.into()));
    }
}
