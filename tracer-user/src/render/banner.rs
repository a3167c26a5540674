//! What is said at the start of a run: what of the path will be seen, and why not more.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use tracer_common::probes::Backend;

use super::{
    Style,
    paint::{Paint, Tone},
    unattached::{Group, Unattached},
};
use crate::{
    export::{Printable, Refusals},
    model::Coverage,
};

/// How attaching went.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The running kernel, as `uname -r` says it.
    pub kernel: &'a str,
    /// How long attaching took.
    pub took: Duration,
    /// What came of it.
    pub coverage: &'a Coverage,
    /// Whether to say why points are not attached, and what follows from it.
    pub verbose: bool,
}

/// Writes the line of the kernel and the backends, then what will be missing. If that is everything, also why.
pub fn write_banner(start: &Start<'_>, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let paint = Paint(style.color);
    let (attached, tried) = start.coverage.counts();
    let kernel = Printable(start.kernel.as_bytes());
    let (backends, ms) = (Backends(start.coverage), start.took.as_millis());
    writeln!(out, "Linux {kernel}, {backends}: attached {attached}/{tried} probe points in {ms} ms")?;

    let sees_traffic = start.coverage.sees_traffic();
    if sees_traffic && !start.verbose {
        return write_names(start.coverage, paint, out);
    }
    let Unattached { shared, groups } = Unattached::of(start.coverage);
    if !shared.is_empty() && !sees_traffic && groups.iter().all(|group| group.why.is_empty()) {
        let why = format!("nothing will be seen ({})", Refusals(&shared));
        return writeln!(out, "  {}", paint.tone(Tone::Alarm, why));
    }
    if !shared.is_empty() {
        writeln!(out, "  {}", paint.tone(Tone::Faint, Refusals(&shared)))?;
    }
    groups.iter().try_for_each(|group| writeln!(out, "  {}", GroupLine { group, paint }))
}

/// The points that are not attached, on one line.
fn write_names(coverage: &Coverage, paint: Paint, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let refused: Vec<&str> = coverage.refused().map(|point| point.row().hop).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let names = refused.join(", ");
    writeln!(out, "  not attached: {} (pathtrace doctor says why)", paint.tone(Tone::Notice, names))
}

/// The backend that was taken everywhere, or each with how often it was.
struct Backends<'a>(&'a Coverage);

impl fmt::Display for Backends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = |backend: &Backend| {
            let is_it = |point| self.0.attached(point).is_some_and(|attached| attached.backend == *backend);
            self.0.tried().filter(|(point, _)| is_it(*point)).count()
        };
        let taken: Vec<(Backend, usize)> =
            Backend::ALL.iter().map(|backend| (*backend, times(backend))).filter(|(_, n)| *n > 0).collect();
        match taken.as_slice() {
            [] => f.write_str("no backend"),
            [(only, _)] => f.write_str(only.name()),
            several => several.iter().enumerate().try_for_each(|(index, (backend, times))| {
                write!(f, "{}{} {times}", if index == 0 { "" } else { ", " }, backend.name())
            }),
        }
    }
}

/// `without ip_queue_xmit, ip6_xmit: what follows (why)`.
struct GroupLine<'a> {
    group: &'a Group,
    paint: Paint,
}

impl fmt::Display for GroupLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group { points, consequence, why } = self.group;
        f.write_str("without ")?;
        for (index, point) in points.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            self.paint.tone(Tone::Notice, point.row().hop).fmt(f)?;
        }
        write!(f, ": {consequence}")?;
        if why.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.paint.tone(Tone::Faint, format_args!("({why})")))
        }
    }
}
