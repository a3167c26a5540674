//! What the figures must be. All are of one run on one machine, and all that can be are ratios, so that they mean the same on
//! any other.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    lines::Correlator,
    results::{Results, Spread, once, p50},
};

/// Whether a figure is what it must be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    /// Of what.
    pub(super) what: String,
    /// What it must be, in words.
    pub(super) limit: String,
    /// What it is; `None` if it was not measured.
    pub(super) value: Option<f64>,
    /// The same in words, with the spread.
    pub(super) figure: String,
    /// Whether it is; `None` if it was not measured.
    pub(super) met: Option<bool>,
}

/// Round trips whose ends are on one CPU, the tracer on another: the verdict.
const ROUND_TRIPS: [(&str, &str); 4] =
    [("tcp-5", "TCP, 5 B"), ("tcp-1024", "TCP, 1 KB"), ("unix-5", "UNIX, 5 B"), ("unix-1024", "UNIX, 1 KB")];

/// Works in which nothing may be lost.
const NOTHING_LOST: [(&str, &str); 3] =
    [("tcp", "TCP round trips"), ("unix", "UNIX round trips"), ("stream", "a TCP stream at full speed")];

/// Where each run writes a record if the traffic is wanted. The others (system calls, the scheduler) run for anybody.
pub(super) const HOPS: [&str; 7] = [
    "net_dev_queue",
    "net_dev_start_xmit",
    "netif_rx",
    "netif_receive_skb",
    "tcp_probe",
    "sk_data_ready",
    "tcp_rcv_space_adjust",
];
/// The work at which programs are watched.
pub(super) const WATCHED: &str = "tcp-programs-5";

/// As many flows keep what is known of them in a CPU's caches.
const FEW_FLOWS: u64 = 1000;

const MS: f64 = 1e6;
const MIB: f64 = 1024.0 * 1024.0;

/// A side of a limit.
#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

impl Limit {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
        }
    }

    fn in_words(self, shown: impl Fn(f64) -> String) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {}", shown(limit)),
            Self::AtLeast(limit) => format!("at least {}", shown(limit)),
            Self::Below(limit) => format!("below {}", shown(limit)),
        }
    }
}

/// All of them, in the order in which they are shown.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut all = Vec::new();
    for (variant, what, limit) in [
        ("json", "all hops, live JSON", 1.30),
        ("sample", "one message of 64", 1.08),
        ("excluded", "a filter that excludes the traffic", 1.03),
    ] {
        for (work, over) in ROUND_TRIPS {
            let ratio = results.ratios(work, variant, p50);
            all.push(of_ratios(&format!("round trip, {what}: {over}"), Limit::AtMost(limit), ratio));
        }
    }
    all.push(in_kernel(results));
    for (work, over) in ROUND_TRIPS {
        let what = format!("what bpftrace adds that prints, to what pathtrace adds: {over}");
        let more = results.times_added(work, "bpftrace-print", "json");
        all.push(of_ratios(&what, Limit::AtLeast(5.0), more));
    }
    for (work, over) in ROUND_TRIPS {
        let what = format!("what pathtrace adds, to what bpftrace adds that counts: {over}");
        let ratio = results.times_added(work, "json", "bpftrace-count");
        all.push(of_ratios(&what, Limit::AtMost(1.0), ratio));
    }
    for (group, what) in NOTHING_LOST {
        let lost = results.of_tracers(group, "json", |it| it.lost.map(|lost| lost as f64));
        let shown = |events: f64| format!("{events:.0}");
        all.push(of_max(&format!("events lost in any round: {what}"), Limit::AtMost(0.0), lost, shown));
    }
    let ms = |ns: f64| format!("{:.0} ms", ns / MS);
    let first = Spread::of(results.starts.iter().map(|start| start.first_path_ns as f64));
    all.push(of_median("from start to first path", Limit::Below(300.0 * MS), first, ms));
    all.push(of_max(
        "from Ctrl-C to the end, after the slowest work",
        Limit::Below(300.0 * MS),
        exits(results),
        ms,
    ));
    let groups = once(results.tracers.iter().map(|it| it.group.as_str()));
    let peaks = groups.iter().filter_map(|group| {
        results.of_tracers(group, "json", |it| it.peak_bytes.map(|bytes| bytes as f64)).map(|it| it.max)
    });
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / MIB);
    all.push(of_max("most memory", Limit::Below(64.0 * MIB), Spread::of(peaks), mib));
    all.extend(of_correlators(&results.correlators));
    all
}

/// The slowest counts, of few flows and of many.
fn of_correlators(correlators: &[Correlator]) -> Vec<Verdict> {
    let slowest = |chosen: &dyn Fn(&&Correlator) -> bool| {
        let speeds = correlators.iter().filter(chosen).map(|it| it.events_per_second);
        speeds.min_by(f64::total_cmp)
    };
    let mut all = Vec::new();
    for (output, what, limit) in [("summary", "only the summary", 5e6), ("json", "JSON", 1.5e6)] {
        for (flows, of) in [(0..=FEW_FLOWS, "up to 1000 flows"), (FEW_FLOWS + 1..=u64::MAX, "10 000 flows")] {
            let speed = slowest(&|it| it.output == output && flows.contains(&it.flows));
            let millions = |events: f64| format!("{:.2} million events/s", events / 1e6);
            let what = format!("from records to output on one CPU: {what}, {of}");
            all.push(verdict(&what, Limit::AtLeast(limit), speed, speed.map(millions), millions));
        }
    }
    // Twice the time for ten times the events would be nowhere near.
    let of = |it: &Correlator, events: u64| {
        let is_it = |other: &&Correlator| {
            (&other.output, &other.stream, other.flows, other.events)
                == (&it.output, &it.stream, it.flows, events)
        };
        correlators.iter().find(is_it).map(|it| it.events_per_second)
    };
    let growth = correlators.iter().filter_map(|it| Some(of(it, it.events * 10)? / of(it, it.events)?));
    let growth = growth.min_by(f64::total_cmp);
    let what = "events/s of ten times as many events, to those of 10^6";
    all.push(verdict(what, Limit::AtLeast(0.9), growth, growth.map(times), times));
    all
}

/// How long pathtrace takes to end, after each kind of work, the usual of the rounds.
fn exits(results: &Results) -> Option<Spread> {
    let meanwhile = Spread::of(results.starts.iter().map(|start| start.exit_ns as f64));
    let groups = once(results.tracers.iter().map(|it| it.group.as_str()));
    let after =
        groups.iter().filter_map(|group| results.of_tracers(group, "json", |it| Some(it.exit_ns as f64)));
    Spread::of(after.chain(meanwhile).map(|it| it.median))
}

/// The kernel's statistics cost time themselves, which is in both figures. So the ratio without what an empty program costs is
/// said as well.
fn in_kernel(results: &Results) -> Verdict {
    let of = |variant| results.ns_per_run(WATCHED, variant, &HOPS).map(|it| it.median);
    let limit = Limit::AtMost(1.3);
    let (Some(ours), Some(bare)) = (of("json"), of("bare")) else {
        return of_median("a hop's program, to one that only hands over a record", limit, None, times);
    };
    let ratio = ours / bare;
    let mut figure = format!("{} ({ours:.0} ns to {bare:.0} ns", times(ratio));
    if let Some(empty) = of("empty") {
        let without = times((ours - empty) / (bare - empty));
        let _ = write!(figure, "; without the {empty:.0} ns of an empty one {without}");
    }
    figure.push(')');
    Verdict {
        what: "a hop's program, to one that only hands over a record".into(),
        limit: limit.in_words(times),
        value: Some(ratio),
        figure,
        met: Some(limit.is_met(ratio)),
    }
}

/// Of those rounds in which there was something to compare with.
fn of_ratios(what: &str, limit: Limit, ratios: Option<Spread>) -> Verdict {
    let mut verdict = of_median(what, limit, ratios, times);
    if let Some(Spread { count, .. }) = ratios {
        let _ = write!(verdict.figure, ", {count} rounds");
    }
    verdict
}

fn of_median(what: &str, limit: Limit, spread: Option<Spread>, shown: impl Fn(f64) -> String) -> Verdict {
    let figure = spread.map(|it| format!("{} ({}–{})", shown(it.median), shown(it.low), shown(it.high)));
    verdict(what, limit, spread.map(|it| it.median), figure, shown)
}

fn of_max(what: &str, limit: Limit, spread: Option<Spread>, shown: impl Fn(f64) -> String) -> Verdict {
    let max = spread.map(|it| it.max);
    verdict(what, limit, max, max.map(&shown), shown)
}

fn verdict(
    what: &str,
    limit: Limit,
    value: Option<f64>,
    figure: Option<String>,
    shown: impl Fn(f64) -> String,
) -> Verdict {
    Verdict {
        what: what.to_owned(),
        limit: limit.in_words(shown),
        value,
        figure: figure.unwrap_or_else(|| "not measured".into()),
        met: value.map(|value| limit.is_met(value)),
    }
}

/// A ratio for people.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}
