//! What real kernels sent, replayed: Debian's kernels in virtual machines by kprobe and by fentry, and a kernel
//! without kprobes by tracepoints.
//!
//! Each recording holds the exchanges that `pathtrace doctor` makes to see whether each point fires: a message and its
//! answer over TCP, a datagram that is read and one that nobody wants, over IPv4 and IPv6, and messages on UNIX sockets of
//! both kinds. `pathtrace record --backend kprobe -w FILE -- pathtrace doctor --backend kprobe` makes one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use pathtrace::{
    correlate::{Correlator, Limits},
    decode::{Record, decode},
    model::{Coverage, Device, Losses, Path, Route, Routing, State, Tcp},
    store::{Frame, Reader},
};
use tracer_common::probes::Point;

/// A recording, taken apart.
struct Recording {
    name: String,
    kernel: String,
    coverage: Coverage,
    records: Vec<Record>,
    /// Where among the records no path began any more, and the time.
    close: Option<(usize, u64)>,
    losses: Losses,
}

fn recordings() -> Vec<Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let found: Vec<_> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "ptr"))
        .map(|file| {
            let bytes = fs::read(file).unwrap();
            let mut reader = Reader::new(&*bytes).unwrap();
            let mut recording = Recording {
                name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
                kernel: reader.header().kernel.clone(),
                coverage: reader.coverage(),
                records: Vec::new(),
                close: None,
                losses: Losses::default(),
            };
            loop {
                match reader.next_frame().unwrap() {
                    Frame::Record(bytes) => recording.records.push(decode(bytes).unwrap()),
                    Frame::Close(time_ns) => recording.close = Some((recording.records.len(), time_ns)),
                    Frame::Footer(footer) => {
                        recording.losses = footer.losses;
                        return recording;
                    }
                }
            }
        })
        .collect();
    assert!(found.len() >= 9, "recordings are missing");
    found
}

impl Recording {
    /// The paths, and how many records named no point. Leaves out one record if told to.
    fn paths_without(&self, left_out: Option<usize>) -> (Vec<Path>, u64) {
        let mut correlator = Correlator::new(self.coverage.clone(), Limits::default());
        for (at, record) in self.records.iter().enumerate() {
            if let Some((closes, time_ns)) = self.close
                && closes == at
            {
                correlator.close(time_ns);
            }
            if left_out != Some(at) {
                correlator.record(record);
            }
        }
        correlator.finish();
        let malformed = correlator.malformed();
        (correlator.drain().collect(), malformed)
    }

    fn paths(&self) -> Vec<Path> {
        self.paths_without(None).0
    }

    /// Records of points that see a packet on its way.
    fn packet_hops(&self) -> impl Iterator<Item = (u8, u64)> {
        self.records.iter().filter_map(|record| match record {
            Record::Hop(hop) if hop.skb != 0 && is_on_the_way(Point::from_wire(hop.point)?) => {
                Some((hop.point, hop.time_ns))
            }
            _ => None,
        })
    }
}

/// Whether a point sees a packet between the network layer and its transport.
fn is_on_the_way(point: Point) -> bool {
    (Point::IpQueueXmit..=Point::Udpv6Rcv).contains(&point)
        && !matches!(point, Point::FibLookup | Point::Fib6Lookup | Point::ProcessBacklog)
}

fn own_hops(path: &Path) -> impl Iterator<Item = (u8, u64)> {
    path.hops.iter().filter(|hop| is_on_the_way(hop.point)).map(|hop| (hop.point as u8, hop.time_ns))
}

#[test]
fn every_packet_and_message_has_a_whole_path() {
    for recording in recordings() {
        let name = &recording.name;
        let (paths, malformed) = recording.paths_without(None);
        assert_eq!((malformed, recording.losses.lost()), (0, 0), "{name}");
        for path in &paths {
            assert_eq!(path.incomplete, None, "{name}: {path:#?}");
            assert!(path.unix.is_some() || path.flow.is_some(), "{name}: {path:#?}");
            assert!(path.unix.is_some() || path.device().unwrap().is_loopback(), "{name}: {path:#?}");
        }
        let ids: BTreeSet<u64> = paths.iter().map(|path| path.id).collect();
        assert_eq!(ids.len(), paths.len(), "{name}");
        // Each kind of message is followed from its send call to its read.
        for is_v6 in [false, true] {
            let to_read = |tcp: bool, last: Point| {
                let of_kind = paths.iter().filter(|path| {
                    path.flow.is_some_and(|flow| flow.src.is_ipv6() == is_v6) && path.tcp.is_some() == tcp
                });
                let whole = |path: &&Path| {
                    let calls = [Point::TcpSendmsg, Point::UdpSendmsg, Point::Udpv6Sendmsg];
                    calls.iter().any(|call| passes(path, *call))
                        && passes(path, Point::SockDefReadable)
                        && path.hops.last().unwrap().point == last
                        && path.sender.is_some()
                        && path.receiver.is_some()
                };
                of_kind.filter(whole).count()
            };
            assert!(to_read(true, Point::TcpRecvmsg) > 0, "{name} {is_v6}");
            assert!(to_read(false, Point::UdpRecvmsg) > 0, "{name} {is_v6}");
        }
        for (call, last) in [
            (Point::UnixStreamConnect, Point::UnixAccept),
            (Point::UnixStreamSendmsg, Point::UnixStreamRecvmsg),
            (Point::UnixDgramSendmsg, Point::UnixDgramRecvmsg),
        ] {
            let whole = paths
                .iter()
                .filter(|path| path.hops[0].point == call && path.hops.last().unwrap().point == last)
                .count();
            assert!(whole > 0, "{name}: {call:?}");
        }
    }
}

fn passes(path: &Path, point: Point) -> bool {
    path.hops.iter().any(|hop| hop.point == point)
}

#[test]
fn every_hop_of_a_packet_is_in_one_path() {
    for recording in recordings() {
        let mut shown: Vec<_> = recording.paths().iter().flat_map(own_hops).collect();
        let mut recorded: Vec<_> = recording.packet_hops().collect();
        shown.sort_unstable();
        recorded.sort_unstable();
        assert_eq!(shown, recorded, "{}", recording.name);
    }
}

#[test]
fn hops_stand_in_the_order_of_the_table() {
    for recording in recordings() {
        for path in recording.paths() {
            assert!(path.hops.is_sorted_by_key(|hop| hop.time_ns), "{}: {path:#?}", recording.name);
            let points = path.hops.iter().map(|hop| hop.point).filter(|point| is_on_the_way(*point));
            assert!(points.is_sorted_by(|a, b| a < b), "{}: {path:#?}", recording.name);
        }
    }
}

#[test]
fn only_what_begins_a_connection_asks_for_a_route() {
    for recording in recordings() {
        for path in recording.paths().iter().filter(|path| path.tcp.is_some()) {
            let asks = matches!(path.routing, Routing::Asked(_));
            let may_ask = path.tcp.unwrap().flags & (Tcp::SYN | Tcp::RST) != 0;
            assert!(may_ask || !asks, "{}: {path:#?}", recording.name);
            if let Routing::Asked(routes) = &path.routing {
                let answered = |route: &Route| {
                    route.error != 0 || route.device.as_ref().is_some_and(Device::is_loopback)
                };
                assert!(routes.iter().all(answered), "{}: {path:#?}", recording.name);
            }
        }
    }
}

/// Whichever record is lost: no path gets hops of another packet, and no packet is lost with it.
#[test]
fn one_lost_record_joins_and_hides_nothing() {
    for recording in recordings() {
        let whole = recording.paths();
        let packets = whole.iter().filter(|path| own_hops(path).next().is_some()).count();
        let owners: BTreeMap<(u8, u64), u64> =
            whole.iter().flat_map(|path| own_hops(path).map(|hop| (hop, path.id))).collect();
        for left_out in 0..recording.records.len() {
            let (paths, _) = recording.paths_without(Some(left_out));
            let mut shown: BTreeSet<u64> = BTreeSet::new();
            for path in paths.iter().filter(|path| own_hops(path).next().is_some()) {
                let of: BTreeSet<_> = own_hops(path).map(|hop| owners.get(&hop)).collect();
                assert_eq!(of.len(), 1, "{} without record {left_out}: {path:#?}", recording.name);
                shown.extend(of.into_iter().flatten().copied());
            }
            assert_eq!(shown.len(), packets, "{} without record {left_out}", recording.name);
        }
    }
}

#[test]
fn cut_anywhere_a_recording_does_no_harm() {
    for recording in recordings() {
        let whole = recording.paths().len();
        for end in 0..recording.records.len() {
            let mut correlator = Correlator::new(recording.coverage.clone(), Limits::default());
            for record in &recording.records[..end] {
                correlator.record(record);
            }
            correlator.finish();
            assert!(correlator.drain().count() <= whole, "{} cut at {end}", recording.name);
        }
    }
}

/// Where each point is attached, and the hops of each kind of packet with how often they were seen.
fn summary(recording: &Recording) -> String {
    let mut text = format!("kernel {}\n\n", recording.kernel);
    for (point, state) in recording.coverage.tried() {
        let how = match state {
            State::Attached(attached) => format!("{} {}", attached.backend.name(), attached.function),
            State::Refused(_) => "-".to_owned(),
            State::NotNeeded => continue,
        };
        writeln!(text, "{:20}{how}", point.row().hop).unwrap();
    }
    let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
    for path in recording.paths() {
        let mut kind = String::new();
        if let Some(unix) = &path.unix {
            write!(kind, "UNIX {}", unix.type_name()).unwrap();
        } else {
            let flow = path.flow.unwrap();
            let version = if flow.src.is_ipv4() { 4 } else { 6 };
            write!(kind, "IPv{version} {}", flow.protocol).unwrap();
        }
        if let Some(tcp) = path.tcp {
            let flags = [(Tcp::SYN, "S"), (Tcp::FIN, "F"), (Tcp::RST, "R"), (0x08, "P"), (0x10, ".")];
            let flags: String =
                flags.iter().filter(|(bit, _)| tcp.flags & bit != 0).map(|(_, letter)| *letter).collect();
            write!(kind, " [{flags}]").unwrap();
        }
        write!(kind, " {} bytes:", path.len).unwrap();
        if let Some(dropped) = &path.dropped {
            write!(
                kind,
                " dropped: {} in {}",
                dropped.reason_name.as_deref().unwrap_or("?"),
                dropped.function.as_deref().unwrap_or("?")
            )
            .unwrap();
        }
        for hop in &path.hops {
            write!(kind, "\n    {}", hop.point.row().hop).unwrap();
            if let Some(route) = path.route_at(hop) {
                write!(kind, " table {} type {}", route.table, route.route_type).unwrap();
            }
        }
        *kinds.entry(kind).or_insert(0) += 1;
    }
    for (kind, count) in kinds {
        write!(text, "\n{count} × {kind}\n").unwrap();
    }
    text
}

#[test]
fn each_kernel_has_its_ways() {
    for recording in recordings() {
        insta::assert_snapshot!(recording.name.clone(), summary(&recording));
    }
}
