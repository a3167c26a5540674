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
    model::{Coverage, Losses, Trust},
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
        if trust.malformed > 0 {
            write!(f, ", {}", self.alarm(format_args!("{} malformed", trust.malformed)))?;
        }
        paths(trust, f)?;
        probe_points(self.summary.coverage, f)?;
        trust.duration_ns.map_or(Ok(()), |duration_ns| write!(f, ", traced {}", Human(duration_ns)))
    }
}

impl TrustLine<'_> {
    fn alarm<T: fmt::Display>(&self, what: T) -> impl fmt::Display {
        self.paint.tone(Tone::Alarm, what)
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

fn probe_points(coverage: &Coverage, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (attached, tried) = coverage.counts();
    write!(f, ", probe points {attached}/{tried} attached")?;
    for (index, point) in coverage.refused().enumerate() {
        let before = if index == 0 { " (unattached: " } else { ", " };
        write!(f, "{before}{}", point.row().hop)?;
    }
    if attached < tried { f.write_str(")") } else { Ok(()) }
}
