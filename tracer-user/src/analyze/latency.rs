//! Latency histograms: one for each step of each class of traffic, and one for the whole way.

use hdrhistogram::Histogram;
use tracer_common::probes::{PROBES, Point};

use super::Class;
use crate::model::{Incomplete, Part, Path};

/// Longer times count as this long: 60 s.
const LONGEST_NS: u64 = 60_000_000_000;
/// Two digits keep every bucket within 1 % and a histogram at 32 KiB.
const SIGNIFICANT_DIGITS: u8 = 2;

/// How long the steps of many paths took. A step ends at a hop and begins at the hop before it. Memory is bounded by
/// the number of probe points, not of paths.
#[derive(Clone, Debug, Default)]
pub struct LatencyTable {
    classes: [ClassTable; Class::ALL.len()],
}

#[derive(Clone, Debug, Default)]
struct ClassTable {
    /// By `Point as usize`; empty until the class is seen.
    steps: Vec<Cell>,
    total: Cell,
    /// By `Part as usize`.
    parts: [Cell; Part::ALL.len()],
    /// All parts together, ns.
    shared_ns: u64,
    /// All steps together, ns: what shares are of.
    spent_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    /// How often the hop was passed; first hops are, though no step ends there.
    passed: u64,
    spent_ns: u64,
    /// Exact; the histogram rounds.
    max_ns: u64,
    /// Made at the first step. `None` after that never happens: the bounds are constant and valid.
    histogram: Option<Histogram<u64>>,
}

/// What a line of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The step that ends at this hop.
    Step(Point),
    /// The whole way of complete paths.
    Total,
    /// A part of the way of those paths that were followed to their reader.
    Share(Part),
}

impl Counted {
    /// The hop's name, `total`, or the part's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Step(point) => point.row().hop,
            Self::Total => "total",
            Self::Share(part) => part.name(),
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The traffic that is counted.
    pub class: Class,
    /// What of it.
    pub what: Counted,
    /// How often the hop was passed; otherwise, how many paths it is about.
    pub count: u64,
    /// The times; `None` if the hop was always the first one, which no step leads to.
    pub times: Option<Quantiles>,
    /// Of a step: part of all time spent in steps of this class, 0 to 1. Of a part: of all time spent in the three.
    pub share: Option<f64>,
}

/// Times in ns. Quantiles are within 1 %, the maximum is exact; no time is longer than 60 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half took no longer.
    pub p50_ns: u64,
    /// Nine of ten took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl LatencyTable {
    /// Counts a path. The steps of incomplete paths count, their total does not; of one that lacks events nothing does.
    pub fn add(&mut self, path: &Path) {
        // Of its steps nobody knows whether they are any.
        if path.incomplete == Some(Incomplete::EventsLost) {
            return;
        }
        let table = &mut self.classes[Class::of(path) as usize];
        if table.steps.is_empty() {
            table.steps.resize(PROBES.len(), Cell::default());
        }
        for (index, (hop, since)) in path.steps().enumerate() {
            let cell = &mut table.steps[hop.point as usize];
            cell.passed += 1;
            if index > 0 {
                table.spent_ns = table.spent_ns.saturating_add(cell.record(since));
            }
        }
        if path.incomplete.is_none() && !path.hops.is_empty() {
            table.total.passed += 1;
            table.total.record(path.total_ns());
            table.add_shares(path);
        }
    }

    /// All lines that count anything: by class, in the order of the path, then the total and its parts.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (class, table) in Class::ALL.into_iter().zip(&self.classes) {
            let steps = Point::ALL.iter().zip(&table.steps);
            let steps = steps.map(|(point, cell)| (Counted::Step(*point), cell, table.spent_ns));
            let parts = Part::ALL.iter().zip(&table.parts);
            let parts = parts.map(|(part, cell)| (Counted::Share(*part), cell, table.shared_ns));
            let cells = steps.chain([(Counted::Total, &table.total, 0)]).chain(parts);
            rows.extend(cells.filter(|(_, cell, _)| cell.passed > 0).map(|(what, cell, all_ns)| Row {
                class,
                what,
                count: cell.passed,
                times: cell.quantiles(),
                share: cell.share_of(all_ns),
            }));
        }
        rows
    }
}

impl ClassTable {
    /// Counts whose time it was, if that can be told.
    fn add_shares(&mut self, path: &Path) {
        let Some(shares) = path.shares() else { return };
        for (part, cell) in Part::ALL.into_iter().zip(&mut self.parts) {
            cell.passed += 1;
            self.shared_ns = self.shared_ns.saturating_add(cell.record(shares.of_part(part)));
        }
    }
}

impl Cell {
    /// Counts a time; says as how long it counted.
    fn record(&mut self, ns: u64) -> u64 {
        let ns = ns.min(LONGEST_NS);
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns);
        }
        self.max_ns = self.max_ns.max(ns);
        self.spent_ns = self.spent_ns.saturating_add(ns);
        ns
    }

    fn quantiles(&self) -> Option<Quantiles> {
        let histogram = self.histogram.as_ref()?;
        let at = |quantile| histogram.value_at_quantile(quantile).min(self.max_ns);
        Some(Quantiles { p50_ns: at(0.5), p90_ns: at(0.9), p99_ns: at(0.99), max_ns: self.max_ns })
    }

    fn share_of(&self, all_ns: u64) -> Option<f64> {
        (self.histogram.is_some() && all_ns > 0).then(|| self.spent_ns as f64 / all_ns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::samples;

    fn row(table: &LatencyTable, what: Counted) -> Row {
        table.rows().into_iter().find(|row| row.what == what).unwrap()
    }

    #[test]
    fn nothing_seen_gives_no_rows() {
        assert_eq!(LatencyTable::default().rows(), []);
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut table = LatencyTable::default();
        for ns in 1..=1000 {
            table.add(&samples::two_hops(ns * 100));
        }
        let times = row(&table, Counted::Step(Point::LoopbackXmit)).times.unwrap();
        for (got, exact) in [(times.p50_ns, 50_000), (times.p90_ns, 90_000), (times.p99_ns, 99_000)] {
            assert!(got.abs_diff(exact) <= exact / 100, "{got} is not {exact}");
        }
        assert_eq!(times.max_ns, 100_000);
        assert_eq!(row(&table, Counted::Total).times.unwrap().max_ns, 100_000);
    }

    #[test]
    fn first_hops_are_counted_but_end_no_step() {
        let mut table = LatencyTable::default();
        table.add(&samples::two_hops(700));
        let first = row(&table, Counted::Step(Point::DevQueueXmit));
        assert_eq!((first.count, first.times, first.share), (1, None, None));
        assert_eq!(row(&table, Counted::Step(Point::LoopbackXmit)).share, Some(1.0));
    }

    #[test]
    fn a_path_that_lacks_events_counts_nothing() {
        let mut table = LatencyTable::default();
        table.add(&Path { incomplete: Some(Incomplete::EventsLost), ..samples::two_hops(700) });
        assert_eq!(table.rows(), []);
    }

    #[test]
    fn incomplete_paths_have_steps_but_no_total() {
        let mut table = LatencyTable::default();
        table.add(&samples::incomplete());
        assert!(table.rows().iter().all(|row| matches!(row.what, Counted::Step(_))));
        table.add(&samples::tcp_data());
        assert_eq!(row(&table, Counted::Total).count, 1);
    }

    #[test]
    fn the_parts_of_the_way_to_a_reader_add_up() {
        let mut table = LatencyTable::default();
        table.add(&samples::tcp_woken());
        table.add(&samples::syn());
        let parts = Part::ALL.map(|part| row(&table, Counted::Share(part)));
        assert!(parts.iter().all(|part| part.count == 1), "{parts:?}");
        let spent: u64 = parts.iter().filter_map(|part| part.times).map(|times| times.max_ns).sum();
        assert_eq!(spent, samples::tcp_woken().total_ns());
        let shares: f64 = parts.iter().filter_map(|part| part.share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{parts:?}");
    }

    #[test]
    fn times_beyond_a_minute_count_as_a_minute() {
        let mut table = LatencyTable::default();
        table.add(&samples::two_hops(u64::MAX));
        table.add(&samples::two_hops(LONGEST_NS + 1));
        let times = row(&table, Counted::Step(Point::LoopbackXmit)).times.unwrap();
        assert_eq!((times.p50_ns, times.max_ns), (LONGEST_NS, LONGEST_NS));
    }

    #[test]
    fn a_path_without_hops_counts_nothing() {
        let mut table = LatencyTable::default();
        table.add(&samples::no_hops());
        assert_eq!(table.rows(), []);
    }
}
