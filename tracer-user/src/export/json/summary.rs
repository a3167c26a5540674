//! The last line: the accounts of the run.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{SCHEMA, Shown};
use crate::{
    analyze::{Counted, Row, Summary},
    export::Refusals,
    model::{Audit, OwnCost, State},
};

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    kind: &'static str,
    events: u64,
    lost: Option<u64>,
    paths: Paths,
    probe_points: ProbePoints,
    duration_ns: Option<u64>,
    missed: Option<u64>,
    malformed: u64,
    cut_off: u64,
    incomplete_reasons: BTreeMap<&'static str, u64>,
    unattached: Vec<Unattached<'a>>,
    hops: Vec<Step>,
    totals: Vec<Total>,
    shares: Vec<Share>,
    own_cost: Option<Cost>,
    audit: Option<Accounts>,
    sample: Option<u32>,
}

/// What tracing cost in the kernel.
#[derive(Serialize)]
struct Cost {
    ns_per_event: Option<u64>,
    total_ns: u64,
    /// Of the time that one CPU has.
    share: Option<f64>,
    measured_events: u64,
    ns_per_run: Option<u64>,
    measured_runs: Option<u64>,
}

impl Cost {
    fn of(cost: OwnCost) -> Self {
        let OwnCost { ns_per_event, total_ns, share, measured_events, by_run } = cost;
        // More digits than were measured would be noise.
        let share = share.map(|share| (share * 1e6).round() / 1e6);
        Self {
            ns_per_event,
            total_ns,
            share,
            measured_events,
            ns_per_run: by_run.map(|by_run| by_run.ns),
            measured_runs: by_run.map(|by_run| by_run.measured),
        }
    }
}

/// The accounts of all records.
#[derive(Serialize)]
struct Accounts {
    fired: u64,
    taken: u64,
    lost: u64,
    unexplained: u64,
    balance: bool,
}

impl Accounts {
    fn of(audit: &Audit) -> Self {
        let Audit { fired, taken, lost, unexplained } = *audit;
        Self { fired, taken, lost, unexplained, balance: audit.balances() }
    }
}

#[derive(Serialize)]
struct Paths {
    complete: u64,
    incomplete: u64,
    dropped: u64,
    retransmitted: u64,
    too_short: u64,
    filtered_out: u64,
}

#[derive(Serialize)]
struct ProbePoints {
    attached: usize,
    total: usize,
}

#[derive(Serialize)]
struct Unattached<'a> {
    hop: &'static str,
    reason: Shown<Refusals<'a>>,
}

#[derive(Serialize)]
struct Step {
    hop: &'static str,
    #[serde(flatten)]
    times: Total,
}

/// A part of the way to the reader: `kernel`, `scheduler`, `reader`.
#[derive(Serialize)]
struct Share {
    part: &'static str,
    #[serde(flatten)]
    times: Total,
}

/// All but `traffic` and `count` are `null` for a hop that was always the first.
#[derive(Serialize)]
struct Total {
    traffic: &'static str,
    count: u64,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Total {
    fn of(row: &Row) -> Self {
        Self {
            traffic: row.class.name(),
            count: row.count,
            p50_ns: row.times.map(|times| times.p50_ns),
            p90_ns: row.times.map(|times| times.p90_ns),
            p99_ns: row.times.map(|times| times.p99_ns),
            max_ns: row.times.map(|times| times.max_ns),
        }
    }
}

/// Writes the summary as one line.
pub fn write_summary(summary: &Summary<'_>, mut out: impl Write) -> io::Result<()> {
    let Summary { table, trust, coverage } = summary;
    let (attached, total) = coverage.counts();
    let rows = table.rows();
    let line = Line {
        schema: SCHEMA,
        kind: "summary",
        events: trust.events,
        lost: trust.losses.map(|losses| losses.lost()),
        paths: Paths {
            complete: trust.complete,
            incomplete: trust.incomplete_total(),
            dropped: trust.dropped,
            retransmitted: trust.retransmitted,
            too_short: trust.too_short,
            filtered_out: trust.filtered_out,
        },
        probe_points: ProbePoints { attached, total },
        duration_ns: trust.duration_ns,
        missed: trust.losses.and_then(|losses| losses.missed),
        malformed: trust.malformed,
        cut_off: trust.cut_off,
        incomplete_reasons: trust.incomplete.iter().map(|(why, count)| (why.reason(), *count)).collect(),
        unattached: coverage
            .tried()
            .filter_map(|(point, state)| match state {
                State::Refused(refusals) => {
                    Some(Unattached { hop: point.row().hop, reason: Shown(Refusals(refusals)) })
                }
                State::Attached(_) | State::NotNeeded => None,
            })
            .collect(),
        hops: rows
            .iter()
            .filter(|row| matches!(row.what, Counted::Step(_)))
            .map(|row| Step { hop: row.what.name(), times: Total::of(row) })
            .collect(),
        totals: rows.iter().filter(|row| row.what == Counted::Total).map(Total::of).collect(),
        shares: rows
            .iter()
            .filter(|row| matches!(row.what, Counted::Share(_)))
            .map(|row| Share { part: row.what.name(), times: Total::of(row) })
            .collect(),
        own_cost: trust.own_cost().ok().map(Cost::of),
        audit: trust.audit.as_ref().map(Accounts::of),
        sample: trust.sample,
    };
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")
}
