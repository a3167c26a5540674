//! How often the kernel skipped a program.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::Ebpf;
use tracer_common::probes::Backend;

use crate::model::Coverage;

/// The first kernel that counts kprobe programs that it skips. The field is there before, but stays zero.
const KPROBES_COUNTED: (u32, u32) = (6, 7);

/// `BPF_OBJ_GET_INFO_BY_FD`.
const GET_INFO: libc::c_int = 15;
/// `BPF_LINK_TYPE_PERF_EVENT`.
const PERF_EVENT: u32 = 7;
/// `BPF_PERF_EVENT_KPROBE`.
const KPROBE: u32 = 3;

/// Whether this kernel counts the programs that are attached. If it has the counter at all is seen when it is read.
pub(super) fn are_counted(coverage: &Coverage, kernel: (u32, u32)) -> bool {
    kernel >= KPROBES_COUNTED || !has_kprobes(coverage)
}

fn has_kprobes(coverage: &Coverage) -> bool {
    coverage.by_backend(Backend::Kprobe).next().is_some()
}

/// Times that a loaded program did not run where it should have; `None` if the kernel does not count.
pub(super) fn total(ebpf: &Ebpf, coverage: &Coverage) -> Option<u64> {
    let kprobes = if has_kprobes(coverage) { kprobes()? } else { 0 };
    Some(programs(ebpf)? + kprobes)
}

/// Times that a program was skipped because it, or for kprobes any program, was running on that CPU (`recursion_misses`,
/// kernel 5.12 and later).
fn programs(ebpf: &Ebpf) -> Option<u64> {
    let mut total = None;
    for (_, program) in ebpf.programs() {
        let Ok(fd) = program.fd() else { continue };
        let misses = fdinfo(fd.as_fd().as_raw_fd(), "recursion_misses:")?;
        *total.get_or_insert(0) += misses.parse::<u64>().ok()?;
    }
    total
}

/// Times that a kprobe did not come to its program, as it was hit while the handler of another one ran on that CPU: a
/// softirq that interrupts one passes all others unseen.
fn kprobes() -> Option<u64> {
    // aya hands out no descriptors of links; all links of this process are its own.
    let mut total = 0;
    for entry in fs::read_dir("/proc/self/fd").ok()? {
        let Some(fd) = entry.ok().and_then(|entry| entry.file_name().to_str()?.parse().ok()) else {
            continue;
        };
        if fdinfo(fd, "link_type:").is_some_and(|link| link.starts_with("perf")) {
            total += LinkInfo::of(fd).map_or(0, |info| info.missed_by_kprobe());
        }
    }
    Some(total)
}

/// What the kernel says of a descriptor behind a key.
fn fdinfo(fd: RawFd, key: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

/// `struct bpf_link_info` of a perf event that is a kprobe, as of 6.7.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    event_type: u32,
    pad2: u32,
    func_name: u64,
    name_len: u32,
    offset: u32,
    addr: u64,
    missed: u64,
}

/// The part of `union bpf_attr` that [`GET_INFO`] reads.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

impl LinkInfo {
    fn of(fd: RawFd) -> Option<Self> {
        let mut info = Self::default();
        let attr = GetInfo {
            bpf_fd: fd.cast_unsigned(),
            info_len: u32::try_from(size_of::<Self>()).ok()?,
            info: (&raw mut info).addr() as u64,
        };
        // SAFETY: the kernel reads `attr`, and writes at most `info_len` bytes to `info`; both live through the call, and
        // any bits are a value of it. No name is asked for.
        let result = unsafe { libc::syscall(libc::SYS_bpf, GET_INFO, &raw const attr, size_of::<GetInfo>()) };
        (result == 0).then_some(info)
    }

    fn missed_by_kprobe(&self) -> u64 {
        if (self.link_type, self.event_type) == (PERF_EVENT, KPROBE) { self.missed } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::probes::Point;

    use super::*;
    use crate::model::{Attached, State};

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

    #[test]
    fn the_counter_stands_where_the_kernel_writes_it() {
        // `struct bpf_link_info` of 6.7: the union begins at 16, `perf_event.kprobe` at 24.
        assert_eq!(std::mem::offset_of!(LinkInfo, event_type), 16);
        assert_eq!(std::mem::offset_of!(LinkInfo, func_name), 24);
        assert_eq!(std::mem::offset_of!(LinkInfo, missed), 48);
    }
}
