//! What the running kernel allows: facts, what attaching and a self-test showed, and what that means. Plain data and
//! judgement; finding it out is the work of `commands::doctor`.

mod exercise;
#[cfg(test)]
pub(crate) mod samples;
mod verdict;

use std::{collections::BTreeMap, path::PathBuf};

use tracer_common::probes::{Backend, Point};

pub use self::{
    exercise::{Exercise, exercise, follows, is_important},
    verdict::{Problem, problems},
};
use crate::{
    kernel::{
        features::Features,
        symbols::{Symbol, Symbols},
    },
    model::{Attached, Coverage, Losses, State},
    workload::{Exchange, ExchangeError},
};

/// All that was found out.
#[derive(Debug)]
pub struct Diagnosis {
    /// What the kernel says of itself and of us.
    pub features: Features,
    /// The kernel's types.
    pub types: TypesFile,
    /// What attaching showed, or why nothing could be tried.
    pub trial: Result<Trial, NotTried>,
}

/// The file with the kernel's types.
#[derive(Debug)]
pub struct TypesFile {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes if its types can be used, or why not.
    pub bytes: Result<u64, String>,
}

/// Why nothing was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTried {
    /// `features.privileges` says what is missing.
    Privilege,
    /// `types` says what is wrong with them.
    Types,
    /// The kernel refused before the first program.
    Load(String),
}

/// What attaching showed.
#[derive(Debug)]
pub struct Trial {
    /// Each backend that was asked for, attached alone; in the order in which `taken` tried them.
    pub alone: Vec<(Backend, Coverage)>,
    /// What a run takes that may use all of them: the first that attaches, for each point.
    pub taken: Coverage,
    /// The kernel's symbols for the functions of the probe table, or why they cannot be read.
    pub symbols: Result<Symbols, String>,
    /// What traffic of our own showed.
    pub self_test: SelfTest,
}

/// What traffic of our own showed, with everything in `Trial::taken` attached.
#[derive(Debug)]
pub struct SelfTest {
    /// How each exchange went.
    pub exchanges: Vec<(Exchange, Result<(), ExchangeError>)>,
    /// How many records of it each point wrote; a point that wrote none is not here.
    pub hops: BTreeMap<Point, u64>,
    /// What did not arrive.
    pub losses: Losses,
}

/// Where one backend attached a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The kernel symbol or tracepoint.
    pub function: &'a str,
    /// The symbol that it is, where it was chosen among symbols (kprobe).
    pub symbol: Option<&'a Symbol>,
}

/// What the self-test showed of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It wrote that many records of our traffic.
    Fired(u64),
    /// It is attached, traffic passed it, and it wrote nothing.
    Silent,
    /// It is attached, but nothing that passes it could be sent.
    NotExercised(String),
    /// It is not attached.
    NotAttached,
}

impl Outcome {
    /// The name in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fired(_) => "fired",
            Self::Silent => "silent",
            Self::NotExercised(_) => "not_exercised",
            Self::NotAttached => "not_attached",
        }
    }
}

impl Diagnosis {
    /// Whether this kernel can be traced, and all that is attached works.
    pub fn is_healthy(&self) -> bool {
        problems(self).is_empty()
    }
}

impl Trial {
    /// What each backend alone made of a point: where it attached, or why it did not. What is no function anywhere is
    /// a tracepoint whichever backend was asked for, and that is said once.
    pub fn attempts(&self, point: Point) -> impl Iterator<Item = (Backend, Result<Target<'_>, &str>)> {
        let is_function = point.row().functions().is_ok();
        let alone = self.alone.iter().take(if is_function { usize::MAX } else { 1 });
        alone.map(move |(asked_for, coverage)| {
            let backend = if is_function { *asked_for } else { Backend::Tracepoint };
            let attempt = match coverage.state(point) {
                State::Attached(attached) => Ok(self.target(point, attached)),
                State::Refused(refusals) => {
                    Err(refusals.first().map_or("not tried", |refusal| refusal.reason.as_str()))
                }
                State::NotNeeded => Err("not needed"),
            };
            (backend, attempt)
        })
    }

    /// For how many points a backend attached alone, and for how many it was tried.
    pub fn counts(&self, backend: Backend) -> (usize, usize) {
        let attempts = || {
            let all = self.taken.tried().flat_map(|(point, _)| self.attempts(point));
            all.filter(move |(tried, _)| *tried == backend)
        };
        (attempts().filter(|(_, attempt)| attempt.is_ok()).count(), attempts().count())
    }

    /// What a run takes for a point.
    pub fn taken(&self, point: Point) -> Option<(Backend, Target<'_>)> {
        self.taken.attached(point).map(|attached| (attached.backend, self.target(point, attached)))
    }

    fn target<'a>(&'a self, point: Point, attached: &'a Attached) -> Target<'a> {
        let is_it = |symbol: &&Symbol| symbol.taken == attached.function;
        let symbol = match (&self.symbols, attached.backend) {
            (Ok(symbols), Backend::Kprobe) => point
                .row()
                .functions()
                .map_or(&[][..], |it| it.names)
                .iter()
                .filter_map(|name| symbols.get(name))
                .find(is_it),
            _ => None,
        };
        Target { function: &attached.function, symbol }
    }

    /// What the self-test showed of a point.
    pub fn outcome(&self, point: Point) -> Outcome {
        if !self.taken.sees(point) {
            return Outcome::NotAttached;
        }
        if let Some(hops) = self.self_test.hops.get(&point) {
            return Outcome::Fired(*hops);
        }
        if let Some(first) = follows(point).filter(|first| !self.taken.sees(*first)) {
            let hop = first.row().hop;
            return Outcome::NotExercised(format!("it is looked at after {hop} only, which is not attached"));
        }
        match exercise(point) {
            Exercise::Unreachable(why) => Outcome::NotExercised(why.to_owned()),
            Exercise::By(exchanges) => match self.self_test.why_none_of(exchanges) {
                None => Outcome::Silent,
                Some(why) => Outcome::NotExercised(why),
            },
        }
    }
}

impl SelfTest {
    /// Why none of these exchanges took place; `None` if one did.
    fn why_none_of(&self, wanted: &[Exchange]) -> Option<String> {
        let is_wanted = |exchange| wanted.contains(&exchange);
        if self.exchanges.iter().any(|(exchange, result)| is_wanted(*exchange) && result.is_ok()) {
            return None;
        }
        Some(self.failures(|exchange, _| is_wanted(exchange)).join("; "))
    }

    /// The exchanges among `wanted` that did not take place, those with the same reason together.
    pub fn failures(&self, wanted: impl Fn(Exchange, &ExchangeError) -> bool) -> Vec<String> {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for (exchange, result) in &self.exchanges {
            let Err(error) = result else { continue };
            if !wanted(*exchange, error) {
                continue;
            }
            let error = error.to_string();
            match reasons.iter_mut().find(|(reason, _)| *reason == error) {
                Some((_, which)) => which.push(exchange.to_string()),
                None => reasons.push((error, vec![exchange.to_string()])),
            }
        }
        reasons.into_iter().map(|(reason, which)| format!("{}: {reason}", which.join(", "))).collect()
    }
}
