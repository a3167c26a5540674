//! How fast the machine is at this moment.
//!
//! A virtual machine's ways into its kernel may take a third longer for seconds, while a neighbour is busy, and arithmetic as long as
//! before. A page fault is such a way, and one that no variant looks at. What was measured at different paces cannot be compared.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, Result};
use memmap2::{Advice, MmapMut, UncheckedAdvice};
use pathtrace::workload::pin;

use crate::places::Places;

/// Pages that are read once each, and how often: some milliseconds in all.
const PAGES: usize = 64;
const TIMES: usize = 40;

/// Memory whose pages are given back and asked for again.
pub(crate) struct Pace {
    memory: MmapMut,
    page: usize,
    places: Places,
}

impl Pace {
    pub(crate) fn new(places: Places) -> Result<Self> {
        // SAFETY: the call takes no pointers.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).context("no page size")?;
        let memory = MmapMut::map_anon(PAGES * page).context("no memory")?;
        // Where there are no huge pages, this is refused, and not needed.
        let _ = memory.advise(Advice::NoHugePage);
        Ok(Self { memory, page, places })
    }

    /// Of the CPU on which the work is done: what a page fault takes there, ns, the median of some.
    pub(crate) fn measure(&mut self) -> Result<u64> {
        pin(self.places.work).context("cannot choose a CPU")?;
        let faults = self.faults();
        pin(self.places.tracer).context("cannot choose a CPU")?;
        faults
    }

    fn faults(&mut self) -> Result<u64> {
        let mut times = [0; TIMES];
        for time in &mut times {
            // SAFETY: nobody else has this memory, and zeroes, which it has then, are bytes as any.
            unsafe { self.memory.unchecked_advise(UncheckedAdvice::DontNeed) }?;
            let begun = Instant::now();
            for page in self.memory.chunks(self.page) {
                black_box(page.first().copied());
            }
            *time = u64::try_from(begun.elapsed().as_nanos() / PAGES as u128).unwrap_or(u64::MAX);
        }
        times.sort_unstable();
        Ok(times[TIMES / 2])
    }
}
