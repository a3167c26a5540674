//! Text on pictures: what it says, how wide it is, where its lines end.

use std::fmt;

use maud::{Markup, html};

use crate::export::{Human, Printable};

/// The height of the letters, px, where nothing else is said.
pub(super) const SIZE: f64 = 12.0;
/// The height of the letters where room is short, px.
pub(super) const SMALL: f64 = 11.0;
/// The width of a letter as part of its height: of labels in the widest font that the style sheet names, the last one.
pub(super) const LETTER: f64 = 0.62;
/// The same of sentences, which have many narrow letters and spaces.
pub(super) const LETTER_OF_PROSE: f64 = 0.54;

/// A length on a picture, px.
#[derive(Clone, Copy, Debug)]
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A tenth is more than a screen shows.
        write!(f, "{:.1}", self.0)
    }
}

/// How wide a text is about, px.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * LETTER * size
}

/// Which end of a text is at its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Text on a picture. `class` is one of the style sheet's.
pub(super) fn text(x: f64, y: f64, anchor: Anchor, class: &str, says: impl fmt::Display) -> Markup {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    html! { text x=(Px(x)) y=(Px(y)) text-anchor=(anchor) class=(class) { (says) } }
}

/// The lines of a text from outside; what steers a terminal or no XML may hold is replaced.
pub(super) fn lines(from_outside: &str) -> Vec<String> {
    from_outside.lines().map(|line| Printable(line.as_bytes()).to_string()).collect()
}

/// The lines of a text from outside, none wider than this, px, if a letter is as wide as `letter` says.
pub(super) fn wrapped(from_outside: &str, most: f64, letter: f64) -> Vec<String> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a picture is some hundred letters wide"
    )]
    let letters = (most / (letter * SIZE)) as usize;
    let lines = lines(from_outside);
    let wrap =
        |line: &String| textwrap::wrap(line, letters).into_iter().map(String::from).collect::<Vec<_>>();
    lines.iter().flat_map(wrap).collect()
}

/// A time, ns, for people.
pub(super) fn human(ns: f64) -> Human {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    Human(ns.round() as u64)
}

/// A part of a whole, for people: −3 %, 0.4 %, 62 %.
#[derive(Clone, Copy, Debug)]
pub(super) struct Percent(pub(super) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0.abs() * 100.0;
        let sign = if self.0 < 0.0 && percent >= 0.05 { "−" } else { "" };
        let digits = usize::from(percent > 0.0 && percent < 9.95 && percent.fract() > 0.0);
        write!(f, "{sign}{percent:.digits$} %")
    }
}

/// A number with room between its thousands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grouped(pub(super) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            // A space at which no line ends.
            let begins_group = at > 0 && (digits.len() - at).is_multiple_of(3);
            write!(f, "{}{digit}", if begins_group { "\u{a0}" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let percent = |part| Percent(part).to_string();
        assert_eq!(
            [0.0, 0.004, 0.098, 0.624, 1.0, 2.5].map(percent),
            ["0 %", "0.4 %", "9.8 %", "62 %", "100 %", "250 %"]
        );
        assert_eq!([-0.031, -0.000_1].map(percent), ["−3.1 %", "0.0 %"]);
        let grouped = |number| Grouped(number).to_string();
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1\u{a0}000", "1\u{a0}234\u{a0}567"]
        );
    }

    #[test]
    fn text_from_outside_is_escaped_and_steers_nothing() {
        let markup = text(0.0, 1.25, Anchor::Start, "faint", "<a href=\"x\">&</a>").into_string();
        assert_eq!(
            markup,
            r#"<text x="0.0" y="1.2" text-anchor="start" class="faint">&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;</text>"#
        );
        assert_eq!(lines("a\u{1b}[31m\u{202e}b\nc"), ["a\u{fffd}[31m\u{fffd}b", "c"]);
    }

    #[test]
    fn lines_end_before_they_are_too_long() {
        let text = format!("{} {}", "word ".repeat(30), "x".repeat(200));
        for line in wrapped(&text, 400.0, LETTER) {
            assert!(width(&line, SIZE) <= 400.0, "{line}");
        }
    }
}
