//! Which of the traced packets are ours, and which devices they passed.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::model::{Device, Flow, Path, Protocol, Routing};

/// The ends of a connection of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Our listener, whose address and port nobody else has meanwhile.
    pub server: SocketAddr,
    /// Who connected to it; `None` if nobody came through, and whoever tried was us.
    pub client: Option<SocketAddr>,
    /// Inode number of the network namespace that both are in.
    pub netns: u32,
}

/// What was seen of the packets of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// All of them.
    pub total: u64,
    /// How many passed each device. A packet that passes two is counted at each.
    pub devices: Vec<OnDevice>,
    /// How many were not seen on any device.
    pub nowhere: u64,
    /// How many the kernel dropped, by its reason.
    pub dropped: BTreeMap<String, u64>,
    /// What routing tables answered for them, the same answers together. Tables that had none are left out.
    pub lookups: Vec<Lookup>,
}

/// Packets on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDevice {
    /// Which.
    pub device: Device,
    /// Whether it is in the namespace of the connection.
    pub is_here: bool,
    /// How many.
    pub packets: u64,
}

/// An answer of a routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The number of the table, as the tracepoint calls it.
    pub table: u32,
    /// `RTN_*`, 0 if not known.
    pub kind: u8,
    /// The device that the entry names.
    pub device: Option<String>,
    /// How often it was given.
    pub times: u64,
}

impl OnDevice {
    /// Whether it is the loopback device of the connection's namespace.
    pub fn is_lo(&self) -> bool {
        self.is_here && self.device.is_loopback()
    }
}

impl Packets {
    /// How many passed the loopback device.
    pub fn on_lo(&self) -> u64 {
        self.devices.iter().filter(|on| on.is_lo()).map(|on| on.packets).sum()
    }

    /// How many passed a device of the namespace.
    pub fn on(&self, index: u32) -> u64 {
        self.devices.iter().filter(|on| on.is_here && on.device.ifindex == index).map(|on| on.packets).sum()
    }

    /// The devices that are not the loopback device, and were passed.
    pub fn elsewhere(&self) -> impl Iterator<Item = &OnDevice> {
        self.devices.iter().filter(|on| !on.is_lo())
    }

    fn add(&mut self, path: &Path, netns: u32) {
        self.total += 1;
        if path.devices.is_empty() {
            self.nowhere += 1;
        }
        for device in &path.devices {
            let same =
                |on: &&mut OnDevice| (on.device.netns, on.device.ifindex) == (device.netns, device.ifindex);
            match self.devices.iter_mut().find(same) {
                Some(on) => on.packets += 1,
                None => self.devices.push(OnDevice {
                    device: device.clone(),
                    is_here: device.netns == netns,
                    packets: 1,
                }),
            }
        }
        if let Some(dropped) = &path.dropped {
            let reason = dropped.reason_name.as_deref().unwrap_or("no reason given").to_owned();
            *self.dropped.entry(reason).or_insert(0) += 1;
        }
        if let Routing::Asked(routes) = &path.routing {
            for route in routes.iter().filter(|route| route.error == 0) {
                self.add_lookup(Lookup {
                    table: route.table,
                    kind: route.route_type,
                    device: route.device.as_ref().map(ToString::to_string),
                    times: 1,
                });
            }
        }
    }

    fn add_lookup(&mut self, lookup: Lookup) {
        let same = |known: &&mut Lookup| {
            (known.table, known.kind, &known.device) == (lookup.table, lookup.kind, &lookup.device)
        };
        match self.lookups.iter_mut().find(same) {
            Some(known) => known.times += 1,
            None => self.lookups.push(lookup),
        }
    }
}

/// The packets of a connection among all that were traced.
pub fn packets_between(ends: Ends, paths: &[Path]) -> Packets {
    let mut packets = Packets::default();
    for path in paths {
        if path.flow.is_some_and(|flow| ends.are_of(&flow)) {
            packets.add(path, ends.netns);
        }
    }
    packets
}

impl Ends {
    /// A flow says nothing of scopes, and neither must the ends.
    fn are_of(&self, flow: &Flow) -> bool {
        let is = |one: SocketAddr, other: SocketAddr| (one.ip(), one.port()) == (other.ip(), other.port());
        let is_client = |end| self.client.is_none_or(|client| is(client, end));
        flow.protocol == Protocol::Tcp
            // 0: not known.
            && (flow.netns == self.netns || flow.netns == 0)
            && (is(flow.dst, self.server) && is_client(flow.src)
                || is(flow.src, self.server) && is_client(flow.dst))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{analyze::samples, model::Devices};

    /// A SYN over `lo`, whose route was asked.
    fn syn() -> (Path, Ends) {
        let syn = samples::all()
            .into_iter()
            .find(|path| matches!(path.routing, Routing::Asked(_)) && path.dropped.is_none())
            .unwrap();
        let flow = syn.flow.unwrap();
        let ends = Ends { server: flow.dst, client: Some(flow.src), netns: flow.netns };
        (syn, ends)
    }

    fn on(netns: u32, ifindex: u32, name: &str) -> Device {
        Device { netns, ifindex, name: Some(Arc::from(name)) }
    }

    #[test]
    fn both_directions_are_ours_and_others_are_not() {
        let (syn, ends) = syn();
        let flow = syn.flow.unwrap();
        let with = |flow| Path { flow: Some(flow), ..syn.clone() };
        let back = with(Flow { src: flow.dst, dst: flow.src, ..flow });
        let mut elsewhere = flow;
        elsewhere.src.set_port(flow.src.port() ^ 1);
        let others = [
            with(elsewhere),
            with(Flow { netns: flow.netns + 1, ..flow }),
            with(Flow { protocol: Protocol::Udp, ..flow }),
            Path { flow: None, ..syn.clone() },
        ];
        let all: Vec<Path> = others.into_iter().chain([syn.clone(), back]).collect();
        let packets = packets_between(ends, &all);
        assert_eq!((packets.total, packets.on_lo(), packets.nowhere), (2, 2, 0));
        assert_eq!(packets.elsewhere().count(), 0);
        // Who does not know its own port takes all that name the listener.
        assert_eq!(packets_between(Ends { client: None, ..ends }, &all).total, 3);
    }

    #[test]
    fn each_device_is_counted_and_only_ours_is_lo() {
        let (syn, ends) = syn();
        let here = ends.netns;
        let over = |devices: &[Device]| Path { devices: Devices::from_iter(devices.to_vec()), ..syn.clone() };
        let packets = packets_between(
            ends,
            &[
                over(&[on(here, 1, "lo")]),
                over(&[on(here, 2, "eth0"), on(here + 1, 1, "lo")]),
                over(&[on(here, 2, "eth0")]),
                over(&[]),
            ],
        );
        assert_eq!((packets.total, packets.on_lo(), packets.on(2), packets.nowhere), (4, 1, 2, 1));
        let elsewhere: Vec<u64> = packets.elsewhere().map(|on| on.packets).collect();
        assert_eq!(elsewhere, [2, 1]);
    }

    #[test]
    fn the_same_answers_are_said_once_and_no_answer_is_none() {
        let (syn, ends) = syn();
        let packets = packets_between(ends, &[syn.clone(), syn.clone()]);
        let Routing::Asked(routes) = &syn.routing else { panic!("{syn:?}") };
        let answered = routes.iter().filter(|route| route.error == 0).count() as u64;
        assert_eq!(packets.lookups.iter().map(|lookup| lookup.times).sum::<u64>(), 2 * answered);
        assert!(packets.lookups.len() as u64 <= answered);
        let mut failed = syn;
        if let Routing::Asked(routes) = &mut failed.routing {
            for route in routes {
                route.error = -11;
            }
        }
        assert_eq!(packets_between(ends, &[failed]).lookups, []);
    }

    #[test]
    fn drops_are_counted_by_reason() {
        let refused = samples::refused_syn();
        let flow = refused.flow.unwrap();
        let ends = Ends { server: flow.dst, client: None, netns: flow.netns };
        let packets = packets_between(ends, &[refused.clone(), refused]);
        assert_eq!(packets.dropped.values().copied().collect::<Vec<u64>>(), [2]);
    }
}
