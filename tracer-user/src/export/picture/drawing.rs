//! A picture with all that is said about it, for a page or as a part of a sheet.

use maud::{Markup, html};

use super::text::{Px, SIZE};

/// The width of every drawing, px.
pub(super) const WIDTH: f64 = 952.0;

/// A drawing.
pub(super) struct Drawing {
    /// What it shows.
    pub(super) title: String,
    /// How to read it, in a sentence or two.
    pub(super) caption: String,
    /// The same in words, for those who do not see it.
    pub(super) description: String,
    /// px.
    pub(super) height: f64,
    /// SVG elements between 0 and [`WIDTH`], 0 and `height`.
    pub(super) body: Markup,
}

impl Drawing {
    /// As an element of a page; no other one has that `id`.
    pub(super) fn inline(&self, id: &str) -> Markup {
        html! {
            svg viewBox={ "0 0 " (Px(WIDTH)) " " (Px(self.height)) } font-size=(SIZE) role="img"
                aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (self.title) }
                desc id={ (id) "-desc" } { (self.description) }
                (self.body)
            }
        }
    }
}
