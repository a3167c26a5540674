//! The answer of `pathtrace doctor`: one object.

use std::io::{self, Write};

use serde::Serialize;
use tracer_common::probes::{Backend, Point};

use super::{SCHEMA, Shown};
use crate::{
    diagnosis::{Diagnosis, NotTried, Outcome, Problem, Target, Trial, problems},
    export::{Printable, first_line},
    kernel::features::Lockdown,
    model::Coverage,
};

#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    kind: &'static str,
    ok: bool,
    kernel: Text<'a>,
    btf: Types<'a>,
    lockdown: Option<&'static str>,
    capabilities: Vec<Capability>,
    /// `privilege`, `types` or `load`: why nothing was tried, in which case all below but `problems` is empty or `null`.
    not_tried: Option<&'static str>,
    backends: Vec<OfBackend>,
    probe_points: Vec<OfPoint<'a>>,
    exchanges: Vec<OfExchange>,
    lost: Option<u64>,
    missed: Option<u64>,
    problems: Vec<OfProblem<'a>>,
}

/// What the kernel or the system says: it steers no terminal.
type Text<'a> = Shown<Printable<'a>>;

fn text(said: &str) -> Text<'_> {
    Shown(Printable(said.as_bytes()))
}

#[derive(Serialize)]
struct Types<'a> {
    file: String,
    bytes: Option<u64>,
    reason: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Capability {
    name: &'static str,
    held: bool,
}

#[derive(Serialize)]
struct OfBackend {
    backend: &'static str,
    /// For how many points it attached alone.
    attached: usize,
    /// How many were tried.
    total: usize,
    /// For how many points a run takes it.
    taken: usize,
}

#[derive(Serialize)]
struct OfPoint<'a> {
    hop: &'static str,
    attempts: Vec<Attempt<'a>>,
    taken: Option<Taken<'a>>,
    self_test: &'static str,
    hops: u64,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    backend: &'static str,
    attached: bool,
    function: Option<Text<'a>>,
    variant_of: Option<Text<'a>>,
    module: Option<Text<'a>>,
    reason: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Taken<'a> {
    backend: &'static str,
    function: Text<'a>,
}

#[derive(Serialize)]
struct OfExchange {
    exchange: &'static str,
    done: bool,
    reason: Option<String>,
}

#[derive(Serialize)]
struct OfProblem<'a> {
    what: Text<'a>,
    advice: Text<'a>,
}

/// Writes the diagnosis as one line.
pub fn write_diagnosis(diagnosis: &Diagnosis, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut out, &Answer::of(diagnosis, &problems(diagnosis)))?;
    out.write_all(b"\n")
}

impl<'a> Answer<'a> {
    fn of(diagnosis: &'a Diagnosis, problems: &'a [Problem]) -> Self {
        let Diagnosis { features, types, trial } = diagnosis;
        let trial = trial.as_ref();
        let self_test = trial.ok().map(|trial| &trial.self_test);
        Self {
            schema: SCHEMA,
            kind: "doctor",
            ok: problems.is_empty(),
            kernel: text(&features.release),
            btf: Types {
                file: Printable(types.path.to_string_lossy().as_bytes()).to_string(),
                bytes: types.bytes.as_ref().ok().copied(),
                reason: types.bytes.as_ref().err().map(|why| text(why)),
            },
            lockdown: features.lockdown.map(Lockdown::name),
            capabilities: features
                .privileges
                .needed()
                .into_iter()
                .map(|(name, held)| Capability { name, held })
                .collect(),
            not_tried: trial.err().map(|not_tried| match not_tried {
                NotTried::Privilege => "privilege",
                NotTried::Types => "types",
                NotTried::Load(_) => "load",
            }),
            backends: trial.map(backends).unwrap_or_default(),
            probe_points: trial.map(points).unwrap_or_default(),
            exchanges: self_test.map_or_else(Vec::new, |self_test| {
                let each = self_test.exchanges.iter();
                each.map(|(exchange, result)| OfExchange {
                    exchange: exchange.name(),
                    done: result.is_ok(),
                    reason: result.as_ref().err().map(ToString::to_string),
                })
                .collect()
            }),
            lost: self_test.map(|self_test| self_test.losses.lost()),
            missed: self_test.and_then(|self_test| self_test.losses.missed),
            problems: problems
                .iter()
                .map(|Problem { what, advice }| OfProblem { what: text(what), advice: text(advice) })
                .collect(),
        }
    }
}

fn backends(trial: &Trial) -> Vec<OfBackend> {
    let taken = |coverage: &Coverage, backend: Backend| {
        let by = |point| coverage.attached(point).is_some_and(|attached| attached.backend == backend);
        Point::ALL.iter().filter(|point| by(**point)).count()
    };
    let each = trial.alone.iter().map(|(backend, _)| {
        let (attached, total) = trial.counts(*backend);
        OfBackend { backend: backend.name(), attached, total, taken: taken(&trial.taken, *backend) }
    });
    each.collect()
}

fn points(trial: &Trial) -> Vec<OfPoint<'_>> {
    trial.taken.tried().map(|(point, _)| of_point(trial, point)).collect()
}

fn of_point(trial: &Trial, point: Point) -> OfPoint<'_> {
    let outcome = trial.outcome(point);
    let attempts = trial.attempts(point).map(|(backend, attempt)| {
        let target: Option<Target<'_>> = attempt.ok();
        let symbol = target.and_then(|target| target.symbol);
        Attempt {
            backend: backend.name(),
            attached: attempt.is_ok(),
            function: target.map(|target| text(target.function)),
            variant_of: symbol
                .filter(|symbol| symbol.taken != symbol.wanted)
                .map(|symbol| text(&symbol.wanted)),
            module: symbol.and_then(|symbol| symbol.module.as_deref()).map(text),
            reason: attempt.err().map(|reason| Shown(first_line(reason))),
        }
    });
    OfPoint {
        hop: point.row().hop,
        attempts: attempts.collect(),
        taken: trial
            .taken(point)
            .map(|(backend, target)| Taken { backend: backend.name(), function: text(target.function) }),
        self_test: outcome.name(),
        hops: if let Outcome::Fired(hops) = outcome { hops } else { 0 },
        reason: if let Outcome::NotExercised(why) = outcome { Some(why) } else { None },
    }
}
