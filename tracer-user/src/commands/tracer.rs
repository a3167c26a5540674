//! Traces our own connections while we make them.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cli::EngineArgs,
    collect::{Collector, Plan},
    commands::{
        Failure,
        names_of_drops::NamesOfDrops,
        prepare::check_privileges,
        trace::{Said, progress_bar, say_what_is_seen},
    },
    filter::Filter,
    kernel::{btf::Btf, clock::monotonic_now_ns, drop_reasons::DropReasons, features::Features},
    model::{Coverage, Path, Trust},
    render::{PathWriter, Summary},
    session::{Output, Session, Shown},
    store::Footer,
};

/// Records taken at once.
const BATCH: usize = 16 * 1024;

/// How long packets may take to arrive when all was said. They take microseconds, on emulated machines milliseconds.
const ARRIVAL: Duration = Duration::from_secs(1);

/// Between two looks at packets on their way.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A trace that is under way.
pub(super) struct Tracer {
    collector: Collector,
    session: Session,
    names: NamesOfDrops,
    paths: Rc<RefCell<Vec<Path>>>,
    coverage: Coverage,
    started_ns: u64,
}

/// What was traced.
#[derive(Default)]
pub(super) struct Traced {
    pub(super) paths: Vec<Path>,
    pub(super) coverage: Coverage,
    pub(super) trust: Trust,
}

/// Keeps the paths.
struct Keeper(Rc<RefCell<Vec<Path>>>);

impl PathWriter for Keeper {
    fn path(&mut self, path: &Path, _: &mut dyn Write) -> io::Result<()> {
        self.0.borrow_mut().push(path.clone());
        Ok(())
    }

    fn summary(&mut self, _: &Summary<'_>, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

impl Tracer {
    /// Attaches and starts.
    pub(super) fn attach(args: &EngineArgs, filter: Filter) -> Result<Self, Failure> {
        let features = Features::running()?;
        check_privileges(&features)?;
        let btf = match &args.btf {
            Some(file) => Btf::from_file(file)?,
            None => Btf::running()?,
        };
        let plan = Plan {
            filter,
            backends: args.backend.backends(),
            buffer_bytes: args.buffer_size,
            debug_log: args.verbose >= 2,
            // What is measured here are others.
            measures_cost: false,
            audit: false,
            sample: 0,
            kernel: features.version(),
        };
        let begun = Instant::now();
        let progress = progress_bar(args.quiet);
        let mut collector = Collector::attach(&plan, &btf, &mut |done, all| {
            progress.set_length(all as u64);
            progress.set_position(done as u64);
        })?;
        progress.finish_and_clear();
        let names = NamesOfDrops::new(DropReasons::of(&btf));
        let coverage = collector.coverage().clone();
        let said = Said { verbose: args.verbose > 0, quiet: args.quiet };
        say_what_is_seen(&features, &coverage, begun.elapsed(), said)?;

        let paths = Rc::new(RefCell::new(Vec::new()));
        let output = Output {
            writer: Box::new(Keeper(Rc::clone(&paths))),
            to: Box::new(io::sink()),
            is_stdout: false,
        };
        let session = Session::new(coverage.clone(), output, Shown::default());
        let started_ns = collector.start()?;
        Ok(Self { collector, session, names, paths, coverage, started_ns })
    }

    /// Takes the records that are there.
    pub(super) fn pump(&mut self) -> Result<(), Failure> {
        let Self { collector, session, names, .. } = self;
        while collector.drain(BATCH, |record| {
            names.before(record, |name| session.record(name));
            session.record(record);
        }) == BATCH
        {}
        session.show().map_err(Failure::Output)
    }

    /// Lets packets on their way arrive. Returns the paths that have ended since the last time.
    pub(super) fn settle(&mut self) -> Result<Vec<Path>, Failure> {
        let until = Instant::now() + ARRIVAL;
        self.pump()?;
        while Instant::now() < until
            && (self.session.has_packets_under_way(0) || self.session.unfinished() > 0)
        {
            thread::sleep(LOOK_AGAIN);
            self.pump()?;
        }
        Ok(self.paths.take())
    }

    /// Lets packets on their way arrive, and detaches. Of the paths, those are returned that have not been yet.
    pub(super) fn end(mut self) -> Result<Traced, Failure> {
        let stopped_ns = monotonic_now_ns();
        self.session.close(stopped_ns);
        let mut paths = self.settle()?;
        self.collector.stop()?;
        self.pump()?;
        let footer = Footer {
            losses: self.collector.losses()?,
            duration_ns: stopped_ns - self.started_ns,
            ..Footer::default()
        };
        drop(self.collector);
        let trust = self.session.finish(Some(footer)).map_err(Failure::Output)?;
        paths.append(&mut self.paths.take());
        Ok(Traced { paths, coverage: self.coverage, trust })
    }
}
