//! From times to places on a picture.

/// Times are laid out evenly from 0 on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    longest_ns: f64,
    from: f64,
    to: f64,
}

impl Linear {
    /// 0 is at `from`, the longest time at `to`.
    pub(super) fn new(longest_ns: f64, from: f64, to: f64) -> Self {
        // Nothing takes 30 years; sums of ticks must not overflow.
        Self { longest_ns: longest_ns.clamp(1.0, 1e18), from, to }
    }

    /// Where a time is.
    pub(super) fn at(&self, ns: f64) -> f64 {
        self.from + ns / self.longest_ns * (self.to - self.from)
    }

    /// Round times, ns, that divide the scale into four to ten parts.
    pub(super) fn ticks(&self) -> Vec<u64> {
        let mut step = 1;
        for factor in [2, 5, 10].into_iter().cycle() {
            if self.longest_ns / step as f64 <= 10.0 {
                break;
            }
            // From 1 to 2, from 2 to 5, from 5 to 10, and so on.
            step = if factor == 5 { step / 2 * 5 } else { step * 2 };
        }
        (0..=10).map(|at| at * step).take_while(|ns| *ns as f64 <= self.longest_ns).collect()
    }
}

/// Each time as far from its double as any other.
#[derive(Clone, Debug)]
pub(super) struct Log {
    ticks: Vec<u64>,
    from: f64,
    to: f64,
}

/// As many ticks have room for their labels.
const MOST_TICKS: usize = 13;
/// Fewer say too little about what is between.
const FEWEST_TICKS: usize = 4;
/// What ticks can be, in tenths of a power of ten; the coarser ones first.
const STEPS: [&[u64]; 3] = [&[10], &[10, 20, 50], &[10, 15, 20, 30, 40, 50, 60, 70, 80, 90]];

impl Log {
    /// From the last tick that is not after the shortest time to the first that is not before the longest one.
    pub(super) fn new(shortest_ns: u64, longest_ns: u64, from: f64, to: f64) -> Self {
        let shortest_ns = shortest_ns.max(1);
        let longest_ns = longest_ns.max(shortest_ns);
        let [coarse, usual, fine] = STEPS.map(|steps| around(shortest_ns, longest_ns, steps));
        let ticks = if usual.len() > MOST_TICKS {
            coarse
        } else if usual.len() < FEWEST_TICKS {
            fine
        } else {
            usual
        };
        Self { ticks, from, to }
    }

    /// Where a time is.
    pub(super) fn at(&self, ns: u64) -> f64 {
        let ln = |ns: u64| (ns.max(1) as f64).ln();
        let first = ln(self.ticks.first().copied().unwrap_or(1));
        let last = ln(self.ticks.last().copied().unwrap_or(1));
        self.from + (ln(ns) - first) / (last - first).max(f64::EPSILON) * (self.to - self.from)
    }

    /// Round times, ns; the first and the last are the ends of the scale.
    pub(super) fn ticks(&self) -> &[u64] {
        &self.ticks
    }
}

/// The round times from before the shortest to after the longest, ns; two at least.
fn around(shortest_ns: u64, longest_ns: u64, steps: &[u64]) -> Vec<u64> {
    let all: Vec<u64> =
        (0..12).flat_map(|power| steps.iter().map(move |step| step * 10_u64.pow(power))).collect();
    // In tenths up to here: one and a half ns is none.
    let all: Vec<u64> = all.into_iter().filter(|tenths| tenths % 10 == 0).map(|tenths| tenths / 10).collect();
    let first = all.partition_point(|ns| *ns <= shortest_ns).saturating_sub(1);
    let last = all.partition_point(|ns| *ns < longest_ns).max(first + 1).min(all.len() - 1);
    all[first..=last].to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(
            Linear::new(31_000.0, 0.0, 310.0).ticks(),
            [0, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000]
        );
        assert_eq!(Linear::new(9.0, 0.0, 1.0).ticks().len(), 10);
        assert_eq!(Linear::new(0.0, 0.0, 1.0).ticks(), [0, 1]);
        assert!((Linear::new(200.0, 50.0, 150.0).at(100.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn log_ticks_enclose_the_times() {
        let ticks = |from, to| Log::new(from, to, 0.0, 1.0).ticks().to_vec();
        assert_eq!(ticks(1_200, 90_000), [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000]);
        assert_eq!(ticks(20_000, 26_000), [20_000, 30_000]);
        assert_eq!(ticks(7, 7), [7, 8]);
        assert_eq!(ticks(900, 20_000_000_000).first(), Some(&100));
    }

    proptest! {
        #[test]
        fn times_are_on_the_scale(one in 0..=60_000_000_000_u64, other in 0..=60_000_000_000_u64) {
            let (shortest, longest) = (one.min(other), one.max(other));
            let log = Log::new(shortest, longest, 10.0, 20.0);
            prop_assert!(log.ticks().len() <= MOST_TICKS, "{:?}", log);
            for at in [log.at(shortest), log.at(longest)] {
                prop_assert!((10.0 - 1e-9..=20.0 + 1e-9).contains(&at), "{at}, {log:?}");
            }
            let linear = Linear::new(longest as f64, 0.0, 100.0);
            let ticks = linear.ticks();
            prop_assert!((2..=11).contains(&ticks.len()), "{ticks:?}");
        }
    }
}
