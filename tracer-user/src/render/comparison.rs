//! A comparison for people: end to end, then stage by stage, then what that means.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Color, Row, Table};

use super::{
    Style,
    grid::{bold, grid, write_grid},
    paint::{Paint, Tone},
    time::Micros,
};
use crate::{
    analyze::Distribution,
    comparison::{AtSize, Comparison, Cpus, Gap, GapRow, Measured, Run, Stage},
    export::{
        Human,
        comparison::{Bytes, Conclusion, Percent, Rate, StageTitle, nanos},
    },
    workload::Link,
};

/// Columns of the longest bar.
const BAR: usize = 20;
/// Columns of prose, unless the terminal has less.
const PROSE: u16 = 100;

/// Writes all of a comparison but how far to believe it; with `only_conclusions` just these.
pub fn write_comparison(
    comparison: &Comparison,
    only_conclusions: bool,
    style: Style,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    for size in &comparison.sizes {
        if !only_conclusions {
            write_title(size, comparison.cpus, out)?;
            write_end_to_end(size, style, out)?;
            writeln!(out)?;
            write_stages(size, style, out)?;
            write_ways(size, style, out)?;
        }
        for run in size.runs.iter().filter(|run| run.link != Link::Tcp) {
            let conclusion = Conclusion { size, to: run.link }.to_string();
            write_prose(conclusion.trim_start(), style, out)?;
            writeln!(out)?;
        }
        if !only_conclusions {
            write_cost(size, style, out)?;
        }
        writeln!(out)?;
    }
    if comparison.not_kept > 0 {
        writeln!(
            out,
            "All figures are of the first packets: {} more came when enough were kept.",
            comparison.not_kept
        )?;
    }
    for (link, why) in &comparison.left_out {
        writeln!(out, "{link} is left out: {why}")?;
    }
    Ok(())
}

fn write_title(size: &AtSize, cpus: Cpus, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    match size.bytes {
        Some(bytes) => write!(out, "Messages of {}", Bytes(bytes))?,
        None => write!(out, "Your own traffic")?,
    }
    if let (Some(client), Some(server)) = (cpus.client, cpus.server) {
        if client == server {
            write!(out, ", both processes on CPU {client}")?;
        } else {
            write!(out, ", from CPU {client} to CPU {server} and back")?;
        }
        match cpus.tracer {
            Some(cpu) => write!(out, ", pathtrace on CPU {cpu}")?,
            None => write!(out, ", pathtrace on the same CPUs")?,
        }
    }
    writeln!(out)
}

/// A line of the end-to-end table: its title, and how to find its figure, ns.
type Line = (&'static str, fn(&Measured) -> Option<u64>);

/// What so many do not exceed; `None` if there are too few for one of them to lie beyond it.
fn quantile(times: &Distribution, part: f64) -> Option<u64> {
    let beyond = times.count() as f64 * (1.0 - part);
    times.quantile(part).filter(|_| beyond >= 1.0)
}

const LINES: [Line; 11] = [
    ("round trip p50", |measured| quantile(&measured.round_trip, 0.5)),
    ("           mean", |measured| measured.round_trip.mean()),
    ("           p90", |measured| quantile(&measured.round_trip, 0.9)),
    ("           p99", |measured| quantile(&measured.round_trip, 0.99)),
    ("           p99.9", |measured| quantile(&measured.round_trip, 0.999)),
    ("           max", |measured| measured.round_trip.max()),
    ("one way    p50", |measured| quantile(&measured.one_way, 0.5)),
    ("           p90", |measured| quantile(&measured.one_way, 0.9)),
    ("           p99", |measured| quantile(&measured.one_way, 0.99)),
    ("           p99.9", |measured| quantile(&measured.one_way, 0.999)),
    ("           max", |measured| measured.one_way.max()),
];

/// The same for rates, and their unit.
type RateLine = (&'static str, fn(&Run) -> Option<f64>, &'static str);

/// The true times. Of a user's own traffic there are none but the traced.
fn write_end_to_end(size: &AtSize, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    if size.runs.iter().all(|run| run.untraced.is_none()) {
        return write_traced_only(size, style, out);
    }
    let mut table = grid(headings("UNTRACED", size), style);
    for (title, figure) in LINES {
        let figures: Vec<_> =
            size.runs.iter().map(|run| run.untraced.as_ref().and_then(figure).map(|ns| ns as f64)).collect();
        table.add_row(compared(title, &figures, |ns| Cell::new(nanos(ns))));
    }
    let rates: [RateLine; 2] = [
        ("stream     messages", |run| Some(run.stream?.messages_per_second()), ""),
        ("           bytes", |run| Some(run.stream?.bytes_per_second()), "B"),
    ];
    for (title, figure, unit) in rates {
        let figures: Vec<_> = size.runs.iter().map(figure).collect();
        table.add_row(compared(title, &figures, |per_second| Cell::new(Rate { per_second, unit })));
    }
    write_grid(&table, out)
}

fn write_traced_only(size: &AtSize, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let mut table = grid(headings("WHILE TRACED", size), style);
    for (title, part) in
        [("until readable p50", 0.5), ("               p90", 0.9), ("               p99", 0.99)]
    {
        let figures: Vec<_> = size
            .runs
            .iter()
            .map(|run| run.messages.as_ref().and_then(|all| all.one_way().quantile(part)).map(|ns| ns as f64))
            .collect();
        table.add_row(compared(title, &figures, |ns| Cell::new(nanos(ns))));
    }
    let sent = size.runs.iter().map(|run| run.messages.as_ref().map(|all| all.sent() as f64));
    let sent: Vec<_> = sent.collect();
    table.add_row(compared("messages", &sent, Cell::new));
    write_grid(&table, out)
}

/// The links, and behind all but the first how TCP stands to them.
fn headings(title: &str, size: &AtSize) -> Row {
    let links = size.runs.iter().map(|run| run.link.to_string());
    let ratios = size.runs.iter().skip(1).map(|run| format!("{}/{}", Link::Tcp, run.link));
    std::iter::once(title.to_owned()).chain(links).chain(ratios).collect::<Vec<_>>().into()
}

/// A figure of each run, and the first one's ratio to each other.
fn compared(title: &str, figures: &[Option<f64>], cell: impl Fn(f64) -> Cell) -> Row {
    let nothing = || Cell::new("-");
    let mut row = vec![Cell::new(format_args!("  {title}"))];
    row.extend(figures.iter().map(|figure| figure.map_or_else(nothing, &cell)));
    let (first, others) = figures.split_first().map_or((None, [].as_slice()), |(first, rest)| (*first, rest));
    row.extend(others.iter().map(|other| match (first, *other) {
        (Some(first), Some(other)) if other > 0.0 => bold(format_args!("{:.2}x", first / other)),
        _ => nothing(),
    }));
    row.into()
}

/// The stages of all traced runs, and what each adds to the gap between TCP and the next one.
fn write_stages(size: &AtSize, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let traced = || size.runs.iter().filter(|run| run.messages.is_some() || run.short_cut.is_some());
    let mut others = traced().map(|run| run.link).filter(|link| *link != Link::Tcp);
    let Some((to, gap)) = others.find_map(|link| Some((link, size.gap(link)?))) else {
        return Ok(());
    };
    let title = if size.bytes.is_some() { "ONE WAY, TRACED" } else { "UNTIL READABLE, TRACED" };
    let mut headings = vec![title.to_owned()];
    headings.extend(traced().map(|run| format!("{} P50", run.link)));
    headings.extend([format!("{}-{to} MEAN", Link::Tcp), "SHARE".to_owned(), String::new()]);
    let mut table = grid(headings, style);
    if let Some(bars) = table.column_iter_mut().last() {
        bars.set_cell_alignment(CellAlignment::Left);
    }
    for stage in Stage::ALL {
        let p50 = |run: &Run| run.messages.as_ref().and_then(|messages| messages.p50(stage));
        let shown = |run: &Run| match p50(run) {
            Some(ns) => Cell::new(Human(ns)),
            None if run.short_cut.is_some_and(|short_cut| short_cut.skips(stage)) => Cell::new("skipped"),
            None => Cell::new("-"),
        };
        if traced().all(|run| p50(run).is_none()) {
            continue;
        }
        let mut cells = vec![Cell::new(format_args!("  {}", StageTitle::of(stage, size)))];
        cells.extend(traced().map(shown));
        let row = gap.rows.iter().find(|row| row.stage == stage);
        cells.extend(row.into_iter().flat_map(|row| gap_cells(row, to)));
        table.add_row(cells);
    }
    add_total(&mut table, &gap, traced().count());
    write_grid(&table, out)?;
    writeln!(out)
}

/// The hops that most messages took.
fn write_ways(size: &AtSize, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let ways = size.runs.iter().filter_map(|run| Some((run.link, run.messages.as_ref()?.way()?)));
    let ways: Vec<_> = ways.collect();
    if ways.is_empty() {
        return Ok(());
    }
    let paint = Paint(style.color);
    writeln!(
        out,
        " {}",
        paint.tone(Tone::Strong, "THE WAY, with µs between hops (medians); *: in no other of these ways")
    )?;
    for (link, way) in &ways {
        let others = || ways.iter().filter(|(other, _)| other != link).flat_map(|(_, way)| &way.steps);
        write!(out, "   {link} ({} of the messages):", Percent(way.share))?;
        for (at, (point, ns)) in way.steps.iter().enumerate() {
            if at > 0 {
                write!(out, " {}", paint.tone(Tone::Faint, format_args!("+{}", Micros(*ns))))?;
            }
            let is_shared = ways.len() == 1 || others().any(|(other, _)| other == point);
            write!(out, " {}{}", point.row().hop, if is_shared { "" } else { "*" })?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

/// How much longer, which part of the gap, and a bar.
fn gap_cells(row: &GapRow, to: Link) -> Vec<Cell> {
    let mean = |cost: Option<crate::comparison::Cost>| cost.map_or(0.0, |cost| cost.mean_ns);
    let mut cells = vec![Cell::new(Signed(mean(row.first) - mean(row.second)))];
    let Some(share) = row.share else { return cells };
    cells.push(Cell::new(Percent(share)));
    let alone = match (row.first, row.second) {
        (Some(_), None) => format!(" only {}", Link::Tcp),
        (None, Some(_)) => format!(" only {to}"),
        _ => String::new(),
    };
    let bar = Cell::new(format_args!("{}{alone}", bar(share)));
    cells.push(if alone.is_empty() { bar } else { bar.fg(Color::Yellow) });
    cells
}

fn add_total(table: &mut Table, gap: &Gap, traced: usize) {
    let mut cells = vec![bold("  all, mean of the middle half")];
    cells.extend([gap.first_ns, gap.second_ns].map(|ns| bold(nanos(ns))));
    cells.extend((2..traced).map(|_| Cell::new("")));
    cells.push(bold(Signed(gap.ns())));
    if gap.rows.iter().any(|row| row.share.is_some()) {
        cells.push(bold(Percent(1.0)));
    }
    table.add_row(cells);
}

/// A difference, ns, with its sign.
struct Signed(f64);

impl std::fmt::Display for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0.0 { '-' } else { '+' };
        f.pad(&format!("{sign}{}", nanos(self.0.abs())))
    }
}

/// A bar for a part of a whole; none for what makes the whole smaller.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] =
        ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 160")]
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    format!("{}{}", "\u{2588}".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// What tracing itself has cost, and how many messages could be followed.
fn write_cost(size: &AtSize, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let costs: Vec<String> = size
        .runs
        .iter()
        .filter_map(|run| {
            let p50 = |measured: &Option<Measured>| measured.as_ref()?.round_trip.quantile(0.5);
            let (untraced, traced) = (p50(&run.untraced)?, p50(&run.traced)?);
            Some(format!(
                "{} {}, {} ({:.2}x)",
                run.link,
                Human(untraced),
                Human(traced),
                run.cost_of_tracing()?
            ))
        })
        .collect();
    if !costs.is_empty() {
        let what = "Median round trip, untraced and while traced:";
        write_prose(&format!("{what} {}.", costs.join(", ")), style, out)?;
    }
    let followed: Vec<String> = size
        .runs
        .iter()
        .filter_map(|run| {
            let messages = run.messages.as_ref()?;
            Some(format!("{} {} of {}", run.link, messages.followed(), messages.sent()))
        })
        .collect();
    if !followed.is_empty() {
        writeln!(out, "Messages followed: {}.", followed.join(", "))?;
    }
    Ok(())
}

/// Breaks lines between words.
fn write_prose(text: &str, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    const UNBROKEN: &str = "\u{a0}";
    let width = usize::from(style.width.unwrap_or(PROSE).min(PROSE));
    // A number and its unit stay together.
    let mut text = text.to_owned();
    for unit in ["%", "ns", "µs", "ms", "s"] {
        text = text.replace(&format!(" {unit}"), &format!("{UNBROKEN}{unit}"));
    }
    for line in textwrap::wrap(&text, width) {
        writeln!(out, "{}", line.replace(UNBROKEN, " "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::samples;

    fn text(comparison: &Comparison, only_conclusions: bool, color: bool) -> String {
        let mut out = Vec::new();
        let style = Style { color, ..Style::default() };
        write_comparison(comparison, only_conclusions, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_comparison_is_tables_and_prose() {
        insta::assert_snapshot!(text(&samples::comparison(), false, false));
    }

    #[test]
    fn other_links_have_columns_of_their_own() {
        insta::assert_snapshot!(text(&samples::with_others(), false, false));
    }

    #[test]
    fn a_quiet_one_is_only_prose() {
        insta::assert_snapshot!(text(&samples::comparison(), true, false));
    }

    #[test]
    fn a_users_own_has_only_what_was_traced() {
        let mut comparison = samples::comparison();
        comparison.cpus = Cpus::default();
        for size in &mut comparison.sizes {
            size.bytes = None;
            for run in &mut size.runs {
                (run.untraced, run.stream, run.traced) = (None, None, None);
            }
        }
        insta::assert_snapshot!(text(&comparison, false, false));
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        assert!(!text(&samples::comparison(), false, false).contains('\u{1b}'));
        assert!(text(&samples::comparison(), false, true).contains('\u{1b}'));
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!(bar(-0.5), "");
        assert_eq!(bar(1.0).chars().count(), BAR);
        assert_eq!(bar(7.0).chars().count(), BAR);
        assert_eq!(bar(0.5 + 1.0 / 160.0), format!("{}\u{258f}", "\u{2588}".repeat(10)));
    }
}
