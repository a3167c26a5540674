//! The `tree` format: a line for the packet, and one for each hop.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

use arrayvec::ArrayString;

use super::{
    PathWriter, Style, Summary, TimeFormat,
    paint::{Paint, Tone},
    subject::{DeviceName, Ends, Flags, Processes},
    summary,
    time::{ExactMicros, Human, TimeOfDay},
};
use crate::{
    export::Extra,
    model::{Coverage, Device, Hop, Path},
};

/// The longest name of a hop, `unix_stream_connect`.
const HOP: usize = 19;

/// Writes each hop on a line of its own.
#[derive(Debug)]
pub struct TreeWriter {
    style: Style,
    paint: Paint,
    coverage: Coverage,
    begun: bool,
    buffer: Vec<u8>,
}

impl TreeWriter {
    /// A writer for a run that sees `coverage`.
    pub fn new(style: Style, coverage: &Coverage) -> Self {
        Self {
            style,
            paint: Paint(style.color),
            coverage: coverage.clone(),
            begun: false,
            buffer: Vec::new(),
        }
    }

    fn write_subject(&mut self, path: &Path) -> io::Result<()> {
        let Self { buffer, paint, style, .. } = self;
        let time = TimeOfDay::micros(path.start_ns(), style.realtime_offset_ns);
        write!(buffer, "{}", paint.tone(Tone::Faint, format_args!("#{} {time} UTC", path.id)))?;
        write!(buffer, "  {}  {}", paint.tone(Tone::Strong, Ends(path)), Flags(path))?;
        if let Some(tcp) = path.tcp {
            write!(buffer, " seq {} ack {}", tcp.seq, tcp.ack)?;
        }
        write!(buffer, " len {}", path.len)?;
        if let Some(device) = &path.device {
            write!(buffer, "  dev {}", DeviceName(device))?;
        }
        if path.sender.is_some() || path.receiver.is_some() {
            write!(buffer, "  {}", Processes(path))?;
        }
        match path.incomplete {
            None => writeln!(
                buffer,
                "  {}",
                paint.tone(Tone::Strong, format_args!("total {}", Human(path.total_ns())))
            ),
            Some(why) => writeln!(
                buffer,
                "  {}",
                paint.tone(Tone::Alarm, format_args!("INCOMPLETE: {}", why.reason()))
            ),
        }
    }

    fn write_hops(&mut self, path: &Path) -> io::Result<()> {
        let longest = path.steps().map(|(_, since)| since).max().unwrap_or(0);
        let mut before: Option<&Hop> = None;
        let mut ifindex = path.device.as_ref().map(|device| device.ifindex);
        for (hop, since) in path.steps() {
            let is_longest = before.is_some() && since == longest;
            self.write_time(hop, before.map(|_| since), is_longest, path.start_ns())?;
            self.write_place(hop, before.map(|before| before.cpu))?;
            self.write_extra(hop, path, &mut ifindex)?;
            self.buffer.push(b'\n');
            before = Some(hop);
        }
        Ok(())
    }

    fn write_time(
        &mut self,
        hop: &Hop,
        since_ns: Option<u64>,
        is_longest: bool,
        start_ns: u64,
    ) -> io::Result<()> {
        let Self { buffer, paint, style, .. } = self;
        if style.time == TimeFormat::Absolute {
            let time = TimeOfDay::nanos(hop.time_ns, style.realtime_offset_ns);
            write!(buffer, "  {}", paint.tone(Tone::Faint, time))?;
        } else {
            let offset = ExactMicros(hop.time_ns.saturating_sub(start_ns));
            write!(buffer, "  {:>10} µs", paint.tone(Tone::Faint, offset))?;
        }
        match since_ns {
            Some(since) if is_longest => {
                write!(buffer, "  {:>8}", paint.tone(Tone::Strong, Plus(since)))
            }
            Some(since) => write!(buffer, "  {:>8}", Plus(since)),
            None => write!(buffer, "  {:>8}", ""),
        }
    }

    /// CPU, hop and function.
    fn write_place(&mut self, hop: &Hop, cpu_before: Option<u32>) -> io::Result<()> {
        let Self { buffer, paint, coverage, .. } = self;
        match cpu_before {
            Some(before) if before != hop.cpu => {
                write!(buffer, "  CPU {:<5}", paint.tone(Tone::Notice, Moved(before, hop.cpu)))?;
            }
            _ => write!(buffer, "  CPU {:<5}", hop.cpu)?,
        }
        write!(buffer, "  {:<HOP$}  ", hop.point.row().hop)?;
        let backend = hop.backend.name();
        match coverage.attached(hop.point) {
            Some(attached) => {
                write!(buffer, "{}", paint.tone(Tone::Faint, format_args!("{backend}:{}", attached.function)))
            }
            None => write!(buffer, "{}", paint.tone(Tone::Faint, backend)),
        }
    }

    /// What the hop says beside; the device only where it is not the one that was said last.
    fn write_extra(&mut self, hop: &Hop, path: &Path, ifindex: &mut Option<u32>) -> io::Result<()> {
        let out = &mut self.buffer;
        match Extra::of(hop) {
            Some(Extra::Table(table)) => match Extra::table_name(table) {
                Some(name) => write!(out, "  table {name} ({table})"),
                None => write!(out, "  table {table}"),
            },
            Some(Extra::TargetCpu(cpu)) => write!(out, "  to CPU {cpu}"),
            Some(Extra::Interface(index)) if ifindex.replace(index) != Some(index) => {
                match path.device.as_ref().filter(|device| device.ifindex == index) {
                    Some(device) => write!(out, "  dev {}", DeviceName(device)),
                    None if index == Device::LOOPBACK => write!(out, "  dev lo"),
                    None => write!(out, "  dev if{index}"),
                }
            }
            _ => Ok(()),
        }
    }
}

impl PathWriter for TreeWriter {
    fn path(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        self.begun = true;
        self.buffer.clear();
        self.write_subject(path)?;
        self.write_hops(path)?;
        out.write_all(&self.buffer)
    }

    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        if self.begun {
            out.write_all(b"\n")?;
        }
        summary::write_summary(summary, self.style, out)
    }
}

/// A duration in ns as an increase.
struct Plus(u64);

impl fmt::Display for Plus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ArrayString::<32>::new();
        write!(text, "+{}", Human(self.0))?;
        f.pad(&text)
    }
}

/// From one CPU to another.
struct Moved(u32, u32);

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ArrayString::<32>::new();
        write!(text, "{}→{}", self.0, self.1)?;
        f.pad(&text)
    }
}
