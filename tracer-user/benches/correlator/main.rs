//! How fast userspace turns records into paths, and into what is shown of them.
//!
//! * `cargo bench --bench correlator` measures with divan: events per second, and what is allocated.
//! * `cargo bench --bench correlator -- --json` prints a line of JSON for each figure, for programs: the best of seven runs, of three of ten million events.
//!   Records come in batches, as the ring buffer gives them, so that memory is that of a
//!   live run. `output=json stream=tcp flows=1 events=1000000` (each may be left out, or given several times) choose.
//! * `cargo test --bench correlator` looks at small streams: whether all paths are whole, and that nothing is
//!   allocated for an event.
//!
//! Events are hop records, as in the trust line. Outputs: `correlate` makes paths and drops them; `summary`, `json` and
//! `table` do what `pathtrace report` does, to nowhere. For callgrind: one small figure of `--json`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

mod allocations;
mod streams;

use std::{convert::Infallible, io, time::Duration};

use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use nix::time::{ClockId, clock_gettime};
use pathtrace::{
    correlate::{Correlator, Limits},
    decode::decode,
    model::{Coverage, Path},
    render::{self, Format, PathWriter, Style, SummaryOnly},
    session::{Output, Session, Shown},
};

use xtask::bench::lines::{self, Line};

use self::{
    allocations::Counting,
    streams::{Batch, Kind, Stream},
};

#[global_allocator]
static ALLOCATOR: AllocProfiler<Counting> = AllocProfiler::new(Counting);

/// Hops between two looks at what has ended.
const BATCH: u64 = 4096;

/// What becomes of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Correlate,
    Summary,
    Json,
    Table,
}

impl Target {
    const ALL: [Self; 4] = [Self::Correlate, Self::Summary, Self::Json, Self::Table];

    fn name(self) -> &'static str {
        match self {
            Self::Correlate => "correlate",
            Self::Summary => "summary",
            Self::Json => "json",
            Self::Table => "table",
        }
    }

    fn writer(self, coverage: &Coverage) -> Box<dyn PathWriter> {
        let style = Style { realtime_offset_ns: 1_700_000_000_000_000_000, ..Style::default() };
        match self {
            Self::Correlate | Self::Summary => {
                Box::new(SummaryOnly(render::writer(Format::Table, style, coverage)))
            }
            Self::Json => render::writer(Format::Json, style, coverage),
            Self::Table => render::writer(Format::Table, style, coverage),
        }
    }
}

/// What takes the records.
enum Consumer {
    Correlator(Box<Correlator>, u64),
    Session(Box<Session>),
}

impl Consumer {
    fn new(target: Target, kind: Kind) -> Self {
        let coverage = kind.coverage();
        if target == Target::Correlate {
            return Self::Correlator(Box::new(Correlator::new(coverage, Limits::default())), 0);
        }
        let output = Output { writer: target.writer(&coverage), to: Box::new(io::sink()), is_stdout: false };
        Self::Session(Box::new(Session::new(coverage, output, Shown::default())))
    }

    fn take(&mut self, batch: &Batch) {
        match self {
            Self::Correlator(correlator, paths) => {
                for record in batch.records() {
                    correlator.record(&decode(record).unwrap());
                }
                let count = |_: &Path| -> Result<(), Infallible> {
                    *paths += 1;
                    Ok(())
                };
                let Ok(()) = correlator.show(count);
            }
            Self::Session(session) => {
                for record in batch.records() {
                    session.record(record);
                }
                session.show().unwrap();
            }
        }
    }

    /// The end of the run; says how many paths there were.
    fn finish(self) -> u64 {
        match self {
            Self::Correlator(mut correlator, paths) => {
                correlator.finish();
                paths + correlator.drain().count() as u64
            }
            Self::Session(session) => session.finish(None).unwrap().paths(),
        }
    }
}

/// Batches of a whole stream.
fn batches(kind: Kind, flows: usize, events: u64) -> Vec<Batch> {
    let mut stream = Stream::new(kind, flows);
    let fill = |_| {
        let mut batch = Batch::default();
        stream.fill(&mut batch, BATCH);
        batch
    };
    (0..events.div_ceil(BATCH)).map(fill).collect()
}

#[divan::bench(
    args = [
        (Kind::Tcp, 1), (Kind::Tcp, 1000), (Kind::TcpFentry, 64), (Kind::Unix, 1), (Kind::Unix, 1000), (Kind::Mix, 64),
    ],
    consts = [0, 1, 2, 3],
    sample_count = 5,
    sample_size = 1,
)]
fn events<const TARGET: usize>(bencher: Bencher<'_, '_>, (kind, flows): (Kind, usize)) {
    let target = Target::ALL[TARGET];
    let batches = batches(kind, flows, 1_000_000);
    bencher.counter(ItemsCount::new(batches.len() as u64 * BATCH)).bench_local(|| {
        let mut consumer = Consumer::new(target, kind);
        for batch in &batches {
            consumer.take(batch);
        }
        consumer.finish()
    });
}

/// One run.
struct Figure {
    target: Target,
    kind: Kind,
    flows: usize,
    events: u64,
    paths: u64,
    spent: Duration,
    allocations: u64,
    most_bytes: u64,
}

impl Figure {
    fn measure(target: Target, kind: Kind, flows: usize, events: u64) -> Self {
        let mut stream = Stream::new(kind, flows);
        let mut batch = Batch::default();
        let (mut spent, mut allocations, mut most_bytes) = (Duration::ZERO, 0, 0);
        // What the stream itself holds does not count.
        let before = allocations::held();
        let mut consumer = Consumer::new(target, kind);
        let mut own = allocations::held() - before;
        for _ in 0..events.div_ceil(BATCH) {
            batch.clear();
            stream.fill(&mut batch, BATCH);
            let (held, calls) = (allocations::held(), allocations::calls());
            allocations::forget_most();
            let start = cpu_time();
            consumer.take(&batch);
            spent += since(start);
            allocations += allocations::calls() - calls;
            most_bytes = most_bytes.max(own + allocations::most() - held);
            own = own + allocations::held() - held;
        }
        let start = cpu_time();
        let paths = consumer.finish();
        spent += since(start);
        Self { target, kind, flows, events, paths, spent, allocations, most_bytes }
    }

    fn to_json(&self) -> String {
        // Batches are whole.
        let events = (self.events.div_ceil(BATCH) * BATCH) as f64;
        let line = Line::Correlator(lines::Correlator {
            output: self.target.name().into(),
            stream: self.kind.name().into(),
            flows: self.flows as u64,
            events: self.events,
            paths: self.paths,
            events_per_second: (events / self.spent.as_secs_f64()).round(),
            allocations_per_event: self.allocations as f64 / events,
            peak_bytes: self.most_bytes,
        });
        serde_json::to_string(&line).unwrap()
    }
}

/// The time that this thread had a CPU: what else the machine does is no part of a figure.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn since(start: Duration) -> Duration {
    cpu_time().saturating_sub(start)
}

/// The figures that are chosen.
fn figures(arguments: &[String]) -> Vec<(Target, Kind, usize, u64)> {
    let chosen = |key: &str, value: &str| {
        let asked = arguments.iter().filter_map(|argument| argument.split_once('='));
        let mut asked = asked.filter(|(name, _)| *name == key).peekable();
        asked.peek().is_none() || asked.any(|(_, asked)| asked == value)
    };
    let mut figures = Vec::new();
    for kind in Kind::ALL {
        for target in Target::ALL {
            for flows in [1, 64, 1000, 10_000] {
                for events in [100_000, 1_000_000, 10_000_000] {
                    figures.push((target, kind, flows, events));
                }
            }
        }
    }
    figures.retain(|(target, kind, flows, events)| {
        chosen("output", target.name())
            && chosen("stream", kind.name())
            && chosen("flows", &flows.to_string())
            && chosen("events", &events.to_string())
    });
    figures
}

/// Small streams, looked at: `cargo test`.
fn test() {
    for kind in Kind::ALL {
        for flows in [1, 64] {
            let mut correlator = Correlator::new(kind.coverage(), Limits::default());
            for batch in batches(kind, flows, 20_000) {
                batch.records().for_each(|record| correlator.record(&decode(record).unwrap()));
                for path in correlator.drain() {
                    assert_eq!(path.incomplete, None, "{kind:?} {flows}: {path:#?}");
                }
            }
            assert_eq!(correlator.malformed(), 0, "{kind:?} {flows}");
        }
        for target in Target::ALL {
            let figure = Figure::measure(target, kind, 64, 20_000);
            assert!(figure.paths > 1000, "{}", figure.to_json());
        }
        // Connections that come are remembered, and queues grow to their length; what passes is not.
        if !matches!(kind, Kind::TcpChurn | Kind::TcpSlow | Kind::UnixSlow) {
            let allocated = |events| Figure::measure(Target::Json, kind, 64, events).allocations;
            let (less, more) = (allocated(20_000), allocated(60_000));
            assert!(more < less + 200, "{kind:?}: 40 000 events more allocate {more} times, not {less}");
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--json") {
        for (target, kind, flows, events) in figures(&arguments) {
            // Whoever else uses the machine makes a run slower, and none faster; a long one has quiet moments by itself.
            let runs = if events > 1_000_000 { 3 } else { 7 };
            let figures = (0..runs).map(|_| Figure::measure(target, kind, flows, events));
            if let Some(best) = figures.min_by_key(|figure| figure.spent) {
                println!("{}", best.to_json());
            }
        }
    } else if has("--bench") {
        divan::main();
    } else {
        test();
    }
}
