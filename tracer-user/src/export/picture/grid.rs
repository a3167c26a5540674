//! A table of text as a part of a sheet.

use maud::{Markup, html};

use super::{
    drawing::WIDTH,
    figures::Table,
    text::{Anchor, Px, SIZE, text, width},
};

/// From row to row, px.
const ROW: f64 = 21.0;
/// Between columns, px; more if there is room.
const GUTTER: f64 = 14.0;
/// Columns further apart than this are no table any more, px.
const WIDEST_GUTTER: f64 = 40.0;

/// How high it will be, px.
pub(super) fn height(table: &Table) -> f64 {
    (table.rows.len() + 1) as f64 * ROW + 4.0
}

/// The table; all columns but the first are right-aligned.
pub(super) fn draw(table: &Table) -> Markup {
    let ends = ends(table);
    let cell = |at: usize, y: f64, class: &str, says: &str| match at {
        0 => text(0.0, y, Anchor::Start, "strong", says),
        _ => text(ends[at], y, Anchor::End, class, says),
    };
    html! {
        @for (at, says) in table.head.iter().enumerate() { (cell(at, 14.0, "faint", says)) }
        line class="rule" x1="0" x2=(Px(ends.last().copied().unwrap_or(0.0))) y1=(Px(ROW)) y2=(Px(ROW)) {}
        @for (row, cells) in table.rows.iter().enumerate() {
            @for (at, says) in cells.iter().enumerate() { (cell(at, (row + 1) as f64 * ROW + 15.0, "", says)) }
        }
    }
}

/// Where each column ends, px.
fn ends(table: &Table) -> Vec<f64> {
    let widths = (0..table.head.len()).map(|at| {
        let cells = table.rows.iter().filter_map(|row| row.get(at)).map(String::as_str);
        cells.chain([table.head[at]]).map(|says| width(says, SIZE)).fold(0.0, f64::max)
    });
    let widths: Vec<f64> = widths.collect();
    let gutters = widths.len().saturating_sub(1).max(1) as f64;
    let gutter = ((WIDTH - widths.iter().sum::<f64>()) / gutters).clamp(GUTTER, WIDEST_GUTTER);
    let end = |end: &mut f64, (at, width): (usize, f64)| {
        *end += width + if at == 0 { 0.0 } else { gutter };
        Some(*end)
    };
    widths.into_iter().enumerate().scan(0.0, end).collect()
}
