//! Where the records of the programs lie: in slots that are mapped, or in the kernel's ring buffer.

use std::{
    ops::Deref,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::AtomicU64,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
    util::nr_cpus,
};
use memmap2::{MmapMut, MmapOptions};
use tracer_common::settings::{self, MOST_SLOTS, Positions, SLOT};

use super::{
    CollectError, loader,
    loss::Lost,
    slots::{self, Slots},
};

/// The first kernel whose programs can take a slot by one instruction (`BPF_FETCH`).
const SLOTS_SINCE: (u32, u32) = (5, 12);

/// Programs that may be at work on one CPU at once, each interrupted by the next: of a process, a softirq, an interrupt, an NMI; and
/// some more for kernels that let one process interrupt another. Should it be more yet, records are lost, and counted.
const AT_ONCE: usize = 8;

/// How many slots there are, and how many may be in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) count: usize,
    pub(super) limit: usize,
}

impl Size {
    /// Slots for so many bytes of records; none where the kernel's ring buffer is used.
    pub(super) fn of(buffer_bytes: u32, kernel: (u32, u32)) -> Self {
        // Records are whole when their first word is there: that is so where stores become visible in their order.
        if kernel < SLOTS_SINCE || !cfg!(target_arch = "x86_64") {
            return Self { count: 0, limit: 0 };
        }
        Self::with_spare(
            usize::try_from(buffer_bytes).unwrap_or(usize::MAX) / SLOT,
            nr_cpus().unwrap_or(MANY_CPUS),
        )
    }

    /// The elements of the map of slots.
    pub(super) fn pairs(self) -> u32 {
        u32::try_from(self.count / 2).unwrap_or(u32::MAX)
    }

    /// Programs look whether there is room, and then take it: so many as may be between the two must find room beyond the limit.
    fn with_spare(wanted: usize, cpus: usize) -> Self {
        let spare = cpus * AT_ONCE * MOST_SLOTS;
        let count = wanted.next_power_of_two();
        if spare <= count / 8 {
            Self { count, limit: count - spare }
        } else {
            Self { count: (count + spare).next_power_of_two(), limit: count }
        }
    }
}

/// As many CPUs as there hardly are, where it cannot be told.
const MANY_CPUS: usize = 1024;

/// Where the records are.
pub(super) enum Ring {
    /// Beside it, what was lost. Its records have no positions.
    Kernel(RingBuf<MapData>, Mapped),
    Slots(Slots<Mapped>),
}

impl Ring {
    pub(super) fn take(ebpf: &mut Ebpf, size: Size) -> Result<Self, CollectError> {
        let positions = Mapped::map(ebpf, settings::POSITIONS, size_of::<Positions>())?;
        if size.count == 0 {
            let ring = loader::take(ebpf, settings::EVENTS, RingBuf::try_from)?;
            return Ok(Self::Kernel(ring, positions));
        }
        let slots = Mapped::map(ebpf, settings::SLOTS, size.count * SLOT)?;
        Ok(Self::Slots(Slots::new(slots, positions, size)))
    }

    /// Hands over the next record, if there is one, its position, and what was lost by then.
    #[inline]
    pub(super) fn next(&mut self, take: impl FnOnce(&[u8], u64, Lost)) -> bool {
        match self {
            Self::Kernel(ring, positions) => {
                ring.next().map(|record| take(&record, 0, slots::lost(positions))).is_some()
            }
            Self::Slots(slots) => {
                slots.next().map(|(record, position, lost)| take(record, position, lost)).is_some()
            }
        }
    }

    /// What was lost so far.
    pub(super) fn lost(&self) -> Lost {
        slots::lost(&self.positions())
    }

    /// So much is known of what was lost.
    pub(super) fn acknowledge(&self, lost: Lost) {
        slots::acknowledge(self.positions(), lost);
    }

    fn positions(&self) -> &[AtomicU64] {
        match self {
            Self::Kernel(_, positions) => positions,
            Self::Slots(slots) => slots.positions(),
        }
    }

    /// What has been handed over makes room for others.
    pub(super) fn give_back(&mut self) {
        if let Self::Slots(slots) = self {
            slots.give_back();
        }
    }
}

/// A map of the kernel's, as memory. The memory holds the map.
pub(super) struct Mapped(MmapMut);

impl Mapped {
    fn map(ebpf: &mut Ebpf, name: &'static str, len: usize) -> Result<Self, CollectError> {
        let map = ebpf.take_map(name).ok_or(CollectError::NoMap(name))?;
        let Map::Array(data) = &map else { return Err(CollectError::NoMap(name)) };
        // SAFETY: the map's own memory, which programs read and write meanwhile; here it is only touched as atomic words.
        let memory = unsafe { MmapOptions::new().len(len).map_mut(data.fd().as_fd().as_raw_fd()) };
        let memory = memory.map_err(|source| CollectError::Mmap { name, source })?;
        Ok(Self(memory))
    }
}

impl Deref for Mapped {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: aligned as pages are, and as long as the memory; programs write to it meanwhile, which is what atomics are for.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() / size_of::<u64>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_room_for_those_that_have_looked() {
        assert_eq!(Size::with_spare(1 << 18, 2), Size { count: 1 << 18, limit: (1 << 18) - 48 });
        // Of a small one nothing is taken away.
        assert_eq!(Size::with_spare(64, 2), Size { count: 128, limit: 64 });
        for (wanted, cpus) in [(64, 1), (64, 512), (1 << 13, 64), (1 << 18, 8192), (1 << 25, 8192)] {
            let Size { count, limit } = Size::with_spare(wanted, cpus);
            assert!(
                count.is_power_of_two() && limit <= count - cpus * AT_ONCE * MOST_SLOTS,
                "{wanted} {cpus}"
            );
            assert!(limit >= wanted / 8 * 7, "{wanted} {cpus}: {limit}");
        }
    }

    #[test]
    fn slots_are_used_where_programs_can_take_them() {
        assert_eq!(Size::of(1 << 20, (5, 11)).count, 0);
        assert_eq!(Size::of(1 << 20, (5, 12)).count > 0, cfg!(target_arch = "x86_64"));
    }
}
