//! The kernel side: loads the programs, attaches them, and hands their records over. The only room that knows aya.
//!
//! Nothing is pinned: programs, maps and links live exactly as long as this process, whatever ends it.

mod attach;
mod calls;
mod cost;
mod error;
mod instructions;
mod loader;
mod loss;
mod misses;
mod programs;
mod ring;
mod slots;
mod sockmap;

use std::mem::offset_of;

use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray},
};
use aya_log::EbpfLogger;
use tracer_common::{
    event::{HopRecord, KINDS, is_hop},
    probes::Backend,
    settings,
};

use self::{cost::Meter, loss::LossWatch, ring::Ring};
pub use self::{
    error::CollectError,
    sockmap::{Sockmap, SockmapError},
};
use crate::{
    filter::Filter,
    kernel::{btf::Btf, clock::monotonic_now_ns},
    model::{Audit, Cost, Coverage, Losses},
};

/// What to load and attach.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the kernel filters.
    pub filter: Filter,
    /// Which backends to try, in this order.
    pub backends: Vec<Backend>,
    /// Size of the ring buffer, bytes: a power of two and a multiple of the page size.
    pub buffer_bytes: u32,
    /// Whether the programs write a debug log.
    pub debug_log: bool,
    /// Whether it is measured what tracing costs.
    pub measures_cost: bool,
    /// Whether the programs count each record that they want to write.
    pub audit: bool,
    /// One of so many messages is traced; 0: all.
    pub sample: u32,
    /// The kernel's version, to know what it counts and what it charges.
    pub kernel: (u32, u32),
}

/// Where the time stands in every record of a hop.
const TIME_AT: usize = offset_of!(HopRecord, time_ns);

/// For each backend the points whose records its programs write, a bit each.
type Points = [u64; Backend::ALL.len()];

/// For each kind of record a number, kept by each CPU for itself.
type Counters = PerCpuArray<MapData, u64>;

/// The programs, loaded and attached. Dropping it detaches and unloads everything.
pub struct Collector {
    ebpf: Ebpf,
    ring: Ring,
    lost: Counters,
    losses: LossWatch,
    /// Records that the programs wanted to write, if they count them.
    fired: Option<Counters>,
    /// Records that were read, by kind.
    taken: [u64; KINDS as usize],
    meter: Meter,
    enabled: Array<MapData, Points>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    coverage: Coverage,
    /// Whether the kernel counts each program that it skips.
    counts_misses: bool,
    /// Misses from before the start.
    missed_before: u64,
}

impl Collector {
    /// Loads and attaches. `progress` is called with the number of points done and of all points after each.
    pub fn attach(
        plan: &Plan,
        btf: &Btf,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, CollectError> {
        let size = ring::Size::of(plan.buffer_bytes, plan.kernel);
        let mut ebpf = loader::load(plan, size, btf).map_err(|error| error.explained(plan.kernel))?;
        let lost = loader::take(&mut ebpf, settings::LOST, Counters::try_from)?;
        let fired = if plan.audit {
            Some(loader::take(&mut ebpf, settings::FIRED, Counters::try_from)?)
        } else {
            None
        };
        let enabled = loader::take(&mut ebpf, settings::ENABLED, Array::try_from)?;
        // The map is there only if a program writes a log.
        let logger = if plan.debug_log { EbpfLogger::init(&mut ebpf).ok() } else { None };
        let coverage = attach::attach_all(&mut ebpf, plan, btf, progress)?;
        give_memory_back();
        // All of it is resident as soon as it is mapped: so not while loading needs memory, too.
        let ring = Ring::take(&mut ebpf, size)?;
        let counts_misses = misses::are_counted(&coverage, plan.kernel);
        Ok(Self {
            ebpf,
            ring,
            lost,
            losses: LossWatch::default(),
            fired,
            taken: Default::default(),
            meter: Meter::new(plan.measures_cost),
            enabled,
            logger,
            coverage,
            counts_misses,
            missed_before: 0,
        })
    }

    /// Which points are attached.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// All programs begin to work. Returns the moment, `CLOCK_MONOTONIC` ns: what happened before it was not seen.
    pub fn start(&mut self) -> Result<u64, CollectError> {
        self.missed_before = self.misses().unwrap_or(0);
        let mut points = Points::default();
        for backend in Backend::ALL {
            points[backend as usize] =
                self.coverage.by_backend(backend).fold(0u64, |bits, point| bits | 1 << (point as u8));
        }
        self.enable(points)?;
        let started_ns = monotonic_now_ns();
        self.tick();
        Ok(started_ns)
    }

    /// All programs stop working. Records that they have written stay.
    pub fn stop(&mut self) -> Result<(), CollectError> {
        self.enable(Points::default())?;
        self.meter.close(&self.ebpf, lost_hops(&self.lost));
        if self.fired.is_some() {
            // A program that is at work has looked at the flag before, and writes its record yet.
            wait_for_programs();
        }
        Ok(())
    }

    /// Looks whether it is time to measure.
    fn tick(&mut self) {
        let Self { meter, ebpf, lost, .. } = self;
        meter.tick(ebpf, || lost_hops(lost));
    }

    /// Says which points' records the programs write.
    fn enable(&mut self, points: Points) -> Result<(), CollectError> {
        let set = self.enabled.set(0, points, 0);
        set.map_err(CollectError::map(settings::ENABLED))
    }

    /// Hands over the records that are there, at most `limit`, in the order in which their room was taken. Returns how many there were.
    /// Among them it says where some were lost, by records of its own.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.tick();
        let Self { ring, taken, meter, losses, .. } = self;
        let mut count = 0;
        while count < limit
            && ring.next(|record, position, lost| {
                if let Some(begin) = losses.before(position, lost) {
                    // SAFETY: `repr(C)`, with all padding named.
                    take(unsafe { plain::as_bytes(&begin) });
                }
                let kind = record.first().copied().unwrap_or_default();
                if let Some(taken) = taken.get_mut(usize::from(kind)) {
                    *taken += 1;
                }
                if is_hop(kind)
                    && let Some(time) = record.get(TIME_AT..).and_then(<[u8]>::first_chunk)
                {
                    meter.hop(u64::from_ne_bytes(*time));
                }
                take(record);
            })
        {
            count += 1;
        }
        ring.give_back();
        let lost = ring.lost();
        if let Some(end) = losses.behind(lost, count < limit, monotonic_now_ns) {
            ring.acknowledge(lost);
            // SAFETY: as above.
            take(unsafe { plain::as_bytes(&end) });
        }
        if count < limit {
            self.meter.caught_up();
        }
        count
    }

    /// Times that a program was skipped since it is attached; `None` where the kernel does not count.
    fn misses(&self) -> Option<u64> {
        if self.counts_misses { misses::total(&self.ebpf, &self.coverage) } else { None }
    }

    /// What was lost so far.
    pub fn losses(&self) -> Result<Losses, CollectError> {
        let missed = self.misses().map(|misses| misses.saturating_sub(self.missed_before));
        let mut losses = Losses { missed, ..Losses::default() };
        for (kind, lost) in (0..).zip(by_kind(&self.lost, settings::LOST)?) {
            if is_hop(kind) {
                losses.hops += lost;
            } else {
                losses.others += lost;
            }
        }
        Ok(losses)
    }
    /// What tracing has cost, when all records have been read.
    pub fn cost(&mut self) -> Cost {
        self.meter.finish()
    }

    /// The accounts of all records, when all have been read; `None` if they are not kept.
    pub fn audit(&self) -> Result<Option<Audit>, CollectError> {
        let Some(fired) = &self.fired else { return Ok(None) };
        let lost = by_kind(&self.lost, settings::LOST)?;
        Ok(Some(Audit::of(&by_kind(fired, settings::FIRED)?, &self.taken, &lost)))
    }
}

/// Of each kind of record, what all CPUs have counted.
fn by_kind(counters: &Counters, name: &'static str) -> Result<[u64; KINDS as usize], CollectError> {
    let mut totals = [0; KINDS as usize];
    for (kind, total) in (0..).zip(&mut totals) {
        *total = counters.get(&kind, 0).map_err(CollectError::map(name))?.iter().sum();
    }
    Ok(totals)
}

/// Hop records that were lost so far; those that cannot be counted are said to be missing by `Collector::losses`.
fn lost_hops(lost: &Counters) -> u64 {
    let by_kind = by_kind(lost, settings::LOST).unwrap_or_default();
    (0..).zip(by_kind).filter(|(kind, _)| is_hop(*kind)).map(|(_, lost)| lost).sum()
}

/// Loading reads the kernel's types into many small pieces, which the allocator would keep for us.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only memory that nobody uses is given back.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns when all programs that are running now have ended.
fn wait_for_programs() {
    // All run in what is a reader of RCU to the kernel, and this call waits for those (`synchronize_rcu`).
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Then a record may come too late, and the accounts will say so.
        log::debug!("membarrier: {}", std::io::Error::last_os_error());
    }
}
