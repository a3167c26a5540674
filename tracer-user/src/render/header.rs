//! What stands above the lines of the `table` format.

use std::io::{self, Write};

use super::{Style, TimeFormat, labels};
use crate::model::Coverage;

/// The width that a legend is wrapped at where the terminal's is not known.
const WRAP: usize = 160;

/// Writes the names of the columns, padded as the first line will be. Short names of hops are explained first.
pub(super) fn write(
    style: Style,
    coverage: &Coverage,
    full_names: bool,
    (ends, device): (usize, usize),
    out: &mut impl Write,
) -> io::Result<()> {
    if !full_names {
        legend(style, coverage, out)?;
    }
    let path = match style.time {
        TimeFormat::Delta => "PATH, with µs between hops; @N: on CPU N from here",
        TimeFormat::Relative => "PATH, with µs since the first hop; @N: on CPU N from here",
        TimeFormat::Absolute => "PATH, with the time of day (UTC) at each hop; @N: on CPU N from here",
    };
    writeln!(
        out,
        "{:<15}  {:<ends$}  {:<6} {:>5}  {:>6}  {:<device$}  {path}",
        "TIME (UTC)", "FLOW", "FLAGS", "LEN", "TOTAL", "DEV"
    )
}

/// `short=full` for every hop that can be seen, wrapped.
fn legend(style: Style, coverage: &Coverage, out: &mut impl Write) -> io::Result<()> {
    let wrap = style.width.map_or(WRAP, usize::from);
    let mut column = 0;
    for (point, _) in coverage.tried().filter(|(point, _)| coverage.sees(*point)) {
        let (short, full) = (labels::short(point), point.row().hop);
        if short == full {
            continue;
        }
        let width = short.len() + 1 + full.len();
        if column > 0 && column + 2 + width > wrap {
            writeln!(out)?;
            column = 0;
        }
        let gap = if column > 0 { "  " } else { "" };
        write!(out, "{gap}{short}={full}")?;
        column += gap.len() + width;
    }
    if column > 0 { writeln!(out) } else { Ok(()) }
}
