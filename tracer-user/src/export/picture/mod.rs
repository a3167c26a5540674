//! A comparison as a picture, for papers and pages: bars of stages, the spread of the times, the ways hop by hop, and the
//! figures.

mod drawing;
mod figures;
mod grid;
mod latency;
mod ledger;
mod page;
mod scale;
mod sheet;
mod spread;
mod stages;
mod story;
#[cfg(test)]
mod tests;
mod text;
mod ways;

use std::io::{self, Write};

use crate::comparison::Comparison;

/// The colours of all that is drawn. No `<` and no `&`: it stands in XML as it is.
const STYLE: &str = include_str!("drawing.css");

/// What is known of a comparison besides what was measured. All of it is shown as it is; it may be from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The kernel's name and release.
    pub kernel: &'a str,
    /// When it was measured.
    pub time: &'a str,
    /// The command line that did it.
    pub command: &'a str,
    /// What follows from the figures, in words: one for each of [`Comparison::sizes`]. Missing ones are left out.
    pub conclusions: &'a [String],
}

/// Writes all of it as one SVG document.
pub fn write_svg(comparison: &Comparison, facts: &Facts<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", sheet::sheet(comparison, facts).into_string())
}

/// Writes all of it as one HTML page that needs nothing else: no network, no script.
pub fn write_html(comparison: &Comparison, facts: &Facts<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", page::page(comparison, facts).into_string())
}
