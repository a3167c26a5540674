//! How often the kernel skipped a program.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::Ebpf;
use tracer_common::probes::Backend;

use crate::model::{Coverage, State};

/// The first kernel that counts kprobe programs that it skips. The field is there before, but stays zero.
const KPROBES_COUNTED: (u32, u32) = (6, 7);

/// Whether this kernel counts the programs that are attached. If it has the counter at all is seen when it is read.
pub(super) fn are_counted(coverage: &Coverage, kernel: (u32, u32)) -> bool {
    kernel >= KPROBES_COUNTED
        || !coverage.all().any(
            |(_, state)| matches!(state, State::Attached(attached) if attached.backend == Backend::Kprobe),
        )
}

/// Times that a loaded program was skipped because it, or for kprobes any program, was running on that CPU
/// (`recursion_misses`, kernel 5.12 and later); `None` if the kernel does not count.
pub(super) fn total(ebpf: &Ebpf) -> Option<u64> {
    let mut total = None;
    for (_, program) in ebpf.programs() {
        let Ok(fd) = program.fd() else { continue };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        *total.get_or_insert(0) += misses.trim().parse::<u64>().ok()?;
    }
    total
}

#[cfg(test)]
mod tests {
    use tracer_common::probes::Point;

    use super::*;
    use crate::model::Attached;

    #[test]
    fn kprobes_are_counted_since_6_7() {
        let coverage = |backend| {
            let mut coverage = Coverage::default();
            let function = String::from("__dev_queue_xmit");
            coverage.set(Point::DevQueueXmit, State::Attached(Attached { backend, function }));
            coverage
        };
        assert!(!are_counted(&coverage(Backend::Kprobe), (6, 6)));
        assert!(are_counted(&coverage(Backend::Kprobe), (6, 7)));
        assert!(are_counted(&coverage(Backend::Kprobe), (7, 0)));
        assert!(are_counted(&coverage(Backend::Fentry), (6, 1)));
    }
}
