//! One page of all, which needs nothing but itself.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Facts, STYLE,
    figures::Table,
    story::{Chapter, chapters, evidence, title},
    text::lines,
};
use crate::comparison::Comparison;

/// How the page is laid out; colours are in [`STYLE`].
const LAYOUT: &str = include_str!("page.css");

/// The whole page as a document.
pub(super) fn page(comparison: &Comparison, facts: &Facts<'_>) -> Markup {
    let title = title(comparison);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Whatever a name from outside might smuggle in, nothing is fetched and no script runs.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "pathtrace compare: " (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(LAYOUT)) }
            }
            body {
                main {
                    h1 { (title) }
                    @for (at, told) in chapters(comparison, facts).iter().enumerate() { (chapter(at, told)) }
                    section {
                        h2 { "How this was measured" }
                        dl { @for (what, says) in evidence(comparison, facts) { dt { (what) } dd { (says) } } }
                    }
                }
            }
        }
    }
}

fn chapter(at: usize, chapter: &Chapter) -> Markup {
    html! {
        section {
            h2 { (chapter.heading) }
            @for line in lines(&chapter.conclusion) { p { (line) } }
            div class="figures" { (table(&chapter.figures)) }
            @for (number, drawing) in chapter.drawings.iter().enumerate() {
                figure {
                    h3 { (drawing.title) }
                    figcaption { (drawing.caption) }
                    (drawing.inline(&format!("figure-{at}-{number}")))
                }
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        table {
            thead { tr { @for name in &table.head { th scope="col" { (name) } } } }
            tbody {
                @for row in &table.rows {
                    tr {
                        @for (at, cell) in row.iter().enumerate() {
                            @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                        }
                    }
                }
            }
        }
    }
}
