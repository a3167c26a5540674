//! Colours, few and with a meaning each.

use std::fmt;

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// What the eye looks for.
    Strong,
    /// What repeats on every line.
    Faint,
    /// What is unusual: another CPU.
    Notice,
    /// What limits how far the output can be believed.
    Alarm,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// `what` in a tone. Widths given to the result count what is seen.
    pub(super) fn tone<T: fmt::Display>(self, tone: Tone, what: T) -> Painted<T> {
        Painted { tone: self.0.then_some(tone), what }
    }
}

/// Text in a tone.
pub(super) struct Painted<T> {
    tone: Option<Tone>,
    what: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(tone) = self.tone else { return self.what.fmt(f) };
        f.write_str(match tone {
            Tone::Strong => "\x1b[1m",
            Tone::Faint => "\x1b[2m",
            Tone::Notice => "\x1b[33m",
            Tone::Alarm => "\x1b[31m",
        })?;
        self.what.fmt(f)?;
        f.write_str("\x1b[0m")
    }
}
