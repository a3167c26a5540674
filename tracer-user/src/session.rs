//! Joins records, correlation and output for every command, whether the records come from the kernel or from a file.

use std::io::{self, Write};

use crate::{
    analyze::LatencyTable,
    correlate::{Correlator, GROUP, Limits},
    decode::{Record, decode},
    filter::Selection,
    model::{Coverage, Trust},
    render::{PathWriter, Summary},
    store::Footer,
};

/// Where paths go.
pub struct Output {
    /// Their form.
    pub writer: Box<dyn PathWriter>,
    /// Where the data goes.
    pub to: Box<dyn Write>,
    /// Whether that is standard output.
    pub is_stdout: bool,
}

/// Which paths are shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// At most so many.
    pub count: Option<u64>,
    /// Only among the first so many.
    pub first: Option<u64>,
    /// Only those that are wanted, where the kernel has not chosen them.
    pub selection: Selection,
    /// Only those that take at least so long, ns, and incomplete ones.
    pub min_ns: u64,
}

/// A run, from its first record to its summary.
pub struct Session {
    correlator: Correlator,
    /// Records that are not with the correlator yet: it is given many at once.
    group: Vec<Record>,
    /// What went wrong when paths were shown on the way.
    failed: io::Result<()>,
    coverage: Coverage,
    latencies: LatencyTable,
    trust: Trust,
    output: Output,
    shown: Shown,
}

impl Session {
    /// A run that sees `coverage` and shows these paths.
    pub fn new(coverage: Coverage, output: Output, shown: Shown) -> Self {
        Self {
            correlator: Correlator::new(coverage.clone(), Limits::default()),
            group: Vec::with_capacity(GROUP),
            failed: Ok(()),
            coverage,
            latencies: LatencyTable::default(),
            trust: Trust::default(),
            output,
            shown,
        }
    }

    /// Whether paths go to standard output.
    pub fn data_is_stdout(&self) -> bool {
        self.output.is_stdout
    }

    /// Takes the bytes of one record.
    pub fn record(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok(record) => {
                self.trust.events += u64::from(record.is_hop());
                self.group.push(record);
                if self.group.len() == GROUP {
                    self.correlate();
                    // While they are in the cache.
                    if self.failed.is_ok() {
                        self.failed = self.write();
                    }
                }
            }
            Err(_) => self.trust.malformed += 1,
        }
    }

    /// Gives the correlator all records that have come.
    fn correlate(&mut self) {
        self.correlator.records(&self.group);
        self.group.clear();
    }

    /// Shows the paths that have ended.
    pub fn show(&mut self) -> io::Result<()> {
        self.correlate();
        std::mem::replace(&mut self.failed, Ok(()))?;
        self.write()?;
        self.output.to.flush()
    }

    /// Writes the paths that have ended.
    fn write(&mut self) -> io::Result<()> {
        let Self { correlator, latencies, trust, output, shown, .. } = self;
        correlator.show(|path| {
            if is_done(trust, shown) {
                trust.cut_off += 1;
                return Ok(());
            }
            if !shown.selection.selects(path) {
                trust.filtered_out += 1;
                return Ok(());
            }
            // How long an incomplete one takes is not known.
            if path.incomplete.is_none() && path.total_ns() < shown.min_ns {
                trust.too_short += 1;
                return Ok(());
            }
            trust.count(path);
            latencies.add(path);
            output.writer.path(path, &mut output.to)
        })
    }

    /// Whether as many paths were shown as were asked for.
    pub fn is_done(&self) -> bool {
        is_done(&self.trust, &self.shown)
    }

    /// Ends what has waited too long. `now_ns`: `CLOCK_MONOTONIC`.
    pub fn advance(&mut self, now_ns: u64) {
        self.correlate();
        self.correlator.advance(now_ns);
    }

    /// From now on no path begins. `time_ns`: `CLOCK_MONOTONIC`.
    pub fn close(&mut self, time_ns: u64) {
        self.correlate();
        self.correlator.close(time_ns);
    }

    /// Whether packets were sent, were seen at `since_ns` (`CLOCK_MONOTONIC`) or later, and have not been received.
    pub fn has_packets_under_way(&self, since_ns: u64) -> bool {
        self.correlator.has_packets_under_way(since_ns)
    }

    /// Packets that have not ended.
    pub fn unfinished(&self) -> usize {
        self.correlator.unfinished()
    }

    /// Ends all paths, shows them and the summary, and returns the accounts. Without a footer losses and duration are
    /// unknown.
    pub fn finish(mut self, footer: Option<Footer>) -> io::Result<Trust> {
        self.correlate();
        if self.is_done() {
            // The user asked for no more: what is still on its way is neither shown nor held against the run.
            self.trust.cut_off += self.correlator.unfinished() as u64;
        } else {
            self.correlator.finish();
        }
        self.show()?;
        self.trust.losses = footer.map(|footer| footer.losses);
        self.trust.malformed += self.correlator.malformed();
        self.trust.duration_ns = footer.map(|footer| footer.duration_ns);
        self.trust.cost = footer.map(|footer| footer.cost).unwrap_or_default();
        self.trust.audit = footer.and_then(|footer| footer.audit);
        self.trust.sample = footer.and_then(|footer| footer.sample);
        let summary = Summary { table: &self.latencies, trust: &self.trust, coverage: &self.coverage };
        self.output.writer.summary(&summary, &mut self.output.to)?;
        self.output.to.flush()?;
        Ok(self.trust)
    }
}

fn is_done(trust: &Trust, shown: &Shown) -> bool {
    let reached = |paths: u64, limit: Option<u64>| limit.is_some_and(|limit| paths >= limit);
    reached(trust.paths(), shown.count) || reached(trust.looked_at(), shown.first)
}
