//! Many times, and what is usual among them.

use hdrhistogram::Histogram;

/// Longer times count as this long: 60 s.
const LONGEST_NS: u64 = 60_000_000_000;
/// Three digits: every quantile is within 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How long something took each time. Memory does not grow with the number of times.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    /// Made at the first time. `None` after that never happens: the bounds are constant and valid.
    histogram: Option<Histogram<u64>>,
    /// Exact; the histogram rounds.
    max_ns: u64,
    /// All times together, exact.
    total_ns: u128,
}

impl Distribution {
    /// Counts a time, ns.
    pub fn add(&mut self, ns: u64) {
        let ns = ns.min(LONGEST_NS);
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns);
        }
        self.max_ns = self.max_ns.max(ns);
        self.total_ns += u128::from(ns);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The time that this part (0 to 1) of them did not exceed, ns; `None` if there were none.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        self.histogram.as_ref().map(|histogram| histogram.value_at_quantile(part).min(self.max_ns))
    }

    /// The mean, ns, rounded down; `None` if there were none. One that was interrupted for long weighs in it.
    pub fn mean(&self) -> Option<u64> {
        self.total_ns.checked_div(self.count().into()).and_then(|ns| u64::try_from(ns).ok())
    }

    /// The longest, ns; `None` if there were none.
    pub fn max(&self) -> Option<u64> {
        self.histogram.as_ref().map(|_| self.max_ns)
    }

    /// Each time that came, to three digits, with how often it came; in rising order.
    pub fn times(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.histogram.iter().flat_map(Histogram::iter_recorded);
        recorded.map(|at| (at.value_iterated_to().min(self.max_ns), at.count_at_value()))
    }
}

impl Extend<u64> for Distribution {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, times: T) {
        times.into_iter().for_each(|ns| self.add(ns));
    }
}

impl FromIterator<u64> for Distribution {
    fn from_iter<T: IntoIterator<Item = u64>>(times: T) -> Self {
        let mut distribution = Self::default();
        distribution.extend(times);
        distribution
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_quantiles() {
        let none = Distribution::default();
        assert_eq!((none.count(), none.quantile(0.5), none.max(), none.times().count()), (0, None, None, 0));
        assert_eq!(none.mean(), None);
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let many: Distribution = (1..=10_000).map(|at| at * 100).collect();
        for (part, exact) in [(0.5, 500_000), (0.9, 900_000), (0.999, 999_000)] {
            let got = many.quantile(part).unwrap();
            assert!(got.abs_diff(exact) <= exact / 1_000, "{got} is not {exact}");
        }
        assert_eq!((many.count(), many.max(), many.mean()), (10_000, Some(1_000_000), Some(500_050)));
        assert_eq!(many.times().map(|(_, count)| count).sum::<u64>(), 10_000);
    }

    #[test]
    fn the_longest_is_exact_and_has_an_end() {
        let many: Distribution = [1_234_567, u64::MAX].into_iter().collect();
        assert_eq!(many.max(), Some(LONGEST_NS));
        assert_eq!(Distribution::from_iter([1_234_567]).quantile(1.0), Some(1_234_567));
    }
}
