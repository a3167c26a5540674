//! Times for people.

use std::fmt::{self, Write as _};

use arrayvec::ArrayString;

use crate::export::{Human, rounded};

/// A duration in ns where the reader knows that it is in µs: 0.6, 12.4, 340; from 1 ms on with its unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(pub(super) u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        match rounded(ns, 100) {
            tenths @ ..1_000 => write!(f, "{}.{}", tenths / 10, tenths % 10),
            _ if rounded(ns, 1_000) < 1_000 => write!(f, "{}", rounded(ns, 1_000)),
            _ => Human(ns).fmt(f),
        }
    }
}

/// A duration in ns to the last digit, in µs: 12.345.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExactMicros(pub(super) u64);

impl fmt::Display for ExactMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = ArrayString::<32>::new();
        write!(text, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)?;
        f.pad(&text)
    }
}

/// The time of day, UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeOfDay {
    since_1970: u64,
    per_second: u64,
    digits: usize,
}

impl TimeOfDay {
    /// To the µs.
    pub(super) fn micros(monotonic_ns: u64, realtime_offset_ns: i64) -> Self {
        let ns = monotonic_ns.saturating_add_signed(realtime_offset_ns);
        Self { since_1970: ns / 1_000, per_second: 1_000_000, digits: 6 }
    }

    /// To the ns.
    pub(super) fn nanos(monotonic_ns: u64, realtime_offset_ns: i64) -> Self {
        let ns = monotonic_ns.saturating_add_signed(realtime_offset_ns);
        Self { since_1970: ns, per_second: 1_000_000_000, digits: 9 }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since_1970, per_second, digits } = *self;
        let (seconds, fraction) = (since_1970 / per_second, since_1970 % per_second);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{hour:02}:{minute:02}:{second:02}.{fraction:0digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micros_get_a_unit_when_they_are_none() {
        let cases = [
            (0, "0.0"),
            (612, "0.6"),
            (12_449, "12.4"),
            (99_950, "100"),
            (340_200, "340"),
            (1_523_000, "1.5 ms"),
        ];
        for (ns, text) in cases {
            assert_eq!(Micros(ns).to_string(), text, "{ns}");
        }
        assert_eq!(ExactMicros(12_005).to_string(), "12.005");
    }

    #[test]
    fn time_of_day_is_utc() {
        let (start, offset) =
            (crate::analyze::samples::START_NS, crate::analyze::samples::REALTIME_OFFSET_NS);
        assert_eq!(TimeOfDay::micros(start, offset).to_string(), "12:34:56.123456");
        assert_eq!(TimeOfDay::nanos(start, offset).to_string(), "12:34:56.123456789");
    }
}
