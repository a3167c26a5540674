//! What is said in figures, a row for each connection.

use super::text::Grouped;
use crate::{
    comparison::{AtSize, Measured, Run, Stream},
    export::Human,
    workload::Link,
};

/// A table of text: the first column names the row.
pub(super) struct Table {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// What stands where nothing is known.
const UNKNOWN: &str = "–";

/// A column, and what it says about a connection.
type Column = (&'static str, fn(&AtSize, &Run) -> Option<String>);

const COLUMNS: [Column; 9] = [
    ("round trip p50", |_, run| round_trip(run, 0.5).map(human)),
    ("against TCP", |at, run| against_tcp(at, run, 0.5)),
    ("p99", |_, run| round_trip(run, 0.99).map(human)),
    ("against TCP", |at, run| against_tcp(at, run, 0.99)),
    ("stream", |_, run| run.stream.as_ref().map(throughput)),
    ("while traced", |_, run| run.cost_of_tracing().map(|cost| format!("p50 × {cost:.1}"))),
    ("one way, traced p50", |_, run| one_way(run, 0.5)),
    ("p99", |_, run| one_way(run, 0.99)),
    ("followed", |_, run| {
        run.messages
            .as_ref()
            .map(|messages| format!("{} of {}", Grouped(messages.followed()), Grouped(messages.sent())))
    }),
];

/// The figures of all connections. A column about which nothing is known is left out.
pub(super) fn table(at: &AtSize) -> Table {
    let columns = COLUMNS.into_iter().filter_map(|(name, says)| {
        let cells: Vec<_> = at.runs.iter().map(|run| says(at, run)).collect();
        cells.iter().any(Option::is_some).then_some((name, cells))
    });
    let (mut head, mut rows) =
        (vec!["connection"], at.runs.iter().map(|run| vec![run.link.to_string()]).collect::<Vec<_>>());
    for (name, cells) in columns {
        head.push(name);
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.push(cell.unwrap_or_else(|| UNKNOWN.to_owned()));
        }
    }
    Table { head, rows }
}

fn human(ns: u64) -> String {
    Human(ns).to_string()
}

/// The true one, ns.
fn round_trip(run: &Run, part: f64) -> Option<u64> {
    run.untraced.as_ref().and_then(|Measured { round_trip, .. }| round_trip.quantile(part))
}

/// How much faster or slower than TCP.
fn against_tcp(at: &AtSize, run: &Run, part: f64) -> Option<String> {
    if run.link == Link::Tcp {
        return None;
    }
    let tcp = round_trip(at.run(Link::Tcp)?, part)?.max(1) as f64;
    let this = round_trip(run, part)?.max(1) as f64;
    let (times, word) = if this <= tcp { (tcp / this, "faster") } else { (this / tcp, "slower") };
    let digits = usize::from(times < 9.95);
    Some(format!("{times:.digits$} × {word}"))
}

/// Only where there are no round trips: these are messages that were followed, with the cost of tracing.
fn one_way(run: &Run, part: f64) -> Option<String> {
    if run.untraced.is_some() {
        return None;
    }
    run.messages.as_ref()?.one_way().quantile(part).map(human)
}

fn throughput(stream: &Stream) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")];
    let bytes = stream.bytes_per_second();
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes / unit < 10.0 => format!("{:.1} {name}", bytes / unit),
        Some((unit, name)) => format!("{:.0} {name}", bytes / unit),
        None => format!("{bytes:.0} B/s"),
    }
}

/// What the way of the messages was, for a heading.
pub(super) fn heading(at: &AtSize) -> String {
    match at.bytes {
        Some(1) => "Messages of 1 byte".to_owned(),
        Some(bytes) => format!("Messages of {} bytes", Grouped(u64::from(bytes))),
        None => "Messages of your programs".to_owned(),
    }
}
