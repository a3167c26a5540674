//! How far a run can be believed.

use std::collections::BTreeMap;

use super::{Audit, Cost, Incomplete, NotMeasured, OwnCost, Path};

/// What the kernel side could not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Losses {
    /// Hop records that the ring buffer had no room for.
    pub hops: u64,
    /// Other records (flows, names) that it had no room for. They are sent again later.
    pub others: u64,
    /// Times that the kernel skipped a program because one was running on that CPU; `None` where it does not count.
    pub missed: Option<u64>,
}

impl Losses {
    /// Records that the ring buffer had no room for.
    pub fn lost(&self) -> u64 {
        self.hops.saturating_add(self.others)
    }
}

/// The accounts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Hop records received.
    pub events: u64,
    /// What did not arrive; `None` if nobody knows: the recording is cut off.
    pub losses: Option<Losses>,
    /// Records that made no sense and were left out.
    pub malformed: u64,
    /// Paths that are whole.
    pub complete: u64,
    /// Paths that are not, by reason.
    pub incomplete: BTreeMap<Incomplete, u64>,
    /// Of all paths, those that end where the kernel dropped the packet.
    pub dropped: u64,
    /// Of all paths, those that carry data that was sent before.
    pub retransmitted: u64,
    /// Paths and packets on their way beyond as many paths as were asked for; they are no fault.
    pub cut_off: u64,
    /// Paths that took less time than was asked for, and are not shown or counted.
    pub too_short: u64,
    /// Paths that the filters left out of what was recorded, and that are not shown or counted.
    pub filtered_out: u64,
    /// From the first moment of the trace to the last, ns; `None` if nobody knows: the recording is cut off.
    pub duration_ns: Option<u64>,
    /// What tracing has cost in the kernel, as far as it was measured.
    pub cost: Cost,
    /// The accounts of all records, if they were kept.
    pub audit: Option<Audit>,
    /// One of so many messages was traced, where not all were.
    pub sample: Option<u32>,
}

impl Trust {
    /// Counts a path that is shown.
    pub fn count(&mut self, path: &Path) {
        match path.incomplete {
            None => self.complete += 1,
            Some(reason) => *self.incomplete.entry(reason).or_insert(0) += 1,
        }
        self.dropped += u64::from(path.dropped.is_some());
        self.retransmitted += u64::from(path.retransmitted);
    }

    /// All paths that are shown.
    pub fn paths(&self) -> u64 {
        self.complete + self.incomplete_total()
    }

    /// All paths, whether they are shown or were left out.
    pub fn looked_at(&self) -> u64 {
        self.paths() + self.too_short + self.filtered_out
    }

    /// Paths that are not whole.
    pub fn incomplete_total(&self) -> u64 {
        self.incomplete.values().sum()
    }

    /// What tracing has cost in the kernel, over all of the run.
    pub fn own_cost(&self) -> Result<OwnCost, NotMeasured> {
        // A record that is lost has cost as much as another.
        let lost = self.losses.map_or(0, |losses| losses.hops);
        self.cost.of_run(self.events.saturating_add(lost), self.duration_ns)
    }

    /// Nothing lost, nothing missed, nothing incomplete, nothing malformed, nothing unexplained. Unknown losses are not nothing.
    pub fn is_perfect(&self) -> bool {
        self.losses.is_some_and(|losses| losses.lost() == 0 && losses.missed.unwrap_or(0) == 0)
            && self.malformed == 0
            && self.incomplete_total() == 0
            && self.audit.is_none_or(|audit| audit.balances())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analyze::samples, model::Sample};

    #[test]
    fn drops_and_retransmissions_are_counted_among_the_paths() {
        let mut trust = Trust::default();
        for path in [samples::refused_syn(), samples::retransmission(), samples::incomplete()] {
            trust.count(&path);
        }
        assert_eq!((trust.paths(), trust.complete, trust.incomplete_total()), (3, 2, 1));
        assert_eq!((trust.dropped, trust.retransmitted), (1, 1));
    }

    #[test]
    fn unknown_losses_are_not_perfect() {
        let known = Trust { losses: Some(Losses::default()), ..Trust::default() };
        assert!(known.is_perfect());
        assert!(!Trust::default().is_perfect());
    }

    #[test]
    fn accounts_that_do_not_balance_are_not_perfect() {
        let with = |unexplained| {
            let audit = Some(Audit { fired: 7, taken: 7, unexplained, ..Audit::default() });
            Trust { losses: Some(Losses::default()), audit, ..Trust::default() }
        };
        assert!(with(0).is_perfect());
        assert!(!with(1).is_perfect());
    }

    #[test]
    fn what_was_lost_has_cost_something_too() {
        let cost = Cost::Sampled(Sample { run_ns: 1000, runs: Some(12), events: 10, observed_ns: 1 });
        let losses = Some(Losses { hops: 5, others: 3, missed: None });
        let trust = Trust { events: 15, losses, cost, duration_ns: Some(4000), ..Trust::default() };
        let own = trust.own_cost().unwrap();
        assert_eq!((own.ns_per_event, own.total_ns, own.share), (Some(100), 2000, Some(0.5)));
    }
}
