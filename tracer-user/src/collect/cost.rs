//! How long the programs run, by the kernel's own statistics.
//!
//! The statistics cost two looks at a clock each time that a program runs, and switching them changes the kernel's code:
//! unless somebody has switched them on anyway (`kernel.bpf_stats_enabled`), they are on for a short while each second.

use std::{
    fs,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    sys::{Stats, enable_stats},
};

use crate::{
    kernel::clock::monotonic_now_ns,
    model::{Cost, Sample},
};

/// How long the statistics are on at least.
const WINDOW: Duration = Duration::from_millis(10);
/// They stay on for longer while there were fewer events than this,
const ENOUGH: u64 = 100;
/// but not for longer than this.
const LONGEST: Duration = Duration::from_millis(100);
/// From one window to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Whether the statistics are on for the whole machine: a 1.
const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Measures.
pub(super) struct Meter {
    cost: Cost,
    /// Whether somebody else has switched the statistics on: then all of the run is measured.
    always_on: bool,
    window: Window,
    /// When the next window opens.
    next: Instant,
}

/// The latest window.
struct Window {
    /// Keeps the statistics on; they are off again when it is closed.
    statistics: Option<OwnedFd>,
    state: State,
    opened: Instant,
    /// Its first and last moment, `CLOCK_MONOTONIC`: its events are told by their times, as they are read later.
    from_ns: u64,
    until_ns: u64,
    /// What the programs had run when it was opened.
    ran: Ran,
    /// Hop records that were lost before.
    lost: u64,
    /// Hop records that were read of it.
    events: u64,
}

/// What all our programs have run, as far as the statistics were on.
#[derive(Clone, Copy, Default)]
struct Ran {
    ns: u64,
    times: u64,
}

impl Ran {
    fn so_far(ebpf: &Ebpf) -> Self {
        let each = ebpf.programs().filter_map(|(_, program)| program.info().ok());
        each.fold(Self::default(), |sum, info| Self {
            ns: sum.ns.saturating_add(u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX)),
            times: sum.times.saturating_add(info.run_count()),
        })
    }
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// Its last records may not have been read: the reader can be behind by seconds.
    Closed,
    /// All of its records have been read.
    Read,
}

impl Meter {
    /// One that measures, if that is wanted, from the first call of `tick` on.
    pub(super) fn new(is_wanted: bool) -> Self {
        let now = Instant::now();
        Self {
            cost: if is_wanted { Cost::Sampled(Sample::default()) } else { Cost::NotAsked },
            always_on: fs::read_to_string(SYSCTL).is_ok_and(|text| text.trim() == "1"),
            window: Window {
                statistics: None,
                state: State::Read,
                opened: now,
                from_ns: u64::MAX,
                until_ns: 0,
                ran: Ran::default(),
                lost: 0,
                events: 0,
            },
            next: now,
        }
    }

    /// Opens or closes a window, if it is time. `lost`: hop records that were lost so far.
    pub(super) fn tick(&mut self, ebpf: &Ebpf, lost: impl FnOnce() -> u64) {
        let Cost::Sampled(_) = self.cost else { return };
        let now = Instant::now();
        match self.window.state {
            State::Read if now >= self.next => self.open(ebpf, now, lost()),
            State::Open if !self.always_on => {
                let lasted = now.duration_since(self.window.opened);
                if lasted >= WINDOW && self.window.events >= ENOUGH || lasted >= LONGEST {
                    self.close(ebpf, lost());
                }
            }
            State::Open | State::Closed | State::Read => {}
        }
    }

    fn open(&mut self, ebpf: &Ebpf, now: Instant, lost: u64) {
        self.count_window();
        self.next = now + EVERY;
        // Nothing is counted yet, unless always.
        let ran = Ran::so_far(ebpf);
        let statistics = match (self.always_on, enable_stats(Stats::RunTime)) {
            (true, _) => None,
            (false, Ok(statistics)) => Some(statistics),
            (false, Err(error)) => {
                // It takes CAP_SYS_ADMIN, which tracing does not.
                log::debug!("the programs' statistics: {error}");
                self.cost = Cost::Refused;
                return;
            }
        };
        self.window = Window {
            statistics,
            state: State::Open,
            opened: now,
            from_ns: monotonic_now_ns(),
            until_ns: u64::MAX,
            ran,
            lost,
            events: 0,
        };
    }

    /// Closes the window, if one is open.
    pub(super) fn close(&mut self, ebpf: &Ebpf, lost: u64) {
        let Cost::Sampled(sample) = &mut self.cost else { return };
        let window = &mut self.window;
        if window.state != State::Open {
            return;
        }
        window.state = State::Closed;
        window.until_ns = monotonic_now_ns();
        window.statistics = None;
        let ran = Ran::so_far(ebpf);
        sample.run_ns += ran.ns.saturating_sub(window.ran.ns);
        *sample.runs.get_or_insert_default() += ran.times.saturating_sub(window.ran.times);
        sample.events += lost.saturating_sub(window.lost);
        sample.observed_ns += window.until_ns.saturating_sub(window.from_ns);
    }

    /// A hop record was read.
    pub(super) fn hop(&mut self, time_ns: u64) {
        let window = &mut self.window;
        window.events += u64::from((window.from_ns..=window.until_ns).contains(&time_ns));
    }

    /// All records that there were have been read.
    pub(super) fn caught_up(&mut self) {
        if self.window.state == State::Closed {
            self.window.state = State::Read;
        }
    }

    fn count_window(&mut self) {
        if let Cost::Sampled(sample) = &mut self.cost {
            sample.events += self.window.events;
            self.window.events = 0;
        }
    }

    /// What was found out, when all records have been read.
    pub(super) fn finish(&mut self) -> Cost {
        self.count_window();
        self.cost
    }
}
