//! The trust line, which ends every run: what was seen, and what was not.

use std::{
    fmt,
    io::{self, Write},
};

use super::{
    Style, Summary,
    paint::{Paint, Tone},
};
use crate::{
    export::Human,
    model::{Audit, ByRun, Coverage, Losses, NotMeasured, Trust},
};

/// Writes the trust line.
pub fn write_trust(summary: &Summary<'_>, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    writeln!(out, "{}", TrustLine { summary, paint: Paint(style.color) })
}

/// The trust line, coloured where something is missing.
struct TrustLine<'a> {
    summary: &'a Summary<'a>,
    paint: Paint,
}

impl fmt::Display for TrustLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = self.summary.trust;
        write!(f, "{} events, ", trust.events)?;
        match &trust.losses {
            Some(losses) => self.losses(losses, f)?,
            None => write!(f, "{}", self.alarm("lost: unknown (recording cut off)"))?,
        }
        if let Some(audit) = &trust.audit {
            self.audit(audit, f)?;
        }
        if trust.malformed > 0 {
            write!(f, ", {}", self.alarm(format_args!("{} malformed", trust.malformed)))?;
        }
        paths(trust, f)?;
        if let Some(sample) = trust.sample {
            write!(f, ", 1 of {sample} messages traced")?;
        }
        probe_points(self.summary.coverage, f)?;
        if let Some(duration_ns) = trust.duration_ns {
            write!(f, ", traced {}", Human(duration_ns))?;
        }
        own_cost(trust, f)
    }
}

impl TrustLine<'_> {
    fn alarm<T: fmt::Display>(&self, what: T) -> impl fmt::Display {
        self.paint.tone(Tone::Alarm, what)
    }

    fn audit(&self, audit: &Audit, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audit { fired, taken, lost, unexplained } = audit;
        if audit.balances() {
            return write!(f, ", accounts balance: {fired} records fired = {taken} taken + {lost} lost");
        }
        let wrong = format_args!(
            "ACCOUNTS DO NOT BALANCE: {fired} records fired, {taken} taken, {lost} lost, {unexplained} unexplained"
        );
        write!(f, ", {}", self.alarm(wrong))
    }

    fn losses(&self, losses: &Losses, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match losses.lost() {
            0 => f.write_str("0 lost")?,
            lost => write!(f, "{}", self.alarm(format_args!("{lost} lost")))?,
        }
        match losses.missed {
            None => f.write_str(", missed: not counted by this kernel"),
            Some(0) => Ok(()),
            Some(missed) => write!(f, ", {}", self.alarm(format_args!("{missed} missed"))),
        }
    }
}

fn paths(trust: &Trust, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, ", paths: {} complete, {} incomplete", trust.complete, trust.incomplete_total())?;
    for (index, (why, count)) in trust.incomplete.iter().enumerate() {
        let before = if index == 0 { " (" } else { ", " };
        write!(f, "{before}{}: {count}", why.reason())?;
    }
    if !trust.incomplete.is_empty() {
        f.write_str(")")?;
    }
    let others = [
        (trust.dropped, "dropped"),
        (trust.retransmitted, "retransmitted"),
        (trust.too_short, "too short to be shown"),
        (trust.filtered_out, "left out by the filters"),
        (trust.cut_off, "more not shown"),
    ];
    let mut some = others.iter().filter(|(count, _)| *count > 0);
    some.try_for_each(|(count, what)| write!(f, ", {count} {what}"))
}

fn own_cost(trust: &Trust, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match trust.own_cost() {
        Ok(cost) => {
            match (cost.mostly_silent(), cost.ns_per_event) {
                (Some(ByRun { ns, measured }), _) => {
                    write!(f, ", own cost {ns} ns a run of a program (of {measured} that were measured ")?;
                    match cost.measured_events {
                        0 => f.write_str("none")?,
                        events => write!(f, "{events}")?,
                    }
                    f.write_str(" wrote an event)")?;
                }
                (None, Some(ns)) => write!(f, ", own cost {ns} ns an event")?,
                (None, None) => {}
            }
            cost.share.map_or(Ok(()), |share| write!(f, ", {} of one CPU", Percent(share)))
        }
        // Nothing is known, and nothing was written.
        Err(NotMeasured::TooFewEvents) if trust.events == 0 => Ok(()),
        Err(NotMeasured::NotAsked) => Ok(()),
        Err(why) => write!(f, ", own cost not measured ({})", why.reason()),
    }
}

/// A share, as precisely as it says something.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        match percent {
            0.1.. => write!(f, "{percent:.1} %"),
            0.01.. => write!(f, "{percent:.2} %"),
            _ => f.write_str("less than 0.01 %"),
        }
    }
}

fn probe_points(coverage: &Coverage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (attached, tried) = coverage.counts();
    write!(f, ", probe points {attached}/{tried} attached")?;
    for (index, point) in coverage.refused().enumerate() {
        let before = if index == 0 { " (unattached: " } else { ", " };
        write!(f, "{before}{}", point.row().hop)?;
    }
    if attached < tried { f.write_str(")") } else { Ok(()) }
}
