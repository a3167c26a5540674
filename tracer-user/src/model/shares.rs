//! Where the time of a delivery went.

use tracer_common::probes::Point;

use super::Hop;

/// The parts of the way from the first hop to the read, ns. They add up to all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// The kernel's: from the first hop until the reader is woken.
    pub kernel_ns: u64,
    /// The scheduler's: until the reader's thread has a CPU. 0 if it was not asleep.
    pub scheduler_ns: u64,
    /// The reader's own: until it has copied the data out.
    pub reader_ns: u64,
}

/// A part of the way, and who is answerable for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `Shares::kernel_ns`.
    Kernel,
    /// `Shares::scheduler_ns`.
    Scheduler,
    /// `Shares::reader_ns`.
    Reader,
}

impl Part {
    /// All of them, in the order of the way.
    pub const ALL: [Self; 3] = [Self::Kernel, Self::Scheduler, Self::Reader];

    /// The stable name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Scheduler => "scheduler",
            Self::Reader => "reader",
        }
    }
}

impl Shares {
    /// How long a part took, ns.
    pub fn of_part(self, part: Part) -> u64 {
        match part {
            Part::Kernel => self.kernel_ns,
            Part::Scheduler => self.scheduler_ns,
            Part::Reader => self.reader_ns,
        }
    }

    /// The parts of a path that ends with a read and has seen the wake-up before.
    pub(super) fn of(hops: &[Hop]) -> Option<Self> {
        let (first, last) = (hops.first()?, hops.last()?);
        let time_of = |point| hops.iter().find(|hop| hop.point == point).map(|hop| hop.time_ns);
        let readable = time_of(Point::SockDefReadable).filter(|_| last.is_read())?;
        let woken = time_of(Point::SchedWaking).unwrap_or(readable);
        let on_cpu = time_of(Point::SchedSwitch).unwrap_or(woken);
        Some(Self {
            kernel_ns: woken.saturating_sub(first.time_ns),
            scheduler_ns: on_cpu.saturating_sub(woken),
            reader_ns: last.time_ns.saturating_sub(on_cpu),
        })
    }
}
