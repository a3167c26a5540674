//! What this kernel allows, for people: the facts, each point with each backend, the verdict.

use std::{
    fmt,
    io::{self, Write},
};

use comfy_table::{Attribute, Cell, Color, Table};
use tracer_common::probes::{Backend, Point};

use super::{
    Style,
    grid::list,
    paint::{Paint, Tone},
    unattached::Unattached,
};
use crate::{
    diagnosis::{Diagnosis, Outcome, SelfTest, Target, Trial, problems},
    export::{Printable, first_line},
    kernel::features::{Features, Lockdown},
    model::{Coverage, State},
    workload::ExchangeError,
};

/// Columns that the names of the facts take.
const NAME_WIDTH: usize = 13;

/// What silence means.
const SILENT: &str = "what passes it was sent, and it reported nothing: paths will lack this hop";

/// Writes the answer of `pathtrace doctor`.
pub fn write_diagnosis(
    diagnosis: &Diagnosis,
    style: Style,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let paint = Paint(style.color);
    write_facts(diagnosis, paint, out)?;
    if let Ok(trial) = &diagnosis.trial {
        write_trial_facts(trial, paint, out)?;
        let mut notes = Notes::default();
        let table = table(trial, &mut notes, style);
        out.write_all(b"\n")?;
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        notes.write(paint, out)?;
    }
    out.write_all(b"\n")?;
    write_verdict(diagnosis, paint, out)
}

fn fact(
    name: &str,
    what: impl fmt::Display,
    paint: Paint,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    writeln!(out, "{}{what}", paint.tone(Tone::Faint, format_args!("{name:NAME_WIDTH$}")))
}

/// What is known before anything is tried.
fn write_facts(diagnosis: &Diagnosis, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let Diagnosis { features, types, .. } = diagnosis;
    fact("kernel", format_args!("Linux {}", Printable(features.release.as_bytes())), paint, out)?;
    let file = types.path.to_string_lossy();
    let file = Printable(file.as_bytes());
    match &types.bytes {
        Ok(bytes) => fact("types (BTF)", format_args!("{file}, {:.1} MB", *bytes as f64 / 1e6), paint, out),
        Err(why) => fact("types (BTF)", paint.tone(Tone::Alarm, Printable(why.as_bytes())), paint, out),
    }?;
    let lockdown = features.lockdown.map_or("not said", Lockdown::name);
    fact("lockdown", lockdown, paint, out)?;
    fact("privileges", Capabilities(features, paint), paint, out)
}

struct Capabilities<'a>(&'a Features, Paint);

impl fmt::Display for Capabilities<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, held)) in self.0.privileges.needed().into_iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            if held {
                write!(f, "{name} held")?;
            } else {
                self.1.tone(Tone::Alarm, format_args!("{name} missing")).fmt(f)?;
            }
        }
        Ok(())
    }
}

/// What works in practice.
fn write_trial_facts(trial: &Trial, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    for (backend, coverage) in &trial.alone {
        fact(backend.name(), InPractice(*backend, coverage, trial), paint, out)?;
    }
    if let Err(why) = &trial.symbols {
        fact("symbols", paint.tone(Tone::Notice, Printable(why.as_bytes())), paint, out)?;
    }
    fact("self-test", Accounts(&trial.self_test), paint, out)
}

/// How far a backend works alone.
struct InPractice<'a>(Backend, &'a Coverage, &'a Trial);

impl fmt::Display for InPractice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(backend, coverage, trial) = self;
        let (attached, tried) = trial.counts(*backend);
        if attached > 0 {
            return write!(f, "attaches to {attached} of {tried} points");
        }
        f.write_str("does not work here")?;
        let mut reasons = coverage.tried().filter_map(|(_, state)| match state {
            State::Refused(refusals) => refusals.first().map(|refusal| refusal.reason.as_str()),
            State::Attached(_) | State::NotNeeded => None,
        });
        match reasons.next() {
            Some(first) if reasons.all(|other| other == first) => write!(f, ": {}", first_line(first)),
            _ => Ok(()),
        }
    }
}

/// `9 of 9 exchanges, 0 records lost`, and which were not available.
struct Accounts<'a>(&'a SelfTest);

impl fmt::Display for Accounts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SelfTest { exchanges, losses, .. } = self.0;
        let done = exchanges.iter().filter(|(_, result)| result.is_ok()).count();
        write!(f, "{done} of {} exchanges done, {} records lost", exchanges.len(), losses.lost())?;
        let is_unavailable = |_, error: &ExchangeError| matches!(error, ExchangeError::Unavailable(_));
        self.0.failures(is_unavailable).iter().try_for_each(|failure| write!(f, "; {failure}"))
    }
}

/// Reasons, said once each below the table.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The mark for a reason: `[1]`.
    fn mark(&mut self, reason: &str) -> String {
        let reason = first_line(reason).to_string();
        let at = self.0.iter().position(|known| *known == reason).unwrap_or_else(|| {
            self.0.push(reason);
            self.0.len() - 1
        });
        format!("[{}]", at + 1)
    }

    fn write(&self, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.0.iter().enumerate().try_for_each(|(at, reason)| {
            writeln!(out, " {}", paint.tone(Tone::Faint, format_args!("[{}] {reason}", at + 1)))
        })
    }
}

/// A row for each point, a column for each backend, what a run takes, and whether it fired.
fn table(trial: &Trial, notes: &mut Notes, style: Style) -> Table {
    let mut headings = vec!["PROBE POINT".to_owned()];
    headings.extend(trial.alone.iter().map(|(backend, _)| backend.name().to_uppercase()));
    headings.extend(["TAKEN", "SELF-TEST"].map(str::to_owned));
    let mut table = list(headings, style);
    for (point, _) in trial.taken.tried() {
        table.add_row(row(trial, point, notes));
    }
    table
}

fn row(trial: &Trial, point: Point, notes: &mut Notes) -> Vec<Cell> {
    let mut cells = vec![Cell::new(point.row().hop).add_attribute(Attribute::Bold)];
    let has_column = |backend: Backend| trial.alone.iter().any(|(tried, _)| *tried == backend);
    for (backend, _) in &trial.alone {
        let attempt = trial.attempts(point).find(|(tried, _)| tried == backend || !has_column(*tried));
        cells.push(match attempt {
            Some((_, Ok(target))) => Cell::new(Shown(target)),
            Some((_, Err(reason))) => Cell::new(notes.mark(reason)).add_attribute(Attribute::Dim),
            None => Cell::new("-").add_attribute(Attribute::Dim),
        });
    }
    cells.push(match trial.taken(point) {
        Some((backend, _)) => Cell::new(backend.name()),
        None => Cell::new("none").fg(Color::DarkYellow),
    });
    cells.push(match trial.outcome(point) {
        Outcome::Fired(hops) => Cell::new(format_args!("fired {hops}×")),
        Outcome::Silent => Cell::new(format_args!("SILENT {}", notes.mark(SILENT))).fg(Color::DarkRed),
        Outcome::NotExercised(why) => Cell::new(format_args!("not exercised {}", notes.mark(&why))),
        Outcome::NotAttached => Cell::new("-"),
    });
    cells
}

/// The symbol, and the module that it is in: `ip6_xmit [ipv6]`.
struct Shown<'a>(Target<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(self.0.function.as_bytes()))?;
        match self.0.symbol.and_then(|symbol| symbol.module.as_deref()) {
            Some(module) => write!(f, " [{}]", Printable(module.as_bytes())),
            None => Ok(()),
        }
    }
}

/// What it means, and what to do.
fn write_verdict(diagnosis: &Diagnosis, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let problems = problems(diagnosis);
    for problem in &problems {
        writeln!(out, "{}", paint.tone(Tone::Alarm, Printable(problem.what.as_bytes())))?;
        writeln!(out, "  what to do: {}", Printable(problem.advice.as_bytes()))?;
    }
    let Ok(trial) = &diagnosis.trial else {
        return writeln!(out, "Nothing was tried.");
    };
    let (attached, tried) = trial.taken.counts();
    let unexercised = |point: &&Point| matches!(trial.outcome(**point), Outcome::NotExercised(_));
    if problems.is_empty() {
        let text = match Point::ALL.iter().filter(unexercised).count() {
            0 => format!("All is well: {attached} of {tried} probe points attach, and all of these fired."),
            some => format!(
                "All is well: {attached} of {tried} probe points attach, and all of these fired but {some} that could not \
                 be exercised."
            ),
        };
        writeln!(out, "{}", paint.tone(Tone::Strong, text))?;
    }
    if attached > 0 && attached < tried {
        write_limits(trial, paint, out)?;
    }
    Ok(())
}

/// What paths will lack, and which kernel would show it.
fn write_limits(trial: &Trial, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    for group in Unattached::of(&trial.taken).groups {
        let names = group.points.iter().map(|point| point.row().hop).collect::<Vec<_>>().join(", ");
        writeln!(out, "  without {}: {}", paint.tone(Tone::Notice, names), group.consequence)?;
    }
    let is_dead = |backend: Backend| {
        trial.alone.iter().any(|(tried, _)| *tried == backend && trial.counts(backend).0 == 0)
    };
    if is_dead(Backend::Fentry) && is_dead(Backend::Kprobe) {
        writeln!(
            out,
            "  what to do: nothing on this kernel; one with CONFIG_KPROBES=y, or that allows fentry, shows more"
        )?;
    }
    Ok(())
}
