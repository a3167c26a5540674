//! One picture of all, to be put anywhere.

use maud::{Markup, PreEscaped, html};

use super::{
    Facts, STYLE,
    drawing::{Drawing, WIDTH},
    grid,
    story::{Chapter, chapters, evidence, title},
    text::{Anchor, LETTER, LETTER_OF_PROSE, Px, SIZE, text, wrapped},
};
use crate::comparison::Comparison;

/// Around everything, px.
const MARGIN: f64 = 24.0;
/// From line to line of text, px.
const LINE: f64 = 18.0;
/// What stands before the evidence, px.
const TERMS: f64 = 84.0;

/// The whole picture as a document.
pub(super) fn sheet(comparison: &Comparison, facts: &Facts<'_>) -> Markup {
    let title = title(comparison);
    let chapters = chapters(comparison, facts);
    let mut sheet = Sheet { bottom: 0.0, parts: Vec::new() };
    sheet.line(30.0, 22.0, "strong", &title);
    for chapter in &chapters {
        sheet.chapter(chapter);
    }
    sheet.evidence(comparison, facts);
    let (width, height) = (WIDTH + 2.0 * MARGIN, sheet.bottom + 2.0 * MARGIN);
    let descriptions =
        chapters.iter().flat_map(|chapter| &chapter.drawings).map(|drawing| &drawing.description);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(Px(width)) height=(Px(height))
            viewBox={ "0 0 " (Px(width)) " " (Px(height)) } font-size=(SIZE) role="img" aria-labelledby="title desc" {
            title id="title" { (title) }
            desc id="desc" { @for description in descriptions { (description) " " } }
            style { (PreEscaped(STYLE)) }
            rect class="paper" width="100%" height="100%" {}
            g transform={ "translate(" (Px(MARGIN)) " " (Px(MARGIN)) ")" } {
                @for part in &sheet.parts { (part) }
            }
        }
    }
}

/// A sheet that grows downwards.
struct Sheet {
    /// So much is used, px.
    bottom: f64,
    parts: Vec<Markup>,
}

impl Sheet {
    /// A line of text that takes `height` px, with letters of `size` px.
    fn line(&mut self, height: f64, size: f64, class: &str, says: &str) {
        self.bottom += height;
        let y = self.bottom - height * 0.3;
        self.parts.push(html! { text x="0" y=(Px(y)) class=(class) font-size=(size) { (says) } });
    }

    fn paragraph(&mut self, class: &str, says: &str) {
        for line in wrapped(says, WIDTH, LETTER_OF_PROSE) {
            self.line(LINE, SIZE, class, &line);
        }
    }

    fn part(&mut self, height: f64, body: &Markup) {
        self.parts.push(html! { g transform={ "translate(0 " (Px(self.bottom)) ")" } { (body) } });
        self.bottom += height;
    }

    fn chapter(&mut self, chapter: &Chapter) {
        self.bottom += LINE;
        self.line(26.0, 18.0, "strong", &chapter.heading);
        self.paragraph("", &chapter.conclusion);
        self.bottom += 6.0;
        self.part(grid::height(&chapter.figures), &grid::draw(&chapter.figures));
        for Drawing { title, caption, height, body, .. } in &chapter.drawings {
            self.bottom += LINE;
            self.line(22.0, 14.0, "strong", title);
            self.paragraph("faint", caption);
            self.bottom += 8.0;
            self.part(*height, body);
        }
    }

    fn evidence(&mut self, comparison: &Comparison, facts: &Facts<'_>) {
        self.bottom += LINE;
        self.line(26.0, 18.0, "strong", "How this was measured");
        for (what, says) in evidence(comparison, facts) {
            for (at, line) in wrapped(&says, WIDTH - TERMS, LETTER).iter().enumerate() {
                self.bottom += LINE;
                let y = self.bottom - 5.0;
                self.parts.push(html! {
                    @if at == 0 { (text(0.0, y, Anchor::Start, "faint", what)) }
                    (text(TERMS, y, Anchor::Start, "", line))
                });
            }
        }
    }
}
