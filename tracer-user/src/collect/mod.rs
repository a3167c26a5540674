//! The kernel side: loads the programs, attaches them, and hands their records over. The only room that knows aya.
//!
//! Nothing is pinned: programs, maps and links live exactly as long as this process, whatever ends it.

mod attach;
mod calls;
mod error;
mod loader;
mod misses;
mod programs;
mod sockmap;

use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use tracer_common::{
    event::{KINDS, is_hop},
    probes::Backend,
};

pub use self::{
    error::CollectError,
    sockmap::{Sockmap, SockmapError},
};
use crate::{
    filter::Filter,
    kernel::{btf::Btf, clock::monotonic_now_ns},
    model::{Coverage, Losses},
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
    /// The kernel's version, to know what it counts and what it charges.
    pub kernel: (u32, u32),
}

/// For each backend the points whose records its programs write, a bit each.
type Points = [u64; Backend::ALL.len()];

/// The programs, loaded and attached. Dropping it detaches and unloads everything.
pub struct Collector {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
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
        let mut ebpf = loader::load(plan, btf).map_err(|error| error.explained(plan.kernel))?;
        let ring = loader::take(&mut ebpf, tracer_common::settings::EVENTS, RingBuf::try_from)?;
        let lost = loader::take(&mut ebpf, tracer_common::settings::LOST, PerCpuArray::try_from)?;
        let enabled = loader::take(&mut ebpf, tracer_common::settings::ENABLED, Array::try_from)?;
        // The map is there only if a program writes a log.
        let logger = if plan.debug_log { EbpfLogger::init(&mut ebpf).ok() } else { None };
        let coverage = attach::attach_all(&mut ebpf, plan, btf, progress)?;
        let counts_misses = misses::are_counted(&coverage, plan.kernel);
        Ok(Self { ebpf, ring, lost, enabled, logger, coverage, counts_misses, missed_before: 0 })
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
        Ok(monotonic_now_ns())
    }

    /// All programs stop working. Records that they have written stay.
    pub fn stop(&mut self) -> Result<(), CollectError> {
        self.enable(Points::default())
    }

    /// Says which points' records the programs write.
    fn enable(&mut self, points: Points) -> Result<(), CollectError> {
        let set = self.enabled.set(0, points, 0);
        set.map_err(CollectError::map(tracer_common::settings::ENABLED))
    }

    /// Hands over the records that are there, at most `limit`, in the order in which they were written. Returns how
    /// many there were.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        let mut count = 0;
        while count < limit
            && let Some(record) = self.ring.next()
        {
            take(&record);
            count += 1;
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
        for kind in 0..KINDS {
            let counts = self.lost.get(&kind, 0).map_err(CollectError::map(tracer_common::settings::LOST))?;
            let total: u64 = counts.iter().sum();
            if u8::try_from(kind).is_ok_and(is_hop) {
                losses.hops += total;
            } else {
                losses.others += total;
            }
        }
        Ok(losses)
    }
}
