//! The live run: attach, start, drain until something says stop, let packets on their way arrive, detach, sum up.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{sleep, sleep_until};

use super::{Failure, Outcome, stop::Stop, traced::Traced};
use crate::{
    cli::TraceArgs,
    collect::{Collector, Plan},
    filter::Filter,
    kernel::{
        btf::Btf,
        clock::{monotonic_now_ns, realtime_offset_ns},
        features::Features,
    },
    model::Coverage,
    render::{Start, Style, write_banner},
    session::{Output, Session},
    store::{Header, Writer},
};

/// Records taken before paths are shown and signals are looked at.
const BATCH: usize = 16 * 1024;
/// How long the reader sleeps after it found something.
const BUSY_SLEEP: Duration = Duration::from_millis(1);
/// How long it sleeps at most: at a million records a second the default buffer holds ten times as much.
const IDLE_SLEEP: Duration = Duration::from_millis(16);
/// How often waiting paths are looked at.
const ADVANCE_EVERY: Duration = Duration::from_millis(50);
/// How long packets that are on their way when the run is stopped may take to arrive.
const GRACE: Duration = Duration::from_millis(100);

/// Traces as `args` say. `open` opens the output when it is known what can be seen; `recording` gets what the kernel
/// sent.
pub(super) fn trace(
    args: &TraceArgs,
    open: impl FnOnce(&Coverage, i64) -> Result<Output, Failure>,
    recording: Option<&Path>,
) -> Result<Outcome, Failure> {
    start_log(args.verbose);
    let filter = Filter::new(&args.ports)?;
    let features = Features::running()?;
    check_privileges(&features)?;
    // A file left by an earlier run must not say that this one is ready.
    if let Some(path) = &args.ready_file
        && let Err(source) = std::fs::remove_file(path)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(Failure::File { what: "replace", path: path.clone(), source });
    }
    let btf = match &args.btf {
        Some(file) => Btf::from_file(file)?,
        None => Btf::running()?,
    };
    let plan = Plan {
        filter,
        backends: args.backend.backends(),
        buffer_bytes: args.buffer_size,
        btf_file: args.btf.clone(),
        debug_log: args.verbose >= 2,
    };
    let begun = Instant::now();
    let progress = progress_bar(args.quiet);
    let collector = Collector::attach(&plan, &btf, &mut |done, all| {
        progress.set_length(all as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    drop(btf);

    let coverage = collector.coverage().clone();
    say_what_is_seen(&features.release, &coverage, begun.elapsed(), args.quiet)?;
    let offset = realtime_offset_ns();
    let output = open(&coverage, offset)?;
    let recording =
        recording.map(|path| start_recording(path, &features.release, &coverage, offset)).transpose()?;
    let session = Session::new(coverage, output, recording, args.count);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "start the event loop", source })?;
    runtime.block_on(run(args, collector, session))
}

async fn run(args: &TraceArgs, mut collector: Collector, mut session: Session) -> Result<Outcome, Failure> {
    let mut stop = Stop::install()?;
    let started_ns = collector.start()?;
    if let Some(path) = &args.ready_file {
        File::create(path).map_err(|source| Failure::File { what: "create", path: path.clone(), source })?;
    }
    let mut command = Traced::start(&args.exec, session.data_is_stdout())?;
    let deadline = args.duration.map(|duration| tokio::time::Instant::now() + duration);

    let mut pause = BUSY_SLEEP;
    let mut advanced = Instant::now();
    loop {
        let now_ns = monotonic_now_ns();
        let count = pump(&mut collector, &mut session)?;
        if session.is_done() {
            break;
        }
        if count < BATCH && advanced.elapsed() >= ADVANCE_EVERY {
            session.advance(now_ns);
            session.show().map_err(Failure::Output)?;
            advanced = Instant::now();
        }
        pause = match count {
            0 => (pause * 2).min(IDLE_SLEEP),
            BATCH => Duration::ZERO,
            _ => BUSY_SLEEP,
        };
        tokio::select! {
            biased;
            () = stop.asked() => break,
            () = command.ended() => break,
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => break,
            () = sleep(pause) => {}
        }
    }
    stop.second_time_kills();

    let stopped_ns = monotonic_now_ns();
    session.close(stopped_ns).map_err(Failure::Output)?;
    let grace = Instant::now();
    while !session.is_done() && session.unfinished() > 0 && grace.elapsed() < GRACE {
        pump(&mut collector, &mut session)?;
        sleep(BUSY_SLEEP).await;
    }
    collector.stop()?;
    while pump(&mut collector, &mut session)? > 0 {}
    let losses = collector.losses()?;
    drop(collector);
    let trust = session.finish(losses, stopped_ns - started_ns).map_err(Failure::Output)?;

    let status = command.finish().await?;
    Ok(match status {
        Some(status) if status != 0 => Outcome::Command(status),
        _ if args.strict && !trust.is_perfect() => Outcome::Negative,
        _ => Outcome::Done,
    })
}

/// Takes one batch of records from the kernel and shows the paths that it ended. Returns how many records there were.
fn pump(collector: &mut Collector, session: &mut Session) -> Result<usize, Failure> {
    let mut written = Ok(());
    let count = collector.drain(BATCH, |record| {
        if let Err(error) = session.record(record) {
            written = Err(error);
        }
    });
    written.and_then(|()| if count > 0 { session.show() } else { Ok(()) }).map_err(Failure::Output)?;
    Ok(count)
}

/// Says on standard error what is attached; an error if nothing is.
fn say_what_is_seen(release: &str, coverage: &Coverage, took: Duration, quiet: bool) -> Result<(), Failure> {
    let start = Start { kernel: release, coverage, took };
    let style = Style { color: false, ..Style::default() };
    let mut said = Vec::new();
    write_banner(&start, style, &mut said).map_err(Failure::Output)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    if coverage.counts().0 == 0 {
        return Err(Failure::NothingAttached(said));
    }
    if !quiet {
        eprint!("{said}");
    }
    Ok(())
}

fn check_privileges(features: &Features) -> Result<(), Failure> {
    let missing = features.privileges.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let program =
        std::env::current_exe().map_or_else(|_| "pathtrace".to_owned(), |path| path.display().to_string());
    let arguments = std::env::args().skip(1);
    let command = std::iter::once(program.clone()).chain(arguments).collect::<Vec<_>>().join(" ");
    Err(Failure::Privilege { missing, command, program })
}

/// `-v` says what was tried, `-vv` all that there is, the kernel programs' own log included.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    // The loader's own log says every relocation; ours, and that of the kernel programs, is what helps.
    let mut builder = env_logger::Builder::new();
    builder.filter_module("pathtrace", level).filter_module("pathtrace_bpf", level).format_timestamp_micros();
    // Fails only if there is a logger already.
    let _ = builder.try_init();
}

fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("attaching {bar:24} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn start_recording(
    path: &Path,
    release: &str,
    coverage: &Coverage,
    realtime_offset_ns: i64,
) -> Result<Writer<Box<dyn io::Write>>, Failure> {
    let failure = |source| Failure::File { what: "write", path: path.to_owned(), source };
    let file = File::create(path).map_err(failure)?;
    let header = Header {
        pathtrace: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: release.to_owned(),
        little_endian: cfg!(target_endian = "little"),
        realtime_offset_ns,
        probe_points: coverage
            .all()
            .map(|(point, state)| (point.row().hop.to_owned(), state.clone()))
            .collect(),
    };
    let to: Box<dyn io::Write> = Box::new(BufWriter::with_capacity(1 << 20, file));
    Writer::new(to, &header).map_err(failure)
}
