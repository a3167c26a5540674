//! The kernel's clock, in which probes stamp events, beside the time of day.

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, clockid_t, timespec};

/// How often the two clocks are compared. The tightest pair counts, so that being interrupted between two readings
/// costs nothing.
const SAMPLES: u32 = 8;

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of `bpf_ktime_get_ns()`.
pub fn monotonic_now_ns() -> u64 {
    now_ns(CLOCK_MONOTONIC).cast_unsigned()
}

/// What to add to a `CLOCK_MONOTONIC` time to get the time since 1970, both in nanoseconds. It is true at the moment of
/// the call: the time of day can be set, and the monotonic clock stands still while the machine sleeps.
pub fn realtime_offset_ns() -> i64 {
    let sample = || {
        let before = now_ns(CLOCK_MONOTONIC);
        let real = now_ns(CLOCK_REALTIME);
        let width = now_ns(CLOCK_MONOTONIC) - before;
        (width, real - (before + width / 2))
    };
    let (_, offset) = (1..SAMPLES).fold(sample(), |tightest, _| tightest.min(sample()));
    offset
}

fn now_ns(clock: clockid_t) -> i64 {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec. The call cannot fail for these two clocks, which every kernel
    // has; if it did, `time` would stay zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Nanoseconds since 1970 fit until 2262.
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn monotonic_time_and_offset_make_the_time_of_day() {
        let ours = u128::from(monotonic_now_ns().saturating_add_signed(realtime_offset_ns()));
        let std = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        assert!(std.abs_diff(ours) < 1_000_000_000, "{ours} is not {std}");
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let earlier = monotonic_now_ns();
        assert!(monotonic_now_ns() >= earlier);
    }
}
