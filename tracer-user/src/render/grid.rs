//! Tables without lines; of figures, the first column to the left, all others to the right.

use std::{
    fmt::Display,
    io::{self, Write},
};

use comfy_table::{Attribute, Cell, CellAlignment, Row, Table, presets};

use super::Style;

/// A table of which only the headings are there, all columns to the left.
pub(super) fn list(headings: impl Into<Row>, style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if style.color {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table.set_header(headings);
    table
}

/// The same for figures.
pub(super) fn grid(headings: impl Into<Row>, style: Style) -> Table {
    let mut table = list(headings, style);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes a table.
pub(super) fn write_grid(table: &Table, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A cell that the eye looks for.
pub(super) fn bold(what: impl Display) -> Cell {
    Cell::new(what).add_attribute(Attribute::Bold)
}
