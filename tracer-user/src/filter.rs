//! What is wanted, checked: what the kernel filters and which probe points that needs.

mod address;
mod selection;
mod unix_name;

use tracer_common::{
    probes::{ProbePoint, Traffic},
    settings::{
        AddressPattern, MAX_ADDRESSES, MAX_NAMES, MAX_NUMBERS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP,
        PROTOCOL_UNIX, UnixPattern,
    },
};

pub use self::{
    address::{AddressRange, Side},
    selection::Selection,
    unix_name::UnixName,
};

/// The longest name of a process or a device, bytes: `TASK_COMM_LEN` and `IFNAMSIZ` count a NUL as well.
const NAME_BYTES: usize = 15;

/// A filter that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More values than the kernel side compares.
    #[error(
        "{option} is given {given} times, the kernel side compares at most {most}; trace more and select afterwards"
    )]
    TooMany {
        /// The option.
        option: &'static str,
        /// How many values there are.
        given: usize,
        /// How many there may be.
        most: usize,
    },
    /// Nothing can be wanted by both.
    #[error("{ip} is about IP, {unix} about UNIX sockets: no traffic is both; give one of them")]
    Contradiction {
        /// An option that only IP traffic can meet.
        ip: &'static str,
        /// An option that only UNIX sockets can meet.
        unix: &'static str,
    },
    /// No packet has such ports.
    #[error(
        "--port is met by none of the ports of --sport and --dport: no packet has ports of all three; leave one out"
    )]
    Ports,
    /// No packet has such addresses.
    #[error(
        "the addresses that are wanted are of IPv4 at one end and of IPv6 at the other: no packet has both"
    )]
    Families,
    /// No packet has three addresses.
    #[error(
        "--host is met by none of the addresses of --saddr and --daddr: no packet has addresses of all three; leave one out"
    )]
    Addresses,
    /// Nothing has no name.
    #[error("{option}: the name is empty")]
    NoName {
        /// The option.
        option: &'static str,
    },
    /// A name that no process can have.
    #[error(
        "--comm {name:?}: the kernel cuts the name of a process after {NAME_BYTES} bytes; give what is left of this one: \
         --comm {kept:?}"
    )]
    LongComm {
        /// The name.
        name: String,
        /// What the kernel keeps of it.
        kept: String,
    },
    /// A name that no device can have.
    #[error("--interface {name:?}: the name of a device has at most {NAME_BYTES} bytes")]
    LongInterface {
        /// The name.
        name: String,
    },
}

/// A transport on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// TCP over IPv4 and IPv6
    Tcp,
    /// UDP over IPv4 and IPv6
    Udp,
    /// ICMP over IPv4 and IPv6
    Icmp,
    /// UNIX sockets
    Unix,
}

/// What was asked for. Kinds are joined with AND, values of one kind with OR; no values: no such filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Ports at either end.
    pub ports: Vec<u16>,
    /// Ports at the source.
    pub source_ports: Vec<u16>,
    /// Ports at the destination.
    pub destination_ports: Vec<u16>,
    /// Addresses.
    pub addresses: Vec<(Side, AddressRange)>,
    /// Transports.
    pub transports: Vec<Transport>,
    /// Processes.
    pub pids: Vec<u32>,
    /// Names of processes.
    pub comms: Vec<String>,
    /// Inode numbers of network namespaces.
    pub namespaces: Vec<u32>,
    /// Names of devices.
    pub interfaces: Vec<String>,
    /// Names of UNIX sockets.
    pub unix: Vec<UnixName>,
}

impl Wanted {
    /// Whether one packet can have what is asked of its two ends.
    fn check_ends(&self) -> Result<(), FilterError> {
        let Self { ports, source_ports, destination_ports, addresses, .. } = self;
        let meets = |of: &[u16]| of.is_empty() || of.iter().any(|port| ports.contains(port));
        if !ports.is_empty() && !meets(source_ports) && !meets(destination_ports) {
            return Err(FilterError::Ports);
        }
        // Of either family, or of none if there is no such address.
        let may_be = |side, is_v4| {
            let mut of_side = addresses.iter().filter(|(of, _)| *of == side).peekable();
            of_side.peek().is_none() || of_side.any(|(_, range)| range.is_ipv4() == is_v4)
        };
        let sides = [Side::Either, Side::Source, Side::Destination];
        if !([true, false].into_iter().any(|is_v4| sides.iter().all(|side| may_be(*side, is_v4)))) {
            return Err(FilterError::Families);
        }
        let of = |side| addresses.iter().filter(move |(of, _)| *of == side).map(|(_, range)| *range);
        let meets = |side| {
            of(side).next().is_none() || of(Side::Either).any(|range| of(side).any(|it| it.meets(range)))
        };
        if of(Side::Either).next().is_some() && !meets(Side::Source) && !meets(Side::Destination) {
            return Err(FilterError::Addresses);
        }
        Ok(())
    }
}

/// What is wanted, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    wanted: Wanted,
    /// Names are only asked of UNIX sockets, ports only of IP packets: either will do.
    is_either: bool,
}

impl Filter {
    /// IP packets with one of these ports, and UNIX sockets with one of these names; if there are only ports, or only names,
    /// nothing else.
    pub fn either(ports: Vec<u16>, unix: Vec<UnixName>) -> Result<Self, FilterError> {
        let is_either = !ports.is_empty() && !unix.is_empty();
        let wanted = Wanted { ports, unix, ..Wanted::default() };
        Self { wanted, is_either }.checked()
    }

    /// Checks what was asked for.
    pub fn new(wanted: Wanted) -> Result<Self, FilterError> {
        Self { wanted, is_either: false }.checked()
    }

    fn checked(mut self) -> Result<Self, FilterError> {
        let wanted = &mut self.wanted;
        for ports in [&mut wanted.ports, &mut wanted.source_ports, &mut wanted.destination_ports] {
            ports.sort_unstable();
            ports.dedup();
        }
        let counts = [
            ("--port", wanted.ports.len(), MAX_NUMBERS),
            ("--sport", wanted.source_ports.len(), MAX_NUMBERS),
            ("--dport", wanted.destination_ports.len(), MAX_NUMBERS),
            (
                "--host, --saddr or --daddr (a name may have several addresses)",
                wanted.addresses.len(),
                MAX_ADDRESSES,
            ),
            ("--pid", wanted.pids.len(), MAX_NUMBERS),
            ("--comm", wanted.comms.len(), MAX_NAMES),
            ("--netns", wanted.namespaces.len(), MAX_NUMBERS),
            ("--interface", wanted.interfaces.len(), MAX_NAMES),
            ("--unix", wanted.unix.len(), MAX_NAMES),
        ];
        for (option, given, most) in counts {
            if given > most {
                return Err(FilterError::TooMany { option, given, most });
            }
        }
        self.possible()
    }

    /// Checks all but what the kernel side has room for.
    fn of_any_size(wanted: Wanted) -> Result<Self, FilterError> {
        Self { wanted, is_either: false }.possible()
    }

    fn possible(self) -> Result<Self, FilterError> {
        check_names(&self.wanted)?;
        if let (Some(ip), Some(unix)) = (self.only_ip(), self.only_unix()) {
            return Err(FilterError::Contradiction { ip, unix });
        }
        self.wanted.check_ends()?;
        Ok(self)
    }

    /// An option that UNIX sockets cannot meet.
    fn only_ip(&self) -> Option<&'static str> {
        if self.is_either {
            return None;
        }
        let wanted = &self.wanted;
        let has_no_unix = !wanted.transports.is_empty() && !wanted.transports.contains(&Transport::Unix);
        [
            (!wanted.ports.is_empty(), "--port"),
            (!wanted.source_ports.is_empty(), "--sport"),
            (!wanted.destination_ports.is_empty(), "--dport"),
            (!wanted.addresses.is_empty(), "--host, --saddr or --daddr"),
            (!wanted.interfaces.is_empty(), "--interface"),
            (!wanted.namespaces.is_empty(), "--netns"),
            (has_no_unix, "--proto"),
        ]
        .into_iter()
        .find_map(|(given, option)| given.then_some(option))
    }

    /// An option that only UNIX sockets can meet.
    fn only_unix(&self) -> Option<&'static str> {
        if self.is_either {
            return None;
        }
        let is_unix = !self.wanted.transports.is_empty()
            && self.wanted.transports.iter().all(|one| *one == Transport::Unix);
        match (self.wanted.unix.is_empty(), is_unix) {
            (false, _) => Some("--unix"),
            (true, true) => Some("--proto unix"),
            (true, false) => None,
        }
    }

    /// Whether a probe point can see anything that the filter wants.
    pub fn needs(&self, point: &ProbePoint) -> bool {
        let unix = self.only_ip().is_none();
        let ip = self.only_unix().is_none();
        let transport =
            |one| ip && (self.wanted.transports.is_empty() || self.wanted.transports.contains(&one));
        match point.traffic {
            Traffic::Unix => unix,
            Traffic::Tcp => transport(Transport::Tcp),
            Traffic::Udp => transport(Transport::Udp),
            Traffic::Ip => ip,
            Traffic::Any => true,
        }
    }

    /// `PROTOCOL_*` bits, 0 for any.
    pub fn protocol_bits(&self) -> u32 {
        if !self.wanted.unix.is_empty() && !self.is_either {
            return PROTOCOL_UNIX;
        }
        self.wanted.transports.iter().fold(0, |bits, transport| {
            bits | match transport {
                Transport::Tcp => PROTOCOL_TCP,
                Transport::Udp => PROTOCOL_UDP,
                Transport::Icmp => PROTOCOL_ICMP,
                Transport::Unix => PROTOCOL_UNIX,
            }
        })
    }

    /// Ports at either end, as the kernel side has them: unused places are like the first, all are 0 if any port will do.
    pub fn ports(&self) -> [u16; MAX_NUMBERS] {
        places(&self.wanted.ports)
    }

    /// Ports at the source.
    pub fn source_ports(&self) -> [u16; MAX_NUMBERS] {
        places(&self.wanted.source_ports)
    }

    /// Ports at the destination.
    pub fn destination_ports(&self) -> [u16; MAX_NUMBERS] {
        places(&self.wanted.destination_ports)
    }

    /// Processes.
    pub fn pids(&self) -> [u32; MAX_NUMBERS] {
        places(&self.wanted.pids)
    }

    /// Inode numbers of namespaces.
    pub fn namespaces(&self) -> [u32; MAX_NUMBERS] {
        places(&self.wanted.namespaces)
    }

    /// Addresses.
    pub fn addresses(&self) -> Vec<AddressPattern> {
        self.wanted.addresses.iter().map(|(side, range)| range.pattern(*side)).collect()
    }

    /// Names of processes.
    pub fn comms(&self) -> Vec<[u8; 16]> {
        self.wanted.comms.iter().map(|name| padded(name)).collect()
    }

    /// Names of devices.
    pub fn interfaces(&self) -> Vec<[u8; 16]> {
        self.wanted.interfaces.iter().map(|name| padded(name)).collect()
    }

    /// Names of UNIX sockets.
    pub fn unix_patterns(&self) -> Vec<UnixPattern> {
        self.wanted.unix.iter().map(UnixName::pattern).collect()
    }

    /// Names of UNIX sockets, as they were asked for.
    pub fn unix_names(&self) -> &[UnixName] {
        &self.wanted.unix
    }

    /// Whether packets of one namespace, or of one device's flows, are all that is seen of a packet's way.
    pub fn cuts_paths(&self) -> bool {
        !self.wanted.namespaces.is_empty()
    }

    /// Whether what is wanted of a flow is only known after its first packets.
    pub fn learns(&self) -> bool {
        !(self.wanted.pids.is_empty() && self.wanted.comms.is_empty() && self.wanted.interfaces.is_empty())
    }
}

/// Names of processes and devices that can be.
fn check_names(wanted: &Wanted) -> Result<(), FilterError> {
    for (option, names) in [("--comm", &wanted.comms), ("--interface", &wanted.interfaces)] {
        if names.iter().any(String::is_empty) {
            return Err(FilterError::NoName { option });
        }
    }
    let is_long = |name: &&String| name.len() > NAME_BYTES;
    if let Some(name) = wanted.comms.iter().find(is_long) {
        let end = (0..=NAME_BYTES).rfind(|end| name.is_char_boundary(*end)).unwrap_or_default();
        return Err(FilterError::LongComm { name: name.clone(), kept: name[..end].to_owned() });
    }
    match wanted.interfaces.iter().find(is_long) {
        Some(name) => Err(FilterError::LongInterface { name: name.clone() }),
        None => Ok(()),
    }
}

/// Each value once; places that are left repeat the first, by which the kernel side knows the end of the list.
fn places<T: Copy + Default + PartialEq>(values: &[T]) -> [T; MAX_NUMBERS] {
    let first = values.first().copied().unwrap_or_default();
    let mut all = [first; MAX_NUMBERS];
    let others = values.iter().filter(|value| **value != first);
    for (place, value) in all.iter_mut().skip(1).zip(others) {
        *place = *value;
    }
    all
}

fn padded(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(name.as_bytes().iter().take(15)) {
        *place = *byte;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tracer_common::probes::PROBES;

    use super::*;

    fn ports(ports: &[u16]) -> Wanted {
        Wanted { ports: ports.to_vec(), ..Wanted::default() }
    }

    #[test]
    fn values_are_counted() {
        assert_eq!(
            Filter::new(ports(&[1, 2, 3, 4, 5, 6, 7, 8, 9])),
            Err(FilterError::TooMany { option: "--port", given: 9, most: 8 })
        );
        assert_eq!(Filter::new(ports(&[443, 80, 443])).unwrap().ports(), [80, 443, 80, 80, 80, 80, 80, 80]);
        // The kernel side stops where the first comes again.
        let pids = Wanted { pids: vec![5, 5, 9], ..Wanted::default() };
        assert_eq!(Filter::new(pids).unwrap().pids(), [5, 9, 5, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn names_are_as_long_as_the_kernel_keeps_them() {
        let comm = |name: &str| Filter::new(Wanted { comms: vec![name.to_owned()], ..Wanted::default() });
        assert!(comm("a-name-of-15-by").is_ok());
        let refused = comm("a-name-of-16-byt").unwrap_err().to_string();
        assert!(refused.ends_with("--comm \"a-name-of-16-by\""), "{refused}");
        let wide = comm("ääääääää").unwrap_err().to_string();
        assert!(wide.ends_with("--comm \"äääääää\""), "{wide}");
        assert_eq!(comm(""), Err(FilterError::NoName { option: "--comm" }));
        let device = Wanted { interfaces: vec!["a-name-of-16-byt".to_owned()], ..Wanted::default() };
        assert!(matches!(Filter::new(device), Err(FilterError::LongInterface { .. })));
    }

    #[test]
    fn ports_or_names_may_be_wanted() {
        let filter = Filter::either(vec![6379], vec!["/run/redis.sock".parse().unwrap()]).unwrap();
        assert!(PROBES.iter().all(|point| filter.needs(point)));
        assert_eq!((filter.protocol_bits(), filter.ports()[0], filter.unix_patterns().len()), (0, 6379, 1));
        let many = Filter::either((1..=9).collect(), Vec::new());
        assert!(matches!(many, Err(FilterError::TooMany { option: "--port", .. })));
        let only_names = Filter::either(Vec::new(), vec!["/run/redis.sock".parse().unwrap()]).unwrap();
        assert!(PROBES.iter().all(|point| point.traffic != Traffic::Ip || !only_names.needs(point)));
    }

    #[test]
    fn only_needed_points_are_attached() {
        let needed = |wanted: Wanted| -> Vec<&str> {
            let filter = Filter::new(wanted).unwrap();
            PROBES.iter().filter(|point| filter.needs(point)).map(|point| point.hop).collect()
        };
        assert_eq!(needed(Wanted::default()).len(), PROBES.len());
        assert!(!needed(ports(&[80])).contains(&"unix_stream_sendmsg"));
        assert!(needed(ports(&[80])).contains(&"udp_rcv"));
        let tcp = needed(Wanted { transports: vec![Transport::Tcp], ..ports(&[80]) });
        assert!(tcp.contains(&"tcp_sendmsg") && !tcp.contains(&"udp_rcv"));
        let unix = needed(Wanted { unix: vec!["/run/x*".parse().unwrap()], ..Wanted::default() });
        assert!(
            unix.contains(&"unix_accept")
                && unix.contains(&"sched_switch")
                && !unix.contains(&"dev_queue_xmit")
        );
    }

    #[test]
    fn what_can_never_be_is_refused() {
        let wanted = Wanted { unix: vec!["@x".parse().unwrap()], ..ports(&[80]) };
        assert_eq!(Filter::new(wanted), Err(FilterError::Contradiction { ip: "--port", unix: "--unix" }));
    }

    #[test]
    fn no_packet_has_other_ends_than_its_own() {
        let with = |sources: &[u16], destinations: &[u16]| {
            let (source_ports, destination_ports) = (sources.to_vec(), destinations.to_vec());
            Filter::new(Wanted { source_ports, destination_ports, ..ports(&[82]) })
        };
        assert_eq!(with(&[80], &[81]), Err(FilterError::Ports));
        for (sources, destinations) in
            [(&[80][..], &[][..]), (&[], &[81]), (&[80, 82], &[81]), (&[80], &[82])]
        {
            assert!(with(sources, destinations).is_ok(), "{sources:?} {destinations:?}");
        }
        let between = |ends: &[(Side, &str)]| {
            let range = |(side, text): &(Side, &str)| (*side, text.parse::<IpAddr>().unwrap().into());
            Filter::new(Wanted { addresses: ends.iter().map(range).collect(), ..Wanted::default() })
        };
        let (source, destination) = (Side::Source, Side::Destination);
        assert_eq!(between(&[(source, "127.0.0.1"), (destination, "::1")]), Err(FilterError::Families));
        assert_eq!(between(&[(Side::Either, "127.0.0.1"), (destination, "::1")]), Err(FilterError::Families));
        let three = [(Side::Either, "127.0.0.2"), (source, "127.0.0.1"), (destination, "127.0.0.3")];
        assert_eq!(between(&three), Err(FilterError::Addresses));
        for ends in [
            &three[..2],
            &[(Side::Either, "127.0.0.3"), three[1], three[2]],
            &[(Side::Either, "127.0.0.3"), three[0], three[1], three[2]],
            &[(source, "127.0.0.1"), (source, "::1"), (destination, "::1")][..],
            &[(source, "127.0.0.1"), (destination, "127.0.0.1")],
            &[(Side::Either, "127.0.0.1"), (Side::Either, "::1")],
        ] {
            assert!(between(ends).is_ok(), "{ends:?}");
        }
    }
}
