//! What tracing costs: pathtrace and its alternatives, attached in turn while the same work is done again and again.
//!
//! It prints raw figures as JSON Lines (`xtask::bench::lines`); `cargo xtask bench` runs it and says what they mean. It needs
//! root, and measures the release build of pathtrace that cargo made together with it.
//!
//! Right before each variant the same work is done untraced, and how fast the machine is at that moment stands with each figure: only
//! ratios of what was measured in one round at the same pace mean something, no time does by itself.

mod attached;
mod bpftrace;
mod crowd;
mod group;
mod ours;
mod pace;
mod places;
mod process;
mod redis;
mod say;
mod script;
mod start;
mod statistics;
mod target;
mod tcpdump;
mod traffic;
mod variant;
mod watch;
mod yardstick;

use std::{
    collections::HashSet,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pathtrace::workload::pin;
use xtask::bench::lines::{Line, Note, Program, Tracer, Unavailable, Work};

use self::{
    attached::{Attached, Beginning},
    group::{Group, Job},
    pace::Pace,
    places::Places,
    statistics::Statistics,
    traffic::{Figures, Traffic},
    variant::Variant,
};

/// What the raw figures call it that nothing is attached.
const UNTRACED: &str = "untraced";

/// Measures what tracing costs; prints raw figures.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: u32,
    /// Only these groups of works
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<Group>,
    /// Only these variants
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    variants: Vec<Variant>,
    /// What `cargo bench` says to each of its programs
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // SAFETY: the call takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        bail!("tracing needs root: `cargo xtask bench` becomes root where it can");
    }
    let groups = if arguments.only.is_empty() { Group::ALL.to_vec() } else { arguments.only };
    let places = Places::choose()?;
    places::prefer_us()?;
    // Its processes are forked, so it must be the first to start anything.
    let traffic = Traffic::start(places)?;
    pin(places.tracer).context("cannot choose a CPU")?;
    print(&Line::Machine(say::machine(places, arguments.rounds)))?;
    let is_wanted = |variant: &Variant| arguments.variants.is_empty() || arguments.variants.contains(variant);
    let plan: Vec<(Group, Vec<Variant>)> = groups
        .into_iter()
        .map(|group| (group, group.variants().iter().copied().filter(is_wanted).collect()))
        .collect();
    let each: usize = plan.iter().map(|(group, variants)| variants.len() * group.works().len()).sum();
    let mut bench = Bench {
        traffic,
        pace: Pace::new(places)?,
        unavailable: HashSet::new(),
        progress: progress(u64::from(arguments.rounds) * each as u64),
    };
    for round in 0..arguments.rounds {
        for (group, variants) in &plan {
            // Each round begins with another one, so that none has always the same one before it.
            let (last, first) = variants.split_at(round as usize % variants.len().max(1));
            for variant in first.iter().chain(last) {
                bench.measure(round, *group, *variant).with_context(|| format!("{variant} at {group}"))?;
            }
        }
    }
    bench.progress.finish_and_clear();
    Ok(())
}

struct Bench {
    traffic: Traffic,
    pace: Pace,
    /// What could not be started is not tried again.
    unavailable: HashSet<(Group, Variant)>,
    progress: ProgressBar,
}

impl Bench {
    /// Attaches a variant, and does all works of the group meanwhile.
    fn measure(&mut self, round: u32, group: Group, variant: Variant) -> Result<()> {
        self.progress.set_message(format!("{group}: {variant}"));
        let works = group.works();
        if self.unavailable.contains(&(group, variant)) {
            self.progress.inc(works.len() as u64);
            return Ok(());
        }
        if group == Group::Start {
            for work in works {
                let line = start::measure(round, *work, &mut self.traffic)?;
                print(&Line::Start(line))?;
                self.progress.inc(1);
            }
            return Ok(());
        }
        let target = match self.traffic.prepare(group) {
            Ok(target) => target,
            // Everything else is our own.
            Err(error) if group == Group::Redis => {
                return self.leave_out(group, variant, format!("{error:#}"));
            }
            Err(error) => return Err(error),
        };
        if !group.has_statistics() {
            self.untraced(round, group)?;
        }
        let statistics = if group.has_statistics() { Some(Statistics::enable()?) } else { None };
        let mut attached = match Attached::start(variant, &target)? {
            Beginning::Attached(attached) => attached,
            Beginning::Unavailable(why) => return self.leave_out(group, variant, why),
        };
        if round == 0 && variant.is_bpftrace() {
            let (group, variant) = (group.to_string(), variant.to_string());
            print(&Line::Note(Note { group, variant, text: script::note(&target) }))?;
        }
        for work in works {
            let before = statistics.as_ref().map(|_| statistics::of(attached.pid())).transpose()?;
            let first_pace = self.pace.measure()?;
            let cpu_ns = attached.cpu_ns()?;
            let figures = self.traffic.work(*work, &mut || attached.look())?;
            let cpu_ns = attached.cpu_ns()?.zip(cpu_ns).map(|(after, before)| after - before);
            if let Some(before) = before {
                for (hop, used) in statistics::of(attached.pid())? {
                    let (runs, ns) = used.since(before.get(&hop).copied().unwrap_or_default());
                    let (work, variant) = (work.to_string(), variant.to_string());
                    print(&Line::Program(Program { round, work, variant, hop, runs, ns }))?;
                }
                continue;
            }
            let (pace_ns, line) = ([first_pace, self.pace.measure()?], line(group, *work, figures));
            print(&Line::Work(Work { round, variant: variant.to_string(), pace_ns, cpu_ns, ..line }))?;
        }
        self.progress.inc(works.len() as u64);
        let ended = match attached.end() {
            // Of the others one that does not end (bpftrace 0.17 was seen not to) must not cost all figures.
            Err(error) if !variant.is_ours() => {
                eprintln!("{variant} at {group}, round {round}: {error:#}; how it ended is left out");
                None
            }
            ended => ended?,
        };
        if let Some(ended) = ended {
            let (group, variant) = (group.to_string(), variant.to_string());
            print(&Line::Tracer(Tracer { round, group, variant, ..ended }))?;
        }
        Ok(())
    }

    /// Says that it cannot be measured here, once.
    fn leave_out(&mut self, group: Group, variant: Variant, why: String) -> Result<()> {
        self.unavailable.insert((group, variant));
        self.progress.inc(group.works().len() as u64);
        let (group, variant) = (group.to_string(), variant.to_string());
        print(&Line::Unavailable(Unavailable { group, variant, why }))
    }

    /// Does the works of the group while nothing is attached, for all else to be compared with.
    fn untraced(&mut self, round: u32, group: Group) -> Result<()> {
        for work in group.works() {
            let first_pace = self.pace.measure()?;
            let figures = self.traffic.work(*work, &mut || attached::LOOK)?;
            let (variant, pace_ns) = (UNTRACED.to_owned(), [first_pace, self.pace.measure()?]);
            print(&Line::Work(Work { round, variant, pace_ns, ..line(group, *work, figures) }))?;
        }
        Ok(())
    }
}

/// What is known of a piece of work by itself.
fn line(group: Group, work: Job, figures: Figures) -> Work {
    Work {
        group: group.to_string(),
        work: work.to_string(),
        count: figures.count,
        seen: figures.seen,
        ns: figures.ns,
        p50_ns: figures.p50_ns,
        p99_ns: figures.p99_ns,
        per_second: figures.per_second(),
        bytes_per_second: figures.bytes_per_second(),
        ..Work::default()
    }
}

/// A line is there as soon as it is known: who reads may want to see it.
fn print(line: &Line) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn progress(length: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} ({eta} left)") {
        bar.set_style(style);
    }
    bar
}
