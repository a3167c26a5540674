//! The `tree` format: a line for the packet, and one for each hop.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

use arrayvec::ArrayString;
use tracer_common::probes::{Backend, Point};

use super::{
    PathWriter, Style, Summary, TimeFormat,
    beside::{Beside, News, Said},
    notes::Notes,
    paint::{Paint, Tone},
    subject::{DeviceName, Ends, Flags, Processes},
    summary,
    time::{ExactMicros, TimeOfDay},
};
use crate::{
    export::Human,
    model::{Coverage, Hop, Path, Routing, Shares, Unix},
};

/// The longest name of a hop, `unix_stream_connect`.
pub(super) const HOP: usize = 19;
/// A longer place must not push what stands behind the others aside: `tracepoint:skb:skb_copy_datagram_iovec`.
const WIDEST: usize = 38;

/// Writes each hop on a line of its own.
#[derive(Debug)]
pub struct TreeWriter {
    style: Style,
    paint: Paint,
    coverage: Coverage,
    /// Columns that the longest place takes.
    places: usize,
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
            places: places(coverage),
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
        if let Some(device) = path.device() {
            write!(buffer, "  dev {}", DeviceName(device))?;
        }
        if path.routing == Routing::Cached {
            buffer.extend_from_slice(b"  route cached");
        }
        if let Some(Unix { inode: inode @ 1.., .. }) = path.unix {
            write!(buffer, "  inode {inode}")?;
        }
        if let Some(notes) = Notes::of(path, "  ", "") {
            write!(buffer, "{}", paint.tone(Tone::Notice, notes))?;
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
        let mut news = News::of(path);
        for (hop, since) in path.steps() {
            let is_longest = before.is_some() && since == longest;
            self.write_time(hop, before.map(|_| since), is_longest, path.start_ns())?;
            self.write_place(hop, before.map(|before| before.cpu))?;
            if let Some(said) = news.at(hop) {
                self.write_said(hop, said)?;
            }
            self.buffer.push(b'\n');
            before = Some(hop);
        }
        if let Some(shares) = path.shares() {
            let Shares { kernel_ns, scheduler_ns, reader_ns } = shares;
            let (kernel, scheduler, reader) = (Human(kernel_ns), Human(scheduler_ns), Human(reader_ns));
            let parts = format_args!("kernel {kernel}, scheduler {scheduler}, reader {reader}");
            writeln!(self.buffer, "  {}", self.paint.tone(Tone::Faint, parts))?;
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
        let place = Place::of(hop, coverage);
        write!(buffer, "  {:<HOP$}  {}", hop.point.row().hop, paint.tone(Tone::Faint, place))
    }

    /// What the hop says beside, in a column of its own.
    fn write_said(&mut self, hop: &Hop, said: Said<'_>) -> io::Result<()> {
        let Self { buffer, paint, .. } = self;
        let gap = self.places.saturating_sub(Place::of(hop, &self.coverage).width());
        write!(buffer, "{:gap$}  {}", "", Beside { said, paint: *paint })
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

/// The width of the longest place of a run.
fn places(coverage: &Coverage) -> usize {
    let attached = Point::ALL.iter().filter_map(|point| coverage.attached(*point));
    let widths = attached.map(|at| Place { backend: at.backend, function: Some(&at.function) }.width());
    widths.max().unwrap_or(0).min(WIDEST)
}

/// By which means a hop was seen, and where.
struct Place<'a> {
    backend: Backend,
    function: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(hop: &Hop, coverage: &'a Coverage) -> Self {
        let function = coverage.attached(hop.point).map(|attached| attached.function.as_str());
        Self { backend: hop.backend, function }
    }

    /// In columns; names of functions are ASCII.
    fn width(&self) -> usize {
        self.backend.name().len() + self.function.map_or(0, |function| 1 + function.len())
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend.name())?;
        self.function.map_or(Ok(()), |function| write!(f, ":{function}"))
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
