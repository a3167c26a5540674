//! The `json` format: the contract is in `export::json`.

use std::io::{self, Write};

use super::{PathWriter, Style, Summary};
use crate::{
    export::json::{self, PathLines},
    model::{Coverage, Path},
};

/// Writes JSON Lines.
#[derive(Debug)]
pub struct JsonWriter {
    lines: PathLines,
    buffer: Vec<u8>,
}

impl JsonWriter {
    /// A writer for a run that sees `coverage`.
    pub fn new(style: Style, coverage: &Coverage) -> Self {
        Self { lines: PathLines::new(coverage, style.realtime_offset_ns), buffer: Vec::new() }
    }
}

impl PathWriter for JsonWriter {
    fn path(&mut self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        self.buffer.clear();
        self.lines.write(path, &mut self.buffer)?;
        out.write_all(&self.buffer)
    }

    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.buffer.clear();
        json::write_summary(summary, &mut self.buffer)?;
        out.write_all(&self.buffer)
    }
}
