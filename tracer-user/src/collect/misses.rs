//! How often the kernel skipped a program.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::Ebpf;

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
