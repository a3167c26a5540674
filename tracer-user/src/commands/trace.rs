//! The live run: attach, start, drain until something says stop, let packets on their way arrive, detach, sum up.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::{
    Failure, Outcome,
    names_of_drops::NamesOfDrops,
    output::reader_is_gone,
    recording::{Blank, Recording},
    say,
    stop::Stop,
    traced::Traced,
    wanted::warn_of_unbound,
};
use crate::{
    cli::TraceArgs,
    collect::{Collector, Plan},
    filter::Filter,
    kernel::{
        btf::Btf,
        clock::{monotonic_now_ns, realtime_offset_ns},
        drop_reasons::DropReasons,
        features::{Features, Lockdown},
    },
    model::{Coverage, Trust},
    render::{Start, Style, write_banner},
    session::{Output, Session, Shown},
    store::Footer,
};

/// Records taken before paths are shown and signals are looked at.
const BATCH: usize = 16 * 1024;
/// How long the reader sleeps after it found something.
const BUSY_SLEEP: Duration = Duration::from_millis(1);
/// How long it sleeps at most: at a million records a second the default buffer holds seven times as much.
const IDLE_SLEEP: Duration = Duration::from_millis(16);
/// How often waiting paths are looked at, and whether anybody reads what is shown.
const ADVANCE_EVERY: Duration = Duration::from_millis(50);
/// When a traced command has ended, others close their connections to it: the trace ends when nothing has come for this long,
const QUIET: Duration = Duration::from_millis(20);
/// or when this much time has passed.
const AFTERMATH: Duration = Duration::from_millis(100);
/// How long data that has arrived when the run is stopped may take to be read, ns.
const GRACE_NS: u64 = 100_000_000;
/// How long packets that are on their way when the run is stopped may take to arrive. On real machines they take
/// microseconds, on emulated ones a softirq may wait for long. One whose next record was lost never arrives, so one that
/// has not been seen for as long is not waited for, and the others no longer than that. ns.
const ARRIVAL_NS: u64 = 150_000_000;

/// Why nothing can be attached where the kernel may not even be read.
const LOCKED_DOWN: &str = "This kernel is locked down (confidentiality, see /sys/kernel/security/lockdown), which \
    forbids reading it, to root as well. Lockdown ends only with a boot without lockdown=confidentiality.\n";

/// Traces what `filter` lets through as `args` say (but for their filters), which were prepared for, and shows paths that take at least
/// `min_ns`. `open` opens the output when it is known what can be seen; `blank` gets what the kernel sent.
pub(super) fn trace(
    args: &TraceArgs,
    filter: Filter,
    min_ns: u64,
    open: impl FnOnce(&Coverage, i64) -> Result<Output, Failure>,
    blank: Option<Blank>,
) -> Result<Outcome, Failure> {
    if !args.quiet {
        warn_of_unbound(filter.unix_names());
    }
    let features = Features::running()?;
    let btf = match &args.btf {
        Some(file) => Btf::from_file(file)?,
        None => Btf::running()?,
    };
    let plan = Plan {
        filter,
        backends: args.backend.backends(),
        buffer_bytes: args.buffer_size,
        debug_log: args.verbose >= 2,
        measures_cost: true,
        audit: args.audit,
        sample: args.sample.unwrap_or_default(),
        kernel: features.version(),
    };
    let begun = Instant::now();
    let progress = progress_bar(args.quiet);
    let collector = Collector::attach(&plan, &btf, &mut |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let drop_reasons = DropReasons::of(&btf);
    drop(btf);

    let coverage = collector.coverage().clone();
    let said = Said { verbose: args.verbose > 0, quiet: args.quiet };
    say_what_is_seen(&features, &coverage, begun.elapsed(), said)?;
    let offset = realtime_offset_ns();
    let output = open(&coverage, offset)?;
    let recording =
        blank.map(|blank| blank.begin(&features.release, &coverage, offset, args.count)).transpose()?;
    let session = Session::new(coverage, output, Shown { count: args.count, min_ns, ..Shown::default() });

    // One thread is enough: draining never waits for anything but time, and it is what everything else waits for.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "start the event loop", source })?
        .block_on(run(args, collector, session, recording, NamesOfDrops::new(drop_reasons)))
}

/// Starts tracing and the command, and waits for both to end.
async fn run(
    args: &TraceArgs,
    mut collector: Collector,
    session: Session,
    recording: Option<Recording>,
    names: NamesOfDrops,
) -> Result<Outcome, Failure> {
    let mut stop = Stop::install()?;
    let started_ns = collector.start()?;
    let mut command = Traced::start(&args.exec, session.data_is_stdout())?;
    // Whatever ends tracing, the command is waited for.
    let sample = args.sample;
    let run = Run { collector, session, recording, names, started_ns, sample };
    // Boxed, as it is large.
    let traced = Box::pin(run.run(args, &mut stop, &mut command)).await;
    let status = command.finish(&mut stop, args.quiet).await;
    match (traced, status) {
        // Whoever read our output went away, which is no business of the command's.
        (Err(failure), Ok(Some(status))) if failure.is_broken_pipe() => Ok(Outcome::Command(status)),
        (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
        (Ok(_), Ok(Some(status))) if status != 0 => Ok(Outcome::Command(status)),
        (Ok(trust), Ok(_)) if args.strict && !trust.is_perfect() => Ok(Outcome::Negative),
        (Ok(_), Ok(_)) => Ok(Outcome::Done),
    }
}

/// A run that has begun. Dropping it detaches and unloads everything.
struct Run {
    collector: Collector,
    session: Session,
    recording: Option<Recording>,
    names: NamesOfDrops,
    started_ns: u64,
    /// One of so many messages is traced.
    sample: Option<u32>,
}

impl Run {
    /// Traces until something says stop, then sums up.
    async fn run(
        mut self,
        args: &TraceArgs,
        stop: &mut Stop,
        command: &mut Traced,
    ) -> Result<Trust, Failure> {
        if let Some(path) = &args.ready_file {
            // What is there by now is no ready file, and may be the output.
            File::create_new(path).map_err(|source| Failure::File {
                what: "create",
                path: path.clone(),
                source,
            })?;
        }
        let deadline = args.duration.map(|duration| Instant::now() + duration);
        let mut pause = BUSY_SLEEP;
        let mut advanced = Instant::now();
        let mut heard = Instant::now();
        let mut command_ended = None;
        loop {
            let now_ns = monotonic_now_ns();
            let count = self.pump()?;
            if count > 0 {
                heard = Instant::now();
            }
            // A command whose end cannot be told has ended; waiting for it says why.
            if command_ended.is_none() && command.has_ended().unwrap_or(true) {
                command_ended = Some(Instant::now());
            }
            let is_over = command_ended.is_some_and(|ended| is_over(ended.elapsed(), heard.elapsed()));
            if self.session.is_done() || stop.asked().is_some() || is_over {
                break;
            }
            if count < BATCH && advanced.elapsed() >= ADVANCE_EVERY {
                self.session.advance(now_ns);
                self.session.show().map_err(Failure::Output)?;
                if self.recording.is_none() && self.session.data_is_stdout() && reader_is_gone() {
                    return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
                }
                advanced = Instant::now();
            }
            pause = match count {
                0 if command_ended.is_some() => BUSY_SLEEP,
                0 => (pause * 2).clamp(BUSY_SLEEP, IDLE_SLEEP),
                BATCH => Duration::ZERO,
                _ => BUSY_SLEEP,
            };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            tokio::select! {
                () = stop.comes() => {}
                () = command.ends(), if command_ended.is_none() => {}
                () = sleep(left.map_or(pause, |left| pause.min(left))) => {}
            }
        }
        command.tell(stop);
        self.end().await
    }

    /// Lets packets on their way arrive, detaches, and sums up.
    async fn end(mut self) -> Result<Trust, Failure> {
        let stopped_ns = monotonic_now_ns();
        self.session.close(stopped_ns);
        if let Some(recording) = &mut self.recording {
            recording.close(stopped_ns)?;
        }
        while self.waits_since(stopped_ns, monotonic_now_ns()) {
            // A reader that is behind has all the more to do afterwards.
            if self.pump()? < BATCH {
                sleep(BUSY_SLEEP).await;
            }
        }
        self.collector.stop()?;
        while self.pump()? > 0 {}
        let footer = Footer {
            losses: self.collector.losses()?,
            duration_ns: stopped_ns - self.started_ns,
            cost: self.collector.cost(),
            audit: self.collector.audit()?,
            sample: self.sample,
        };
        drop(self.collector);
        // First the file: the summary may have no reader any more.
        if let Some(recording) = self.recording {
            recording.finish(&footer)?;
        }
        if footer.audit.is_some_and(|audit| !audit.balances()) {
            say("pathtrace: THE ACCOUNTS DO NOT BALANCE: records are missing that nobody counted as lost\n");
        }
        let lost = footer.losses.lost();
        if lost > 0 {
            say(&format!(
                "pathtrace: {}  a larger --buffer-size, a narrower filter or --sample may lose none\n",
                what_follows_from(lost)
            ));
        }
        self.session.finish(Some(footer)).map_err(Failure::Output)
    }

    /// Whether a run that was stopped at `stopped_ns` waits at `now_ns` for what may still end (`CLOCK_MONOTONIC`).
    fn waits_since(&self, stopped_ns: u64, now_ns: u64) -> bool {
        let session = &self.session;
        let has_unread = || session.unfinished() > 0;
        let has_packets = || session.has_packets_under_way(now_ns.saturating_sub(ARRIVAL_NS));
        !session.is_done() && waits(now_ns.saturating_sub(stopped_ns), has_unread, has_packets)
    }

    /// Takes one batch of records from the kernel and shows the paths that it ended. Returns how many records there were.
    fn pump(&mut self) -> Result<usize, Failure> {
        let Self { collector, session, recording, names, .. } = self;
        let mut written = Ok(());
        let mut take = |record: &[u8]| {
            if let (Some(recording), Ok(())) = (&mut *recording, &written) {
                written = recording.record(record);
            }
            session.record(record);
        };
        let count = collector.drain(BATCH, |record| {
            names.before(record, &mut take);
            take(record);
        });
        written?;
        if count > 0 {
            session.show().map_err(Failure::Output)?;
        }
        Ok(count)
    }
}

/// What events that were lost mean for what is shown.
pub(super) fn what_follows_from(lost: u64) -> String {
    format!(
        "{lost} events were lost: packets of which all were lost are not shown, and paths that were under way at that time are \
         incomplete\n"
    )
}

/// Whether nothing more is to be expected of a command that ended so long ago. `silent_for`: since when nothing has come.
fn is_over(ended_for: Duration, silent_for: Duration) -> bool {
    ended_for >= AFTERMATH || ended_for.min(silent_for) >= QUIET
}

/// Whether a run that was stopped so long ago, ns, waits for what may still end: data that may be read, and packets that
/// are on their way.
fn waits(stopped_for_ns: u64, has_unread: impl FnOnce() -> bool, has_packets: impl FnOnce() -> bool) -> bool {
    stopped_for_ns < GRACE_NS && has_unread() || stopped_for_ns < ARRIVAL_NS && has_packets()
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Also why points are not attached, and what that means.
    pub(super) verbose: bool,
    /// Nothing but errors.
    pub(super) quiet: bool,
}

/// Says on standard error what is attached; an error if nothing is.
pub(super) fn say_what_is_seen(
    features: &Features,
    coverage: &Coverage,
    took: Duration,
    said_as: Said,
) -> Result<(), Failure> {
    let start = Start { kernel: &features.release, coverage, took, verbose: said_as.verbose };
    let style = Style { color: false, ..Style::default() };
    let mut said = Vec::new();
    write_banner(&start, style, &mut said).map_err(Failure::Output)?;
    let mut said = String::from_utf8_lossy(&said).into_owned();
    if !coverage.sees_traffic() {
        if features.lockdown == Some(Lockdown::Confidentiality) {
            said.push_str(LOCKED_DOWN);
        }
        return Err(Failure::NothingAttached(said));
    }
    if !said_as.quiet {
        say(&said);
    }
    Ok(())
}

pub(super) fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("attaching {bar:24} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_not_put_off_for_ever() {
        assert!(!is_over(QUIET / 2, Duration::MAX));
        assert!(!is_over(AFTERMATH / 2, QUIET / 2));
        assert!(is_over(QUIET, QUIET));
        assert!(is_over(AFTERMATH, Duration::ZERO));
        assert!(!waits(0, || false, || false));
        assert!(waits(GRACE_NS - 1, || true, || false));
        assert!(!waits(GRACE_NS, || true, || false));
        assert!(waits(ARRIVAL_NS - 1, || true, || true));
        // Of a stream there are always packets on their way, and those whose records were lost stay so.
        assert!(!waits(ARRIVAL_NS, || true, || true));
    }
}
