//! Hand-built cases for tests.

use std::{net::IpAddr, sync::Arc};

use super::{Case, Counter, Holder, Lookup, OnDevice, Order, Packets, Proof, Route, Traffic};
use crate::{
    analyze,
    kernel::network::{TABLE_LOCAL, TYPE_LOCAL, Usability},
    model::{Coverage, Device, Losses, Trust},
    workload::Conversation,
};

const NETNS: u32 = 4_026_531_840;
const MAIN: u32 = 254;
const UNICAST: u8 = 1;

pub(crate) fn coverage() -> Coverage {
    analyze::samples::coverage()
}

pub(crate) fn trust() -> Trust {
    Trust {
        events: 90,
        losses: Some(Losses { missed: Some(0), ..Losses::default() }),
        complete: 22,
        duration_ns: Some(12_000_000),
        ..Trust::default()
    }
}

/// All cases.
pub(crate) fn proof() -> Proof {
    Proof {
        cases: vec![
            loopback(),
            card(),
            neighbour(),
            behind_a_gateway(),
            no_route(),
            tentative(),
            vrf(),
            refused(),
        ],
        order: Order::LocalFirst(0),
        netns: NETNS,
        coverage: coverage(),
        trust: trust(),
    }
}

fn holder(device: &str, index: u32) -> Holder {
    Holder { device: device.to_owned(), index, is_up: true, usability: Usability::Usable }
}

fn on(index: u32, name: &str, packets: u64) -> OnDevice {
    OnDevice {
        device: Device { netns: NETNS, ifindex: index, name: Some(Arc::from(name)) },
        is_here: true,
        packets,
    }
}

fn counter(device: &str, index: u32, sent: u64, received: u64) -> Counter {
    Counter { device: device.to_owned(), index, sent, received }
}

fn local_route(device: &str, entry_device: &str) -> Route {
    Route {
        kind: TYPE_LOCAL,
        table: TABLE_LOCAL,
        device: Some(device.to_owned()),
        gateway: None,
        entry_device: Some(entry_device.to_owned()),
    }
}

fn way_out(device: &str, gateway: Option<&str>) -> Route {
    Route {
        kind: UNICAST,
        table: MAIN,
        device: Some(device.to_owned()),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        entry_device: None,
    }
}

/// A connection whose packets all passed one device.
fn local(address: &str, lookup: Lookup, device: OnDevice) -> Case {
    let address: IpAddr = address.parse().unwrap();
    let total = device.packets;
    let entry_device = lookup.device.clone().unwrap();
    let name = device.device.to_string();
    Case {
        address,
        scope: None,
        holder: None,
        route: Ok(local_route(&name, &entry_device)),
        traffic: Some(Traffic {
            conversation: Ok(Conversation {
                client: (address, 50_000).into(),
                server: (address, 41_000).into(),
                messages: 2,
                segments: Some(11),
            }),
            packets: Packets { total, devices: vec![device], lookups: vec![lookup], ..Packets::default() },
            counters: vec![counter("lo", 1, 11, 11), counter("eth0", 2, 0, 0)],
        }),
    }
}

fn lookup(table: u32, device: &str) -> Lookup {
    Lookup { table, kind: TYPE_LOCAL, device: Some(device.to_owned()), times: 5 }
}

/// 127.0.0.1, on a kernel whose tables are apart; others use the loopback device as well.
pub(crate) fn loopback() -> Case {
    let mut case = local("127.0.0.1", lookup(TABLE_LOCAL, "lo"), on(1, "lo", 11));
    case.holder = Some(holder("lo", 1));
    let counters = &mut case.traffic.as_mut().unwrap().counters;
    (counters[0].sent, counters[0].received) = (15, 15);
    case
}

/// An address on a network card, which others use meanwhile, on a kernel with one tree for both tables.
pub(crate) fn card() -> Case {
    let mut case = local("192.0.2.7", lookup(MAIN, "eth0"), on(1, "lo", 11));
    case.holder = Some(holder("eth0", 2));
    let counters = &mut case.traffic.as_mut().unwrap().counters;
    (counters[1].sent, counters[1].received) = (3, 2);
    case
}

/// An address of a device that belongs to a VRF.
pub(crate) fn vrf() -> Case {
    let mut case = local("2001:db8::7", lookup(10, "eth1"), on(5, "vrf0", 11));
    case.holder = Some(holder("eth1", 3));
    case
}

/// An address of another host in the same network.
pub(crate) fn neighbour() -> Case {
    Case {
        address: "192.0.2.9".parse().unwrap(),
        scope: None,
        holder: None,
        route: Ok(way_out("eth0", None)),
        traffic: None,
    }
}

/// An address elsewhere.
pub(crate) fn behind_a_gateway() -> Case {
    Case {
        address: "198.51.100.1".parse().unwrap(),
        route: Ok(way_out("eth0", Some("192.0.2.1"))),
        ..neighbour()
    }
}

/// An address that no route leads to.
pub(crate) fn no_route() -> Case {
    Case {
        address: "2001:db8:1::1".parse().unwrap(),
        route: Err("Network is unreachable".to_owned()),
        ..neighbour()
    }
}

/// An address that was just set.
pub(crate) fn tentative() -> Case {
    Case {
        address: "fe80::7".parse().unwrap(),
        scope: Some("eth0".to_owned()),
        holder: Some(Holder { usability: Usability::Tentative, ..holder("eth0", 2) }),
        route: Ok(way_out("eth0", None)),
        traffic: None,
    }
}

/// An address that a firewall lets nobody connect to.
pub(crate) fn refused() -> Case {
    let mut case = local("192.0.2.8", lookup(MAIN, "eth0"), on(1, "lo", 1));
    case.holder = Some(Holder { usability: Usability::Deprecated, ..holder("eth0", 2) });
    let traffic = case.traffic.as_mut().unwrap();
    traffic.conversation = Err("connection timed out".to_owned());
    traffic.packets.dropped.insert("NETFILTER_DROP".to_owned(), 1);
    case
}
