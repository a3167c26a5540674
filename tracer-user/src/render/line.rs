//! The `table` format: a line for each path. What has a fixed width stands in front, the path, which has none, last.

use std::io::{self, Write};

use tracer_common::probes::{Point, Traffic};

use super::{
    PathWriter, Style, Summary, TimeFormat,
    beside::{News, Said},
    column::{Column, WIDEST},
    header, labels,
    notes::Notes,
    paint::{Paint, Tone},
    socket::Socket,
    subject::{Answer, DeviceName, Ends, Flags, Reason},
    summary,
    time::{Micros, TimeOfDay},
};
use crate::{
    analyze::Class,
    export::{Extra, Human},
    model::{Coverage, Hop, Incomplete, Path},
};

/// Columns that a path over TCP needs with the full names of its hops. Narrower terminals get short names.
const WIDE: u16 = 240;
/// Two IPv4 addresses of the loopback net with ports.
const ENDS: usize = 33;
/// `lo` and `eth0`.
const DEVICE: usize = 4;

/// Writes a line for each path.
#[derive(Debug)]
pub struct LineWriter {
    style: Style,
    paint: Paint,
    full_names: bool,
    /// What the hops are called, by `Point as usize`.
    names: Vec<&'static str>,
    coverage: Coverage,
    begun: bool,
    ends: Column,
    device: Column,
    line: Vec<u8>,
}

impl LineWriter {
    /// A writer for a run that sees `coverage`.
    pub fn new(style: Style, coverage: &Coverage) -> Self {
        let full_names = style.width.is_none_or(|width| width >= WIDE);
        let name = |point: &Point| if full_names { point.row().hop } else { labels::short(*point) };
        Self {
            style,
            paint: Paint(style.color),
            full_names,
            names: Point::ALL.iter().map(name).collect(),
            coverage: coverage.clone(),
            begun: false,
            ends: Column::new(ends_width(coverage)),
            device: Column::new(DEVICE),
            line: Vec::new(),
        }
    }

    fn write_subject(&mut self, path: &Path) -> io::Result<()> {
        let Self { line, paint, ends, device, .. } = self;
        let time = TimeOfDay::micros(path.start_ns(), self.style.realtime_offset_ns);
        write!(line, "{}  ", paint.tone(Tone::Faint, time))?;

        if Class::of(path) == Class::Unix {
            ends.set(Socket { path, width: self.style.width.map(|_| WIDEST) })?;
        } else {
            ends.set(Ends(path))?;
        }
        ends.write(*paint, Tone::Strong, line)?;

        write!(line, "  {:<6} {:>5}  ", Flags(path), path.len)?;
        // The time until track was lost is no total.
        match path.incomplete {
            None => write!(line, "{:>6}  ", Human(path.total_ns()))?,
            Some(_) => write!(line, "{:>6}  ", "-")?,
        }
        match path.device() {
            Some(through) => device.set(DeviceName(through))?,
            None => device.set("-")?,
        }
        device.write(Paint(false), Tone::Faint, line)
    }

    fn write_hops(&mut self, path: &Path) -> io::Result<()> {
        let Self { line, paint, .. } = self;
        line.extend_from_slice(b"  ");
        if let Some(notes) = Notes::of(path, "", ": ") {
            write!(line, "{}", paint.tone(Tone::Notice, notes))?;
        }
        if path.incomplete == Some(Incomplete::StartNotSeen) {
            line.extend_from_slice("… ".as_bytes());
        }
        let mut cpu = None;
        let mut news = News::of(path);
        for (index, (hop, since)) in path.steps().enumerate() {
            if index > 0 {
                self.line.push(b' ');
            }
            if index > 0 || self.style.time == TimeFormat::Absolute {
                self.write_time(hop, since, path.start_ns())?;
            }
            self.write_hop(hop, news.at(hop).as_ref())?;
            let cpu_before = cpu.replace(hop.cpu);
            if cpu_before != Some(hop.cpu) {
                let tone = if cpu_before.is_some() { Tone::Notice } else { Tone::Faint };
                write!(self.line, "{}", self.paint.tone(tone, format_args!("@{}", hop.cpu)))?;
            }
        }
        if let Some(why) = path.incomplete {
            let gap = if why == Incomplete::StartNotSeen { "" } else { " …" };
            let paint = self.paint;
            write!(
                self.line,
                "{gap}  {}",
                paint.tone(Tone::Alarm, format_args!("INCOMPLETE: {}", why.reason()))
            )?;
        }
        self.line.push(b'\n');
        Ok(())
    }

    fn write_time(&mut self, hop: &Hop, since_ns: u64, start_ns: u64) -> io::Result<()> {
        let Self { line, paint, .. } = self;
        match self.style.time {
            TimeFormat::Delta => {
                write!(line, "{} ", paint.tone(Tone::Faint, format_args!("+{}", Micros(since_ns))))
            }
            TimeFormat::Relative => {
                let since_start = Micros(hop.time_ns.saturating_sub(start_ns));
                write!(line, "{} ", paint.tone(Tone::Faint, since_start))
            }
            TimeFormat::Absolute => {
                let time = TimeOfDay::nanos(hop.time_ns, self.style.realtime_offset_ns);
                write!(line, "{} ", paint.tone(Tone::Faint, time))
            }
        }
    }

    /// The hop, and what is new there.
    fn write_hop(&mut self, hop: &Hop, said: Option<&Said<'_>>) -> io::Result<()> {
        let Self { line, paint, .. } = self;
        line.extend_from_slice(self.names[hop.point as usize].as_bytes());
        match said.map(|said| said.extra) {
            Some(Extra::Route(route)) => write!(line, "({})", Answer(route)),
            Some(Extra::Device(device)) => write!(line, "({})", DeviceName(device)),
            Some(Extra::Dropped(dropped)) => {
                write!(line, " {}", paint.tone(Tone::Alarm, format_args!("DROPPED: {}", Reason(dropped))))
            }
            // The `@` at the next hop says it.
            Some(Extra::TargetCpu(_)) | None => Ok(()),
        }
    }
}

/// Where UNIX sockets are seen there will be names and processes, and the column is as wide as it may get from the
/// beginning: else each of them would push what follows aside.
fn ends_width(coverage: &Coverage) -> usize {
    let sees_unix =
        Point::ALL.iter().any(|point| point.row().traffic == Traffic::Unix && coverage.sees(*point));
    if sees_unix { WIDEST } else { ENDS }
}

impl PathWriter for LineWriter {
    fn path(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        self.line.clear();
        if !self.begun {
            self.begun = true;
            let widths = (ends_width(&self.coverage), DEVICE);
            header::write(self.style, &self.coverage, self.full_names, widths, &mut self.line)?;
        }
        self.write_subject(path)?;
        self.write_hops(path)?;
        out.write_all(&self.line)
    }

    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        if self.begun {
            out.write_all(b"\n")?;
        }
        summary::write_summary(summary, self.style, out)
    }
}
