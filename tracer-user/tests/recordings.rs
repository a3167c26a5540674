//! What real kernels sent, replayed: Debian's kernels in virtual machines by kprobe and by fentry, and a kernel
//! without kprobes by tracepoints.
//!
//! Each recording holds an echo over TCP, ten messages there and back (the one by tracepoints twice, over IPv4 and
//! over IPv6, and then a connection that is refused).

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
    model::{Coverage, Hop, Losses, Path, State, Tcp},
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

    fn is_by_tracepoints(&self) -> bool {
        !self.coverage.sees(Point::IpQueueXmit)
    }

    /// Records of points that see a packet.
    fn packet_hops(&self) -> impl Iterator<Item = (u8, u64)> {
        self.records.iter().filter_map(|record| match record {
            Record::Hop(hop) if hop.skb != 0 => Some((hop.point, hop.time_ns)),
            _ => None,
        })
    }
}

/// Whether a hop is of one packet only.
fn is_own(hop: &Hop) -> bool {
    !matches!(hop.point, Point::ProcessBacklog | Point::SockDefReadable | Point::TcpRecvmsg)
}

fn own_hops(path: &Path) -> impl Iterator<Item = (u8, u64)> {
    path.hops.iter().filter(|hop| is_own(hop)).map(|hop| (hop.point as u8, hop.time_ns))
}

#[test]
fn every_packet_has_a_whole_path() {
    for recording in recordings() {
        let name = &recording.name;
        let (paths, malformed) = recording.paths_without(None);
        assert_eq!((malformed, recording.losses.lost()), (0, 0), "{name}");
        let connections = if recording.is_by_tracepoints() { 2 } else { 1 };
        let flags = |flags: u8| paths.iter().filter(|path| path.tcp.unwrap().flags == flags).count();
        let refused = flags(0x14);
        assert_eq!(flags(Tcp::SYN), connections + refused, "{name}");
        assert_eq!(flags(Tcp::SYN | 0x10), connections, "{name}");
        assert_eq!(paths.iter().filter(|path| path.len > 0).count(), 20 * connections, "{name}");
        for path in &paths {
            assert_eq!(path.incomplete, None, "{name}: {path:#?}");
            assert!(path.flow.is_some() && path.device.as_ref().unwrap().is_loopback(), "{name}: {path:#?}");
        }
        let ids: BTreeSet<u64> = paths.iter().map(|path| path.id).collect();
        assert_eq!(ids.len(), paths.len(), "{name}");
    }
}

#[test]
fn every_hop_of_a_packet_is_in_one_path() {
    for recording in recordings() {
        let mut shown: Vec<_> = recording
            .paths()
            .iter()
            .flat_map(own_hops)
            .filter(|(point, _)| *point != Point::FibLookup as u8)
            .collect();
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
            // A route is asked for before the first hop of the packet, or behind it.
            let points = path.hops.iter().map(|hop| hop.point).filter(|point| *point != Point::FibLookup);
            assert!(points.is_sorted_by(|a, b| a < b), "{}: {path:#?}", recording.name);
        }
    }
}

#[test]
fn only_what_begins_a_connection_asks_for_a_route() {
    for recording in recordings() {
        for path in recording.paths() {
            let asks = path.hops.iter().any(|hop| hop.point == Point::FibLookup);
            let is_v4 = path.flow.unwrap().src.is_ipv4();
            let may_ask = path.tcp.unwrap().flags & (Tcp::SYN | Tcp::RST) != 0;
            assert_eq!(asks, may_ask && is_v4, "{}: {path:#?}", recording.name);
        }
    }
}

/// Whichever record is lost: no path gets hops of another packet, and no packet is lost with it.
#[test]
fn one_lost_record_joins_and_hides_nothing() {
    for recording in recordings() {
        let whole = recording.paths();
        let owners: BTreeMap<(u8, u64), u64> =
            whole.iter().flat_map(|path| own_hops(path).map(|hop| (hop, path.id))).collect();
        for left_out in 0..recording.records.len() {
            let (paths, _) = recording.paths_without(Some(left_out));
            let mut shown: BTreeSet<u64> = BTreeSet::new();
            for path in &paths {
                let of: BTreeSet<_> = own_hops(path).map(|hop| owners.get(&hop)).collect();
                assert_eq!(of.len(), 1, "{} without record {left_out}: {path:#?}", recording.name);
                shown.extend(of.into_iter().flatten().copied());
            }
            assert_eq!(shown.len(), whole.len(), "{} without record {left_out}", recording.name);
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
        let tcp = path.tcp.unwrap();
        let flags = [(Tcp::SYN, "S"), (Tcp::FIN, "F"), (Tcp::RST, "R"), (0x08, "P"), (0x10, ".")];
        let flags: String =
            flags.iter().filter(|(bit, _)| tcp.flags & bit != 0).map(|(_, letter)| *letter).collect();
        let version = if path.flow.unwrap().src.is_ipv4() { 4 } else { 6 };
        let mut kind = format!("IPv{version} [{flags}] {} bytes:", path.len);
        for hop in &path.hops {
            write!(kind, "\n    {}", hop.point.row().hop).unwrap();
            if hop.point == Point::FibLookup {
                write!(kind, " table {}", hop.aux).unwrap();
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
