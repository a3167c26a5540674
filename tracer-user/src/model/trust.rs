//! How far a run can be believed.

use std::collections::BTreeMap;

use super::Incomplete;

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
    /// Paths and packets on their way beyond as many paths as were asked for; they are no fault.
    pub cut_off: u64,
    /// From the first moment of the trace to the last, ns; `None` if nobody knows: the recording is cut off.
    pub duration_ns: Option<u64>,
}

impl Trust {
    /// All paths.
    pub fn paths(&self) -> u64 {
        self.complete + self.incomplete_total()
    }

    /// Paths that are not whole.
    pub fn incomplete_total(&self) -> u64 {
        self.incomplete.values().sum()
    }

    /// Nothing lost, nothing missed, nothing incomplete, nothing malformed. Unknown losses are not nothing.
    pub fn is_perfect(&self) -> bool {
        self.losses.is_some_and(|losses| losses.lost() == 0 && losses.missed.unwrap_or(0) == 0)
            && self.malformed == 0
            && self.incomplete_total() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_losses_are_not_perfect() {
        let known = Trust { losses: Some(Losses::default()), ..Trust::default() };
        assert!(known.is_perfect());
        assert!(!Trust::default().is_perfect());
    }
}
