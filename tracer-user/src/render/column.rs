//! A column that is as wide as the widest text it has held.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
};

use super::paint::{Paint, Tone};

/// Columns grow up to here: one long name must not push all that follows aside.
pub(super) const WIDEST: usize = 48;

/// A column, and the text of its current cell.
#[derive(Debug)]
pub(super) struct Column {
    width: usize,
    cell: String,
}

impl Column {
    /// A column of at least `width`.
    pub(super) fn new(width: usize) -> Self {
        Self { width, cell: String::new() }
    }

    /// Begins a cell.
    pub(super) fn set(&mut self, text: impl Display) -> io::Result<()> {
        self.cell.clear();
        self.append(text)
    }

    /// Adds to the cell.
    pub(super) fn append(&mut self, text: impl Display) -> io::Result<()> {
        write!(self.cell, "{text}").map_err(io::Error::other)
    }

    /// Writes the cell and fills it up.
    pub(super) fn write(&mut self, paint: Paint, tone: Tone, out: &mut impl Write) -> io::Result<()> {
        let width = self.cell.chars().count();
        self.width = self.width.max(width.min(WIDEST));
        let padding = self.width.saturating_sub(width);
        write!(out, "{}{:padding$}", paint.tone(tone, &self.cell), "")
    }
}
