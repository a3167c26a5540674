//! Which paths of a recording are wanted: a pure function of the path, which is all that is left of the run.

use std::net::SocketAddr;

use super::{Filter, FilterError, Side, Transport, UnixName, Wanted};
use crate::model::{Flow, Path, Protocol, Task};

/// The paths that are wanted of those that were recorded; by default all.
#[derive(Clone, Debug, Default)]
pub struct Selection(Filter);

impl Selection {
    /// Checks what was asked for. There may be more values than the kernel side compares.
    pub fn new(wanted: Wanted) -> Result<Self, FilterError> {
        Filter::of_any_size(wanted).map(Self)
    }

    /// Whether a path is wanted. One whose flow was lost may be, so it is.
    pub fn selects(&self, path: &Path) -> bool {
        let Self(Filter { wanted, .. }) = self;
        path.flow.is_none() && path.unix.is_none()
            || any(&wanted.transports, |one| is_of(path, *one))
                && wants_ends(wanted, path)
                && wants_processes(wanted, path)
                && wants_places(wanted, path)
                && any(&wanted.unix, |name| may_be_named(path, name))
    }
}

/// Whether one of the values will do; no values: no such filter.
fn any<T>(values: &[T], will_do: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(will_do)
}

fn is_of(path: &Path, transport: Transport) -> bool {
    let protocol = path.flow.map(|flow| flow.protocol);
    match transport {
        Transport::Tcp => protocol == Some(Protocol::Tcp),
        Transport::Udp => protocol == Some(Protocol::Udp),
        Transport::Icmp => matches!(protocol, Some(Protocol::Icmp | Protocol::Icmpv6)),
        Transport::Unix => path.unix.is_some(),
    }
}

fn wants_ends(wanted: &Wanted, path: &Path) -> bool {
    let ends = |side: Side| -> Vec<SocketAddr> {
        let of = |flow: Flow| match side {
            Side::Either => vec![flow.src, flow.dst],
            Side::Source => vec![flow.src],
            Side::Destination => vec![flow.dst],
        };
        path.flow.map(of).unwrap_or_default()
    };
    let ports = |ports: &[u16], side| any(ports, |port| ends(side).iter().any(|end| end.port() == *port));
    ports(&wanted.ports, Side::Either)
        && ports(&wanted.source_ports, Side::Source)
        && ports(&wanted.destination_ports, Side::Destination)
        && any(&wanted.addresses, |(side, range)| ends(*side).iter().any(|end| range.contains(end.ip())))
}

fn wants_processes(wanted: &Wanted, path: &Path) -> bool {
    let is_used_by = |is_it: &dyn Fn(&Task) -> bool| [path.sender, path.receiver].iter().flatten().any(is_it);
    let has_name = |task: &Task, name: &str| {
        task.comm.is_some_and(|comm| comm.0.split(|byte| *byte == 0).next() == Some(name.as_bytes()))
    };
    any(&wanted.pids, |pid| is_used_by(&|task| task.pid == *pid))
        && any(&wanted.comms, |name| is_used_by(&|task| has_name(task, name)))
}

fn wants_places(wanted: &Wanted, path: &Path) -> bool {
    let passes = |name: &String| path.devices.iter().any(|device| device.name.as_deref() == Some(name));
    let is_in = |netns: &u32| {
        path.flow.is_some_and(|flow| flow.netns == *netns || path.hops.iter().any(|hop| hop.netns == *netns))
    };
    any(&wanted.interfaces, passes) && any(&wanted.namespaces, is_in)
}

/// A name that was lost may be any.
fn may_be_named(path: &Path, name: &UnixName) -> bool {
    let of_path = path.unix.as_ref().map(|unix| unix.name.as_deref());
    of_path.is_some_and(|of_path| of_path.is_none_or(|of_path| name.matches(of_path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analyze::samples, filter::AddressRange, model::Unix};

    /// The numbers of the samples that are selected.
    fn selected(wanted: Wanted) -> Vec<u64> {
        let selection = Selection::new(wanted).unwrap();
        samples::all().iter().filter(|path| selection.selects(path)).map(|path| path.id).collect()
    }

    fn ids(of: &[Path]) -> Vec<u64> {
        of.iter().map(|path| path.id).collect()
    }

    fn all_that(is_meant: impl Fn(&Path) -> bool) -> Vec<u64> {
        let is_lost = |path: &Path| path.flow.is_none() && path.unix.is_none();
        samples::all().iter().filter(|path| is_lost(path) || is_meant(path)).map(|path| path.id).collect()
    }

    #[test]
    fn without_filters_all_are_wanted() {
        assert_eq!(selected(Wanted::default()), ids(&samples::all()));
    }

    #[test]
    fn transports() {
        for (transport, protocols) in [
            (Transport::Tcp, vec![Protocol::Tcp]),
            (Transport::Udp, vec![Protocol::Udp]),
            (Transport::Icmp, vec![Protocol::Icmp, Protocol::Icmpv6]),
            (Transport::Unix, vec![]),
        ] {
            let expected = all_that(|path| match path.flow {
                Some(flow) => protocols.contains(&flow.protocol),
                None => transport == Transport::Unix,
            });
            assert_eq!(selected(Wanted { transports: vec![transport], ..Wanted::default() }), expected);
        }
    }

    #[test]
    fn ports_and_addresses_are_of_one_end_or_of_either() {
        let path = samples::tcp_data();
        let flow = path.flow.unwrap();
        let (src, dst) = (flow.src, flow.dst);
        let range = |side, end: SocketAddr| vec![(side, AddressRange::from(end.ip()))];
        let selects = |wanted: Wanted| Selection::new(wanted).unwrap().selects(&path);
        assert!(selects(Wanted { ports: vec![src.port()], ..Wanted::default() }));
        assert!(selects(Wanted { ports: vec![dst.port()], ..Wanted::default() }));
        assert!(selects(Wanted { source_ports: vec![src.port()], ..Wanted::default() }));
        assert!(!selects(Wanted { source_ports: vec![dst.port()], ..Wanted::default() }));
        assert!(selects(Wanted { destination_ports: vec![dst.port()], ..Wanted::default() }));
        assert!(!selects(Wanted { destination_ports: vec![src.port()], ..Wanted::default() }));
        // Of one kind any will do, of different ones all must hold.
        assert!(selects(Wanted { ports: vec![1, src.port()], ..Wanted::default() }));
        assert!(!selects(Wanted {
            ports: vec![src.port()],
            transports: vec![Transport::Udp],
            ..Wanted::default()
        }));
        for side in [Side::Either, Side::Source] {
            assert!(selects(Wanted { addresses: range(side, src), ..Wanted::default() }));
        }
        let elsewhere = AddressRange::new("203.0.113.0".parse().unwrap(), 24).unwrap();
        assert!(!selects(Wanted { addresses: vec![(Side::Either, elsewhere)], ..Wanted::default() }));
    }

    #[test]
    fn ranges_hold_addresses_of_their_family() {
        let range = |address: &str, prefix| AddressRange::new(address.parse().unwrap(), prefix).unwrap();
        let ten = range("10.0.0.0", 8);
        assert!(ten.contains("10.255.1.1".parse().unwrap()) && !ten.contains("11.0.0.0".parse().unwrap()));
        assert!(!range("0.0.0.0", 0).contains("::1".parse().unwrap()));
        assert!(range("::", 0).contains("::1".parse().unwrap()));
        assert!(!range("2001:db8::", 64).contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn processes_by_either_end() {
        let by =
            |of: fn(&Task) -> bool| all_that(|path| [path.sender, path.receiver].iter().flatten().any(of));
        assert_eq!(selected(Wanted { pids: vec![799], ..Wanted::default() }), by(|task| task.pid == 799));
        let expected = by(|task| task.comm.is_some_and(|comm| comm.to_text() == "client"));
        assert!(!expected.is_empty() && expected.len() < samples::all().len());
        assert_eq!(selected(Wanted { comms: vec!["client".to_owned()], ..Wanted::default() }), expected);
        let part = Wanted { comms: vec!["clien".to_owned()], ..Wanted::default() };
        assert_eq!(selected(part), all_that(|_| false));
    }

    #[test]
    fn names_of_unix_sockets() {
        let named = |text: &str| Wanted { unix: vec![text.parse().unwrap()], ..Wanted::default() };
        let expected = |start: &'static [u8]| {
            all_that(|path| {
                path.unix.as_ref().is_some_and(|unix| unix.name.as_deref().unwrap().starts_with(start))
            })
        };
        assert_eq!(selected(named("/run/app.sock")), expected(b"/run/app.sock"));
        assert_eq!(selected(named("@*")), expected(b"\0"));
        let lost =
            Path { unix: Some(Unix { name: None, ..samples::unix().unix.unwrap() }), ..samples::unix() };
        assert!(Selection::new(named("/run/app.sock")).unwrap().selects(&lost));
    }

    #[test]
    fn devices_and_namespaces() {
        let expected =
            all_that(|path| path.devices.iter().any(|device| device.name.as_deref() == Some("lo")));
        assert_eq!(selected(Wanted { interfaces: vec!["lo".to_owned()], ..Wanted::default() }), expected);
        let netns = samples::tcp_data().flow.unwrap().netns;
        let there = Selection::new(Wanted { namespaces: vec![netns], ..Wanted::default() }).unwrap();
        assert!(there.selects(&samples::tcp_data()) && !there.selects(&samples::unix()));
        assert_eq!(selected(Wanted { namespaces: vec![1], ..Wanted::default() }), all_that(|_| false));
    }

    #[test]
    fn what_cannot_be_is_refused_and_many_values_are_not() {
        let ports = Wanted { ports: (1..=100).collect(), ..Wanted::default() };
        assert!(Selection::new(ports.clone()).is_ok());
        let both = Wanted { unix: vec!["@x".parse().unwrap()], ..ports };
        assert!(matches!(Selection::new(both), Err(FilterError::Contradiction { .. })));
    }
}
