//! The lines of a run, and what is made of them: a figure of a variant is compared with those of the untraced runs of the same round that
//! the machine did at the same pace, and of the rounds the median counts.

use std::io::BufRead;

use anyhow::{Context as _, Result};

use super::lines::{Correlator, Line, Machine, Note, Program, Start, Tracer, Unavailable, Work};

/// The variant that others are compared with.
pub(super) const UNTRACED: &str = "untraced";

/// Paces that differ by no more than this part are the same. (Of one pace they differ by some percent, of a virtual machine's two by 20.)
const SAME_PACE: f64 = 0.08;

/// What adds less than this to a round trip adds nothing that could be told from chance.
const NOTHING: f64 = 0.001;

/// All lines of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    /// Where it ran.
    pub(super) machine: Machine,
    /// In the order in which they were printed, as everything here.
    pub(super) works: Vec<Work>,
    /// Ends of variants.
    pub(super) tracers: Vec<Tracer>,
    /// What programs took in the kernel.
    pub(super) programs: Vec<Program>,
    /// Starts of pathtrace.
    pub(super) starts: Vec<Start>,
    /// What userspace does with records.
    pub(super) correlators: Vec<Correlator>,
    /// What could not be measured.
    pub(super) unavailable: Vec<Unavailable>,
    /// What variants do otherwise.
    pub(super) notes: Vec<Note>,
}

impl Results {
    /// Reads more of them; `each` sees each line first.
    pub(super) fn read(
        &mut self,
        lines: impl BufRead,
        mut each: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        for line in lines.lines() {
            let line = line?;
            each(&line)?;
            let parsed = serde_json::from_str(&line)
                .with_context(|| format!("the benchmark printed what is no figure: {line}"))?;
            self.add(parsed);
        }
        Ok(())
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::Machine(machine) => self.machine = machine,
            Line::Work(work) => self.works.push(work),
            Line::Tracer(tracer) => self.tracers.push(tracer),
            Line::Program(program) => self.programs.push(program),
            Line::Start(start) => self.starts.push(start),
            Line::Correlator(correlator) => self.correlators.push(correlator),
            Line::Unavailable(unavailable) => self.unavailable.push(unavailable),
            Line::Note(note) => self.notes.push(note),
        }
    }

    /// The works, each once.
    pub(super) fn names_of_works(&self) -> Vec<&str> {
        once(self.works.iter().map(|work| work.work.as_str()))
    }

    /// The figures of a variant at a work, by round.
    pub(super) fn of<'a>(&'a self, work: &'a str, variant: &'a str) -> impl Iterator<Item = &'a Work> {
        self.works.iter().filter(move |it| it.work == work && it.variant == variant)
    }

    /// A figure of a variant at a work, of all rounds.
    pub(super) fn values(&self, work: &str, variant: &str, figure: Figure) -> Option<Spread> {
        Spread::of(self.of(work, variant).filter_map(figure))
    }

    /// The same, divided by that of untraced runs at the same pace.
    pub(super) fn ratios(&self, work: &str, variant: &str, figure: Figure) -> Option<Spread> {
        Spread::of(self.of(work, variant).filter_map(|it| self.ratio(it, figure)))
    }

    fn ratio(&self, of: &Work, figure: Figure) -> Option<f64> {
        Some(figure(of)? / self.untraced(of, figure)?)
    }

    /// The figure of the untraced runs of the same round at the same pace; `None` if there is none, or the pace changed meanwhile.
    fn untraced(&self, of: &Work, figure: Figure) -> Option<f64> {
        let pace = pace(of)?;
        let is_alike = |it: &&Work| {
            it.variant == UNTRACED
                && it.work == of.work
                && it.round == of.round
                && self::pace(it).is_some_and(|other| are_close(other, pace))
        };
        Some(Spread::of(self.works.iter().filter(is_alike).filter_map(figure))?.median)
    }

    /// How much longer a round trip is than in untraced runs at the same pace, ns.
    pub(super) fn added_ns(&self, work: &str, variant: &str) -> Option<Spread> {
        Spread::of(self.of(work, variant).filter_map(|it| self.added(it)))
    }

    fn added(&self, of: &Work) -> Option<f64> {
        Some(p50(of)? - self.untraced(of, p50)?)
    }

    /// The same for each event that the variant was told of.
    pub(super) fn added_ns_an_event(&self, work: &str, variant: &str) -> Option<Spread> {
        Spread::of(
            self.of(work, variant).filter_map(|it| {
                Some(self.added(it)? / self.events_a_message(&it.group, variant, it.round)?)
            }),
        )
    }

    /// Events of a message, those that were lost included.
    fn events_a_message(&self, group: &str, variant: &str, round: u32) -> Option<f64> {
        let is_it = |it: &&Tracer| it.group == group && it.variant == variant && it.round == round;
        let tracer = self.tracers.iter().find(is_it)?;
        let events = tracer.events? + tracer.lost.unwrap_or_default();
        let is_it = |it: &&Work| it.group == group && it.variant == variant && it.round == round;
        let seen: u64 = self.works.iter().filter(is_it).map(|it| it.seen).sum();
        (events > 0 && seen > 0).then(|| events as f64 / seen as f64)
    }

    /// How many times what `less` adds to a round trip is what `more` adds, round by round. Of each only the share that it adds
    /// is taken, as the machine may be slower for the one than for the other.
    pub(super) fn times_added(&self, work: &str, more: &str, less: &str) -> Option<Spread> {
        Spread::of(self.of(work, more).filter_map(|it| {
            let other = self.of(work, less).find(|other| other.round == it.round)?;
            // What adds nothing, or less, cannot be divided by.
            let less = (self.ratio(other, p50)? - 1.0).max(NOTHING);
            Some((self.ratio(it, p50)? - 1.0).max(0.0) / less)
        }))
    }

    /// A figure of a variant in a group of works, of all rounds.
    pub(super) fn of_tracers(
        &self,
        group: &str,
        variant: &str,
        figure: impl Fn(&Tracer) -> Option<f64>,
    ) -> Option<Spread> {
        let all = self.tracers.iter().filter(|it| it.group == group && it.variant == variant);
        Spread::of(all.filter_map(figure))
    }

    /// What a run of the programs at these hops took on the average, ns; the median of all rounds.
    pub(super) fn ns_per_run(&self, work: &str, variant: &str, hops: &[&str]) -> Option<Spread> {
        let is_one = |it: &&Program| {
            it.work == work && it.variant == variant && hops.contains(&it.hop.as_str()) && it.runs > 0
        };
        let rounds = once(self.programs.iter().filter(is_one).map(|it| it.round));
        Spread::of(rounds.into_iter().map(|round| {
            let of_round = self.programs.iter().filter(is_one).filter(|it| it.round == round);
            let (ns, runs) = of_round.fold((0, 0), |(ns, runs), it| (ns + it.ns, runs + it.runs));
            ns as f64 / runs as f64
        }))
    }
}

/// How fast the machine was, if it went on as it was before.
fn pace(of: &Work) -> Option<f64> {
    let [before, after] = of.pace_ns.map(|ns| ns as f64);
    are_close(before, after).then(|| f64::midpoint(before, after))
}

fn are_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_PACE * a.min(b)
}

/// Takes a figure out of a line.
pub(super) type Figure = fn(&Work) -> Option<f64>;

/// Round trip, median.
pub(super) fn p50(work: &Work) -> Option<f64> {
    work.p50_ns.map(|ns| ns as f64)
}

/// Round trip, of a hundred the slowest.
pub(super) fn p99(work: &Work) -> Option<f64> {
    work.p99_ns.map(|ns| ns as f64)
}

/// Messages a second.
#[allow(clippy::unnecessary_wraps, reason = "a figure may be missing; this one is not")]
pub(super) fn per_second(work: &Work) -> Option<f64> {
    Some(work.per_second)
}

/// Bytes a second.
pub(super) fn bytes_per_second(work: &Work) -> Option<f64> {
    work.bytes_per_second
}

/// A figure in all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The one in the middle.
    pub(super) median: f64,
    /// A quarter of the rounds is below.
    pub(super) low: f64,
    /// A quarter of the rounds is above.
    pub(super) high: f64,
    /// The largest.
    pub(super) max: f64,
    /// How many rounds there were.
    pub(super) count: usize,
}

impl Spread {
    /// Of these; `None` if there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let quarter = last / 4;
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        } else {
            *values.get(middle)?
        };
        Some(Self {
            median,
            low: *values.get(quarter)?,
            high: *values.get(last - quarter)?,
            max: *values.last()?,
            count: values.len(),
        })
    }
}

/// Each once, in the order in which they come.
pub(super) fn once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}
