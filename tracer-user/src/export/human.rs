//! Times for people.

use std::fmt::{self, Write as _};

use arrayvec::ArrayString;

/// A duration in ns, to two or three digits: 950 ns, 1.2 µs, 34 µs, 1.5 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Human(pub u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        // The longest is 20 digits and a unit.
        let mut text = ArrayString::<32>::new();
        if ns < 1_000 {
            write!(text, "{ns} ns")?;
        } else if let Some((unit, name)) = unit_of(ns) {
            match rounded(ns, unit / 10) {
                tenths @ ..100 => write!(text, "{}.{} {name}", tenths / 10, tenths % 10)?,
                _ => write!(text, "{} {name}", rounded(ns, unit))?,
            }
        }
        f.pad(&text)
    }
}

/// The largest unit in which the duration, rounded, is at least 1 and below 1000.
fn unit_of(ns: u64) -> Option<(u64, &'static str)> {
    const UNITS: [(u64, &str); 3] = [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")];
    UNITS.into_iter().find(|(unit, _)| rounded(ns, *unit) < 1_000).or(UNITS.last().copied())
}

/// A number of units, rounded.
pub(crate) fn rounded(ns: u64, unit: u64) -> u64 {
    ns / unit + u64::from(ns % unit >= unit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_or_three_digits() {
        let cases = [
            (0, "0 ns"),
            (950, "950 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (1_249, "1.2 µs"),
            (9_949, "9.9 µs"),
            (9_950, "10 µs"),
            (34_000, "34 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (1_523_000, "1.5 ms"),
            (59_900_000_000, "60 s"),
            (u64::MAX, "18446744074 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(Human(ns).to_string(), text, "{ns}");
        }
        assert_eq!(format!("{:>8}", Human(34_000)), "   34 µs");
    }
}
