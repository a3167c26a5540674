//! Which live tests a guest runs, and by which backend.
//!
//! A trace takes an emulated machine seconds to begin and to end, and there are hundreds: everything on every kernel takes two hours of
//! two processors. So the kernels take turns. What depends on the kernel runs on the oldest one and, by the other backend, on one of the
//! later ones. What attaches all programs runs everywhere, by each backend.

use super::kernels::{KERNELS, Kernel};

/// How much a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// What is its turn.
    Turns,
    /// What depends on the kernel, by one of the backends.
    Once,
    /// The same by each backend.
    Everything,
}

/// The backends of a guest.
const BACKENDS: [&str; 2] = ["fentry", "kprobe"];

/// How much memory pathtrace takes, how it begins and ends, and what it does with files does not depend on the kernel.
const NOWHERE: [&str; 3] = ["bounds::", "memory::", "recording::"];

/// What hardly depends on the kernel's version is tested on the oldest one.
const ON_THE_OLDEST: [&str; 4] = ["prove::", "compare::a_regression", "compare::pictures", "cost::"];

/// What attaches all programs.
const EVERYWHERE: [&str; 1] = ["doctor::"];

/// Tests that run with the same backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// As in `PATHTRACE_TEST_BACKENDS`.
    pub(super) backends: String,
    /// The tests' full names.
    pub(super) tests: Vec<String>,
}

/// What of these tests runs on this kernel. No turn is without tests.
pub(super) fn turns(tests: &[String], kernel: &Kernel, share: Share) -> Vec<Turn> {
    let at = KERNELS.iter().position(|known| known.version == kernel.version).unwrap_or_default();
    let later = KERNELS.len() - 1;
    let (mut both, mut one) = (Vec::new(), [Vec::new(), Vec::new()]);
    for (number, test) in tests.iter().enumerate() {
        let is_among = |list: &[&str]| list.iter().any(|begin| test.starts_with(begin));
        if is_among(&NOWHERE) || at > 0 && is_among(&ON_THE_OLDEST) {
            continue;
        }
        if share == Share::Everything || is_among(&EVERYWHERE) {
            both.push(test.clone());
        } else if share == Share::Once || at == 0 || number % later == at - 1 {
            let backend = (number / later + usize::from(at > 0)) % BACKENDS.len();
            one[backend].push(test.clone());
        }
    }
    let mut turns = vec![Turn { backends: BACKENDS.join(","), tests: both }];
    turns.extend(
        BACKENDS.into_iter().zip(one).map(|(backend, tests)| Turn { backends: backend.into(), tests }),
    );
    turns.retain(|turn| !turn.tests.is_empty());
    turns
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// (kernel, backends) of all turns with this test.
    fn runs(tests: &[String], test: &str, share: Share) -> Vec<(&'static str, String)> {
        let of = |kernel: &'static Kernel| {
            let turns = turns(tests, kernel, share).into_iter();
            turns
                .filter(|turn| turn.tests.iter().any(|name| name == test))
                .map(|turn| (kernel.version, turn.backends))
                .collect::<Vec<_>>()
        };
        KERNELS.iter().flat_map(of).collect()
    }

    #[test]
    fn every_test_has_its_turn_by_each_backend() {
        let tests: Vec<String> = (0..40).map(|number| format!("unix::test_{number}")).collect();
        let mut later = BTreeSet::new();
        for test in &tests {
            let runs = runs(&tests, test, Share::Turns);
            assert_eq!((runs.len(), runs[0].0), (2, "5.10"), "{test}");
            assert_ne!(runs[0].1, runs[1].1, "{test}");
            later.insert(runs[1].clone());
        }
        // Each later kernel has some by each backend.
        assert_eq!(later.len(), 2 * (KERNELS.len() - 1));
    }

    #[test]
    fn what_attaches_everything_runs_everywhere() {
        let tests = names(&["doctor::names", "prove::local", "memory::is_flat", "filters::port"]);
        let both = || "fentry,kprobe".to_owned();
        let everywhere = KERNELS.map(|kernel| (kernel.version, both()));
        assert_eq!(runs(&tests, "doctor::names", Share::Turns), everywhere);
        assert_eq!(runs(&tests, "prove::local", Share::Turns).len(), 1);
        assert_eq!(runs(&tests, "prove::local", Share::Everything), [("5.10", both())]);
        assert_eq!(runs(&tests, "filters::port", Share::Everything).len(), KERNELS.len());
        assert_eq!(runs(&tests, "filters::port", Share::Once).len(), KERNELS.len());
    }
}
