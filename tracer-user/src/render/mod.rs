//! Paths for people, and the choice between the formats. A format is a file with a [`PathWriter`] in it.

mod banner;
mod beside;
mod column;
mod comparison;
mod doctor;
mod grid;
mod header;
mod json;
mod labels;
mod line;
mod notes;
mod paint;
mod proof;
mod socket;
mod subject;
mod summary;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod trust;
mod unattached;

use std::io::{self, Write};

pub use banner::{Start, write_banner};
pub use comparison::write_comparison;
pub use doctor::write_diagnosis;
pub use json::JsonWriter;
pub use line::LineWriter;
pub use proof::write_proof;
pub use summary::{SummaryOnly, write_summary};
pub use tree::TreeWriter;
pub use trust::write_trust;

pub use crate::analyze::Summary;
use crate::model::{Coverage, Path};

/// Which times are shown at the hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// Since the hop before.
    #[default]
    Delta,
    /// Since the first hop of the path.
    Relative,
    /// The time of day, UTC.
    Absolute,
}

/// How people want to see things.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether to use the colours of a terminal.
    pub color: bool,
    /// Which times are shown at the hops.
    pub time: TimeFormat,
    /// What makes a `CLOCK_MONOTONIC` time one since 1970, ns.
    pub realtime_offset_ns: i64,
    /// Columns of the terminal; `None` if the output is none, which has room for everything.
    pub width: Option<u16>,
}

/// The formats of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line for each path.
    #[default]
    Table,
    /// A line for each hop.
    Tree,
    /// JSON Lines.
    Json,
}

/// Writes a run in some format: each path as it comes, then the summary.
pub trait PathWriter {
    /// Writes a path.
    fn path(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()>;

    /// Writes what is said at the end.
    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()>;
}

/// The writer for a format. `coverage` names the functions that the hops stand for.
pub fn writer(format: Format, style: Style, coverage: &Coverage) -> Box<dyn PathWriter + Send> {
    match format {
        Format::Table => Box::new(LineWriter::new(style, coverage)),
        Format::Tree => Box::new(TreeWriter::new(style, coverage)),
        Format::Json => Box::new(JsonWriter::new(style, coverage)),
    }
}

impl<W: PathWriter + ?Sized> PathWriter for Box<W> {
    fn path(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        (**self).path(path, out)
    }

    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        (**self).summary(summary, out)
    }
}
