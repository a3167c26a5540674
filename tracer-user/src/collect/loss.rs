//! Where records are missing among those that came.
//!
//! A program counts a lost record before whatever happens next, and says how many slots had been taken by then if it is the first
//! since userspace has acknowledged others. So a record that stands before that place lacks none before it, and one behind it, or
//! one that is read when the count has changed and the place is not said, may.

use tracer_common::event::{KIND_LOSS, LossRecord, STILL_LOST};

/// What is known of losses when a record is read, or when none is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// How many records were lost.
    pub(super) count: u64,
    /// None of those that were not acknowledged before was lost before as many slots had been taken; 0 if that is not known.
    pub(super) from: u64,
}

/// How many records are known to be lost, and whether more may be.
#[derive(Default)]
pub(super) struct LossWatch {
    known: u64,
    is_losing: bool,
}

impl LossWatch {
    /// What stands before the record at this position, if some were lost.
    #[inline]
    pub(super) fn before(&mut self, position: u64, lost: Lost) -> Option<LossRecord> {
        if lost.count == self.known || self.is_losing || position < lost.from {
            return None;
        }
        self.is_losing = true;
        Some(record(STILL_LOST))
    }

    /// What stands behind what was read, if records may be missing in it, or, if it `is_all`, some were lost. Then `lost` is to be
    /// acknowledged. `now_ns`: `CLOCK_MONOTONIC`, after `lost` was read.
    pub(super) fn behind(
        &mut self,
        lost: Lost,
        is_all: bool,
        now_ns: impl FnOnce() -> u64,
    ) -> Option<LossRecord> {
        let has_news = self.is_losing || is_all && lost.count != self.known;
        has_news.then(|| {
            *self = Self { known: lost.count, is_losing: false };
            record(now_ns())
        })
    }
}

fn record(until_ns: u64) -> LossRecord {
    LossRecord { kind: KIND_LOSS, pad: 0, pad2: 0, pad3: 0, until_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(count: u64, from: u64) -> Lost {
        Lost { count, from }
    }

    fn until(record: Option<LossRecord>) -> Option<u64> {
        record.map(|record| record.until_ns)
    }

    #[test]
    fn a_loss_is_said_before_the_next_record_and_behind_the_last() {
        let mut watch = LossWatch::default();
        assert_eq!(until(watch.before(1, lost(0, 0))), None);
        assert_eq!(until(watch.behind(lost(0, 0), true, || 6)), None);
        assert_eq!(until(watch.before(2, lost(3, 0))), Some(STILL_LOST));
        assert_eq!(until(watch.before(3, lost(4, 0))), None);
        assert_eq!(until(watch.behind(lost(5, 0), false, || 7)), Some(7));
        assert_eq!(until(watch.before(4, lost(5, 0))), None);
        assert_eq!(until(watch.before(5, lost(6, 0))), Some(STILL_LOST));
    }

    #[test]
    fn what_stands_before_it_lacks_nothing() {
        let mut watch = LossWatch::default();
        assert_eq!(until(watch.before(98, lost(1, 100))), None);
        assert_eq!(until(watch.behind(lost(1, 100), false, || 7)), None);
        assert_eq!(until(watch.before(99, lost(2, 100))), None);
        assert_eq!(until(watch.before(100, lost(2, 100))), Some(STILL_LOST));
    }

    #[test]
    fn a_loss_that_no_record_follows_is_said_too() {
        let mut watch = LossWatch::default();
        assert_eq!(until(watch.behind(lost(1, 100), true, || 8)), Some(8));
        assert_eq!(until(watch.behind(lost(1, 0), true, || 9)), None);
        assert_eq!(until(watch.before(101, lost(1, 0))), None);
    }
}
