//! Hand-built comparisons for tests.

use super::{AtSize, Comparison, Cpus, Measured, Messages, Run, ShortCut, Stamp, Stream};
use crate::{
    analyze::{LatencyTable, samples},
    model::Path,
    workload::Link,
};

/// How long the program takes to enter the kernel, and to come back, ns.
const OUTSIDE_NS: (u64, u64) = (200, 300);

/// The stamps of messages that these paths are.
fn stamps(paths: &[Path]) -> Vec<Stamp> {
    let stamp = |path: &Path| Stamp {
        sent_ns: path.start_ns() - OUTSIDE_NS.0,
        received_ns: path.start_ns() + path.total_ns() + OUTSIDE_NS.1,
    };
    paths.iter().map(stamp).collect()
}

/// The path so many ms later.
fn later(mut path: Path, ms: u64) -> Path {
    for hop in &mut path.hops {
        hop.time_ns += ms * 1_000_000;
    }
    path
}

/// Messages of 100 bytes that take the way of this path, each a bit slower than the one before.
fn messages(path: &Path) -> Messages {
    let slower = |at: u64| {
        let mut path = later(path.clone(), at);
        path.len = 100;
        if let Some(last) = path.hops.last_mut() {
            last.time_ns += at * 10;
        }
        path
    };
    let paths: Vec<Path> = (0..100).map(slower).collect();
    Messages::of_stamps(&stamps(&paths), 100, &paths)
}

fn measured(round_trip_ns: u64) -> Measured {
    let around = |ns: u64| (0..1_000).map(move |at| ns + at * ns / 2_000);
    Measured { round_trip: around(round_trip_ns).collect(), one_way: around(round_trip_ns / 2).collect() }
}

/// A hundred messages that take the way of this path, and round trips of so many ns.
pub(crate) fn run(link: Link, path: &Path, round_trip_ns: u64) -> Run {
    Run {
        link,
        untraced: Some(measured(round_trip_ns)),
        stream: Some(Stream { messages: 1_000_000, bytes: 100_000_000, ns: round_trip_ns * 20_000 }),
        traced: Some(measured(round_trip_ns * 3 / 2)),
        messages: Some(messages(path)),
        short_cut: None,
    }
}

/// TCP takes twice as long as UNIX.
pub(crate) fn at_100_bytes() -> AtSize {
    AtSize {
        bytes: Some(100),
        runs: vec![run(Link::Tcp, &samples::tcp_woken(), 20_000), run(Link::Unix, &samples::unix(), 10_000)],
    }
}

/// Two sizes of links beside TCP and UNIX: one is not traced, one goes past the network.
pub(crate) fn with_others() -> Comparison {
    let mut comparison = comparison();
    for size in &mut comparison.sizes {
        let without_messages =
            |link, round_trip_ns| Run { messages: None, ..run(link, &samples::unix(), round_trip_ns) };
        size.runs.push(without_messages(Link::Pipe, 8_000));
        let short_cut = Some(ShortCut { sent_bytes: 200_000, delivered_bytes: 200_000, packets: 0 });
        size.runs.push(Run { short_cut, ..without_messages(Link::Sockmap, 9_000) });
    }
    comparison.left_out.clear();
    comparison
}

/// One size.
pub(crate) fn comparison() -> Comparison {
    let mut latencies = LatencyTable::default();
    latencies.add(&samples::tcp_woken());
    Comparison {
        cpus: Cpus { client: Some(0), server: Some(0), tracer: Some(1) },
        sizes: vec![at_100_bytes()],
        not_kept: 0,
        left_out: vec![(Link::Sockmap, "the kernel refused it: operation not permitted".to_owned())],
        coverage: samples::coverage(),
        trust: samples::trust(),
        latencies,
    }
}
