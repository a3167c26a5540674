//! The tables of a run, for people: in docs/performance.md, and on the terminal.

use std::fmt::Write as _;

use super::{
    lines::Tracer,
    results::{Figure, Results, Spread, UNTRACED, bytes_per_second, once, p50, p99, per_second},
    verdicts::{Verdict, WATCHED},
};

/// Groups of works in which one message is on its way at a time.
const ROUND_TRIPS: [&str; 2] = ["tcp", "unix"];

/// There is no figure.
const NONE: &str = "–";

/// Everything, as Markdown.
pub(super) fn page(results: &Results, verdicts: &[Verdict]) -> String {
    let mut page = machine(results);
    page += &verdict_table(verdicts);
    page += &round_trips(results, "Round trip, median", p50);
    page += &round_trips(results, "Round trip, of a hundred the slowest", p99);
    page += &added(results);
    page += &throughput(results);
    page += &tracers(results);
    page += &programs(results);
    page += &correlators(results);
    page += &remarks(results);
    page
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "Linux {}, {}, {} CPUs ({}). The machine's load was {:.1} before. {} \
         rounds; each figure is their median, and half of the rounds are between those in brackets.\n\n",
        machine.kernel,
        machine.processor,
        machine.cpus,
        machine.programs.join("; "),
        machine.load,
        machine.rounds
    );
    let _ = writeln!(
        text,
        "Both ends of a connection are on CPU {}; where they are apart, the server is on CPU {}. Who reads what the kernel \
         hands over is on CPU {}.\n",
        machine.work_cpu, machine.other_cpu, machine.tracer_cpu
    );
    text
}

/// Met or not, which comes first.
pub(super) fn verdict_table(verdicts: &[Verdict]) -> String {
    let rows = verdicts.iter().map(|it| {
        let met = match it.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        vec![met.to_owned(), it.what.clone(), it.figure.clone(), it.limit.clone()]
    });
    table("Verdicts", &["", "what", "measured", "must be"], rows)
}

fn round_trips(results: &Results, title: &str, figure: Figure) -> String {
    let works = works_with(results, figure);
    compared(results, &format!("{title}, to the untraced one at the same pace"), &works, figure, |it| {
        format!("{:.1} µs", it / 1e3)
    })
}

/// The works that have this figure.
fn works_with(results: &Results, figure: Figure) -> Vec<&str> {
    let names = results.names_of_works();
    names.into_iter().filter(|work| results.values(work, UNTRACED, figure).is_some()).collect()
}

/// A row for each variant, a column for each work: what is untraced as it is, the others as ratios to it.
fn compared(
    results: &Results,
    title: &str,
    works: &[&str],
    figure: Figure,
    shown: impl Fn(f64) -> String,
) -> String {
    let rows = variants(results).into_iter().map(|variant| {
        let cells = works.iter().map(|work| {
            if variant == UNTRACED {
                return cell(results.values(work, variant, figure), &shown);
            }
            cell(results.ratios(work, variant, figure), |ratio| format!("{ratio:.2}"))
        });
        std::iter::once(variant.to_owned()).chain(cells).collect()
    });
    let header: Vec<&str> = std::iter::once("").chain(works.iter().copied()).collect();
    table(title, &header, rows)
}

fn added(results: &Results) -> String {
    let mut works = works_with(results, p50);
    // Where many messages are on their way at once, one waits for others.
    works.retain(|work| results.of(work, UNTRACED).any(|it| ROUND_TRIPS.contains(&it.group.as_str())));
    let header: Vec<&str> = std::iter::once("").chain(works.iter().copied()).collect();
    let rows = |added: &dyn Fn(&str, &str) -> Option<Spread>, shown: fn(f64) -> String| {
        let variants = variants(results).into_iter().filter(|variant| *variant != UNTRACED);
        let row = |variant: &str| {
            let cells = works.iter().map(|work| cell(added(work, variant), shown));
            std::iter::once(variant.to_owned()).chain(cells).collect()
        };
        variants.map(row).collect::<Vec<Vec<String>>>()
    };
    let added = rows(&|work, variant| results.added_ns(work, variant), |ns| format!("{:.2}", ns / 1e3));
    let an_event = rows(&|work, variant| results.added_ns_an_event(work, variant), |ns| format!("{ns:.0}"));
    table("What is added to a round trip, µs", &header, added.into_iter())
        + &table(
            "What is added to a round trip for each event that the tracer is told of, ns",
            &header,
            an_event.into_iter(),
        )
}

fn throughput(results: &Results) -> String {
    let streams = works_with(results, bytes_per_second);
    let mut text = compared(
        results,
        "Throughput of a stream, to the untraced one at the same pace",
        &streams,
        bytes_per_second,
        |bytes| format!("{:.2} GB/s", bytes / 1e9),
    );
    let others: Vec<&str> =
        works_with(results, per_second).into_iter().filter(|work| !streams.contains(work)).collect();
    text += &compared(
        results,
        "Messages a second, to the untraced run at the same pace",
        &others,
        per_second,
        |messages| format!("{:.1} k/s", messages / 1e3),
    );
    text
}

/// What a cell of a table of processes shows of each.
type OfTracer = fn(&Tracer) -> Option<f64>;

/// The most of all rounds.
const MOST: [(&str, OfTracer); 2] = [
    ("lost, most", |it| it.lost.map(|lost| lost as f64)),
    ("memory, most, MiB", |it| it.peak_bytes.map(|bytes| bytes as f64 / 1024.0 / 1024.0)),
];

/// What is shown of each as it is in the middle.
const USUAL: [(&str, OfTracer); 6] = [
    ("start, ms", |it| Some(it.ready_ns as f64 / 1e6)),
    ("end, ms", |it| Some(it.exit_ns as f64 / 1e6)),
    ("events/s, thousands", |it| it.events.map(|events| events as f64 / it.traced_ns.max(1) as f64 * 1e6)),
    ("CPU, ns an event", |it| {
        it.events.filter(|events| *events > 0).map(|events| it.cpu_ns as f64 / events as f64)
    }),
    ("CPU, %", |it| Some(it.cpu_ns as f64 / (it.traced_ns + it.exit_ns).max(1) as f64 * 100.0)),
    ("output, MB", |it| Some(it.output_bytes as f64 / 1e6)),
];

fn tracers(results: &Results) -> String {
    let each = once(results.tracers.iter().map(|it| (it.group.as_str(), it.variant.as_str())));
    let rows = each.into_iter().map(|(group, variant)| {
        let usual =
            USUAL.iter().map(|(_, figure)| results.of_tracers(group, variant, figure).map(|it| it.median));
        let most = MOST.iter().map(|(_, figure)| results.of_tracers(group, variant, figure).map(|it| it.max));
        let shown = |figure: Option<f64>| figure.map_or_else(|| NONE.into(), |it| format!("{it:.0}"));
        [group.to_owned(), variant.to_owned()].into_iter().chain(usual.chain(most).map(shown)).collect()
    });
    let names = USUAL.iter().chain(&MOST).map(|(name, _)| *name);
    let header: Vec<&str> = ["works", "variant"].into_iter().chain(names).collect();
    table("The tracers' own processes", &header, rows)
}

fn programs(results: &Results) -> String {
    let of_work = || results.programs.iter().filter(|it| it.work == WATCHED);
    let hops = once(of_work().map(|it| it.hop.as_str()));
    let variants = once(of_work().map(|it| it.variant.as_str()));
    let rows = hops.into_iter().map(|hop| {
        let cells = variants
            .iter()
            .map(|variant| cell(results.ns_per_run(WATCHED, variant, &[hop]), |ns| format!("{ns:.0}")));
        std::iter::once(hop.to_owned()).chain(cells).collect()
    });
    let header: Vec<&str> = std::iter::once("tracepoint").chain(variants.iter().copied()).collect();
    table("In the kernel, ns a run, the statistics' own cost included (TCP, 5 B)", &header, rows)
}

fn correlators(results: &Results) -> String {
    let rows = results.correlators.iter().map(|it| {
        vec![
            it.output.clone(),
            it.flows.to_string(),
            format!("{:.0}", it.events as f64 / 1e6),
            format!("{:.2}", it.events_per_second / 1e6),
            format!("{:.0}", 1e9 / it.events_per_second),
            format!("{:.4}", it.allocations_per_event),
            format!("{:.1}", it.peak_bytes as f64 / 1024.0 / 1024.0),
        ]
    });
    let header = [
        "output",
        "flows at once",
        "events, millions",
        "million events/s",
        "ns an event",
        "allocations an event",
        "memory, MiB",
    ];
    table(
        "From records to output on one CPU, TCP, the best of seven runs (of ten million events: three)",
        &header,
        rows,
    )
}

fn remarks(results: &Results) -> String {
    let unavailable = results
        .unavailable
        .iter()
        .map(|it| format!("- {} at {}: not available ({})\n", it.variant, it.group, it.why));
    let notes = results.notes.iter().map(|it| format!("- {} at {}: {}\n", it.variant, it.group, it.text));
    let mut all: Vec<String> = unavailable.chain(notes).collect();
    all.dedup();
    all.concat()
}

fn variants(results: &Results) -> Vec<&str> {
    once(results.works.iter().filter(|it| it.work != WATCHED).map(|it| it.variant.as_str()))
}

/// A table with a title, or nothing if it has no rows.
fn table(title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    // A row without a figure says nothing.
    let rows: Vec<Vec<String>> = rows.filter(|row| row.iter().skip(1).any(|cell| cell != NONE)).collect();
    if rows.is_empty() || header.len() < 2 {
        return String::new();
    }
    let mut text = format!("**{title}**\n\n| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
    text
}

fn cell(spread: Option<Spread>, shown: impl Fn(f64) -> String) -> String {
    spread.map_or_else(
        || NONE.into(),
        |it| format!("{} ({}–{})", shown(it.median), shown(it.low), shown(it.high)),
    )
}
