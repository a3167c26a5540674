//! The end of a run for people: how long each step took, and how far to believe it.

use std::io::{self, Write};

use comfy_table::{Cell, Table};

use super::{
    PathWriter, Style, Summary,
    grid::{bold, grid, write_grid},
    trust::write_trust,
};
use crate::{
    analyze::{Class, Counted, Row},
    export::Human,
    model::Path,
};

const HEADINGS: [&str; 7] = ["STEP TO", "COUNT", "P50", "P90", "P99", "MAX", "SHARE"];

/// Writes the table of latencies, if anything was seen, and the trust line.
pub fn write_summary(summary: &Summary<'_>, style: Style, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let rows = summary.table.rows();
    if rows.is_empty() {
        out.write_all(b"No path was seen.\n\n")?;
    } else {
        write_grid(&table(&rows, style), out)?;
        out.write_all(b"\n")?;
    }
    write_trust(summary, style, out)
}

/// The steps of each class of traffic under its title.
fn table(rows: &[Row], style: Style) -> Table {
    let mut table = grid(HEADINGS, style);
    for class in Class::ALL {
        let mut of_class = rows.iter().filter(|row| row.class == class).peekable();
        if of_class.peek().is_some() {
            table.add_row([bold(class.title())]);
        }
        for row in of_class {
            table.add_row(cells(row));
        }
    }
    table
}

fn cells(row: &Row) -> Vec<Cell> {
    let name = row.what.name();
    let name = match row.what {
        Counted::Step(_) => Cell::new(format_args!("  {name}")),
        Counted::Total => bold(format_args!("  {name}")),
        Counted::Share(_) => Cell::new(format_args!("    {name}")),
    };
    let mut cells = vec![name, Cell::new(row.count)];
    match row.times {
        Some(times) => {
            cells.extend(
                [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(|ns| Cell::new(Human(ns))),
            );
        }
        None => cells.extend(["-"; 4].map(Cell::new)),
    }
    if let Some(share) = row.share {
        cells.push(Cell::new(format!("{:.1} %", share * 100.0)));
    }
    cells
}

/// Any format without its paths: only what it says at the end.
#[derive(Debug)]
pub struct SummaryOnly<W>(pub W);

impl<W: PathWriter> PathWriter for SummaryOnly<W> {
    fn path(&mut self, _: &Path, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.0.summary(summary, out)
    }
}
