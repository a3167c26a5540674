//! Which CPUs what runs on. That decides the figures, so nothing is left to the scheduler.

use anyhow::{Context as _, Result};
use pathtrace::workload::allowed_cpus;

/// The kernel's highest for programs that are no real-time ones.
const NICEST: i32 = -20;

/// Whatever else runs on this machine waits, as far as that can be asked for: for this process and all that it starts, so for
/// the work and for whoever traces it.
pub(crate) fn prefer_us() -> Result<()> {
    // SAFETY: the call takes no pointers.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("cannot set the priority") }
}

/// A CPU for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Both ends of a connection, or the client if they are apart.
    pub(crate) work: usize,
    /// The server if they are apart.
    pub(crate) other: usize,
    /// Whoever reads what the kernel hands over, and this program.
    pub(crate) tracer: usize,
    /// How many there are.
    pub(crate) count: usize,
}

impl Places {
    /// The last CPUs are for the work: the first one has more interrupts than others. With two CPUs, ends that are apart share
    /// one of them with the tracer.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = allowed_cpus().context("cannot ask which CPUs may be used")?;
        Self::of(&allowed).context("two CPUs are needed: one for the work, one for who traces it")
    }

    fn of(allowed: &[usize]) -> Option<Self> {
        let tracer = *allowed.first()?;
        let mut last = allowed.iter().rev().copied();
        let (work, other) = last.next().zip(last.next())?;
        Some(Self { work, other, tracer, count: allowed.len() })
    }
}
