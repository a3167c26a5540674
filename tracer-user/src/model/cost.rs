//! What tracing itself cost in the kernel.

/// What the kernel's statistics of programs said while they were switched on, which is not always: they cost time, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// Time that the programs ran, ns, whether they wrote something or not.
    pub run_ns: u64,
    /// How often they ran; `None` in recordings from before this was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// Hop records that they wrote meanwhile, the lost ones included.
    pub events: u64,
    /// How long the statistics were on, ns.
    pub observed_ns: u64,
}

/// What is known of the cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Nobody wanted to know.
    #[default]
    NotAsked,
    /// The kernel does not count for us.
    Refused,
    /// It did, for some of the time.
    Sampled(Sample),
}

/// The cost of a whole run, reckoned from the part of it that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnCost {
    /// In the kernel, for each hop record, with the runs that wrote none; `None` if no record came while it was measured.
    pub ns_per_event: Option<u64>,
    /// All of the run.
    pub total_ns: u64,
    /// Of the time that one CPU has, from 0 to as many CPUs as there are; `None` if nobody knows how long the run took.
    pub share: Option<f64>,
    /// Hop records that it was measured for.
    pub measured_events: u64,
    /// By run of a program, if runs were counted.
    pub by_run: Option<ByRun>,
}

/// The same cost, looked at by runs of programs: most of them may write nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByRun {
    /// In the kernel, for each run.
    pub ns: u64,
    /// Runs that it was measured for.
    pub measured: u64,
}

/// Where fewer than one run in so many writes an event, what an event costs is mostly the price of runs that wrote none. (Of a busy
/// connection that is traced in full, one in two does.)
const FEW: u64 = 4;

/// One run in so many may write an event that was not measured: such runs take up to five times as long as one that writes nothing, and
/// bring others with them.
const NEGLIGIBLE: u128 = 64;

impl OwnCost {
    /// The cost by run, if fewer than one run in four wrote an event.
    pub fn mostly_silent(&self) -> Option<ByRun> {
        self.by_run.filter(|by_run| by_run.are_mostly_silent(self.measured_events))
    }
}

impl ByRun {
    fn are_mostly_silent(self, events: u64) -> bool {
        self.measured > events.saturating_mul(FEW)
    }
}

/// Why there is no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMeasured {
    /// Nobody wanted to know.
    NotAsked,
    /// The kernel does not count for us.
    Refused,
    /// No event came while it counted, or so few that they do not stand for those of the run.
    TooFewEvents,
}

impl NotMeasured {
    /// The reason, in words.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotAsked => "not asked for",
            Self::Refused => "the kernel does not count for us",
            Self::TooFewEvents => "hardly any event while it was",
        }
    }
}

impl Cost {
    /// The cost of a run with `events` hop records, the lost ones included, that took `duration_ns`.
    pub fn of_run(self, events: u64, duration_ns: Option<u64>) -> Result<OwnCost, NotMeasured> {
        let Sample { run_ns, runs, events: measured_events, observed_ns } = match self {
            Self::NotAsked => return Err(NotMeasured::NotAsked),
            Self::Refused => return Err(NotMeasured::Refused),
            Self::Sampled(sample) => sample,
        };
        if run_ns == 0 {
            let ran = measured_events > 0;
            return Err(if ran { NotMeasured::Refused } else { NotMeasured::TooFewEvents });
        }
        let by_run = runs.filter(|runs| *runs > 0).map(|measured| ByRun { ns: run_ns / measured, measured });
        let silent = by_run.filter(|by_run| by_run.are_mostly_silent(measured_events));
        let total = match (silent, duration_ns) {
            // Runs that write nothing come with time, not with events: unless the events came at other times.
            (Some(silent), Some(all)) if observed_ns > 0 => {
                let in_all = |measured| share_of(measured, all, observed_ns);
                // Traffic is never the same twice; and what few runs more cost can be left out.
                let most = in_all(measured_events)
                    .saturating_mul(2)
                    .saturating_add(in_all(silent.measured) / NEGLIGIBLE);
                if u128::from(events) > most {
                    return Err(NotMeasured::TooFewEvents);
                }
                share_of(run_ns, all, observed_ns)
            }
            // They are a part of what an event costs: no event, no such cost.
            _ if measured_events == 0 => return Err(NotMeasured::TooFewEvents),
            _ => share_of(run_ns, events, measured_events),
        };
        let total_ns = u64::try_from(total).unwrap_or(u64::MAX);
        Ok(OwnCost {
            ns_per_event: run_ns.checked_div(measured_events),
            total_ns,
            share: duration_ns.filter(|duration| *duration > 0).map(|all| total_ns as f64 / all as f64),
            measured_events,
            by_run,
        })
    }
}

/// What was found in a part, for all. The part is not 0.
fn share_of(found: u64, all: u64, part: u64) -> u128 {
    u128::from(found) * u128::from(all) / u128::from(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(run_ns: u64, events: u64) -> Cost {
        Cost::Sampled(Sample { run_ns, runs: None, events, observed_ns: 10_000_000 })
    }

    #[test]
    fn where_most_programs_write_nothing_the_cost_is_that_of_a_run() {
        let of = |runs| {
            let sample = Sample { run_ns: 90_000, runs, events: 10, observed_ns: 10_000_000 };
            Cost::Sampled(sample).of_run(20, None).unwrap()
        };
        assert_eq!(of(Some(1500)).mostly_silent(), Some(ByRun { ns: 60, measured: 1500 }));
        assert_eq!(of(Some(40)).by_run, Some(ByRun { ns: 2250, measured: 40 }));
        assert_eq!((of(Some(40)).mostly_silent(), of(Some(41)).mostly_silent().is_some()), (None, true));
        assert_eq!((of(None).by_run, of(Some(0)).by_run), (None, None));
    }

    #[test]
    fn runs_that_write_nothing_come_with_time() {
        let of = |measured_events, events| {
            let sample = Sample {
                run_ns: 1_000_000,
                runs: Some(10_000),
                events: measured_events,
                observed_ns: 100_000_000,
            };
            Cost::Sampled(sample).of_run(events, Some(5_000_000_000))
        };
        // Half a million runs in all.
        for (measured_events, events, an_event) in [
            (0, 0, None),
            (0, 7812, None),
            (1, 7912, Some(1_000_000)),
            (2499, 124_950, Some(400)),
            (2499, 257_712, Some(400)),
        ] {
            let cost = of(measured_events, events).unwrap();
            assert_eq!((cost.ns_per_event, cost.total_ns, cost.share), (an_event, 50_000_000, Some(0.01)));
            assert!(cost.mostly_silent().is_some());
        }
        // They came when nothing was measured, and what they cost is not known.
        for (measured_events, events) in [(0, 7813), (1, 7913), (2499, 257_713), (0, u64::MAX)] {
            assert_eq!(of(measured_events, events), Err(NotMeasured::TooFewEvents));
        }
    }

    #[test]
    fn what_was_measured_stands_for_all_of_the_run() {
        let cost = sampled(142_500, 1000).of_run(50_000, Some(1_000_000_000)).unwrap();
        assert_eq!((cost.ns_per_event, cost.measured_events), (Some(142), 1000));
        // Not 142 times 50 000: what division cuts off is not lost.
        assert_eq!(cost.total_ns, 7_125_000);
        assert_eq!(cost.share, Some(0.007_125));
    }

    #[test]
    fn the_cost_of_no_events_is_not_made_up() {
        for (cost, why) in [
            (Cost::default(), NotMeasured::NotAsked),
            (Cost::Refused, NotMeasured::Refused),
            (sampled(0, 0), NotMeasured::TooFewEvents),
            (sampled(700, 0), NotMeasured::TooFewEvents),
            (sampled(0, 3), NotMeasured::Refused),
        ] {
            assert_eq!(cost.of_run(10, Some(1)), Err(why));
        }
        // From a recording that nobody has made.
        let sample = Sample { run_ns: u64::MAX, runs: Some(u64::MAX), events: 1, observed_ns: 1 };
        let cost = Cost::Sampled(sample).of_run(1, Some(u64::MAX)).unwrap();
        assert_eq!(cost.total_ns, u64::MAX);
        // Runs alone stand for nothing if nobody knows how long all of it took.
        let sample = Sample { run_ns: 90, runs: Some(9), events: 0, observed_ns: 10 };
        assert_eq!(Cost::Sampled(sample).of_run(0, None), Err(NotMeasured::TooFewEvents));
    }

    #[test]
    fn a_run_of_unknown_length_has_no_share() {
        assert_eq!(sampled(100, 1).of_run(2, None).unwrap().share, None);
        assert_eq!(sampled(100, 1).of_run(2, Some(0)).unwrap().share, None);
        assert_eq!(sampled(u64::MAX, 1).of_run(u64::MAX, Some(1)).unwrap().total_ns, u64::MAX);
    }
}
