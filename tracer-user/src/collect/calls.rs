//! The system calls of this architecture: their numbers, and where the kernel keeps their arguments.

#![allow(clippy::cast_possible_truncation, reason = "numbers of calls and offsets in a struct are small")]

#[cfg(target_arch = "x86_64")]
use std::mem::offset_of;

use tracer_common::settings::Calls;

/// In the order of `tracer_common::settings::Calls`.
pub(super) const NUMBERS: [u32; 11] = [
    libc::SYS_write as u32,
    libc::SYS_sendto as u32,
    libc::SYS_writev as u32,
    libc::SYS_sendmsg as u32,
    libc::SYS_sendmmsg as u32,
    libc::SYS_sendfile as u32,
    libc::SYS_splice as u32,
    libc::SYS_connect as u32,
    libc::SYS_recvfrom as u32,
    libc::SYS_recvmsg as u32,
    libc::SYS_recvmmsg as u32,
];

/// Those that send or connect (they come before those that receive) and have a low number, a bit each.
pub(super) const LOW: u64 = {
    let (mut bits, mut at) = (0, 0);
    while at <= Calls::Connect as usize {
        if NUMBERS[at] < u64::BITS {
            bits |= 1 << NUMBERS[at];
        }
        at += 1;
    }
    bits
};

/// Bytes from the start of `struct pt_regs` (`arch/x86/include/uapi/asm/ptrace.h`, which `user_regs_struct` begins like)
/// to each of the six arguments.
#[cfg(target_arch = "x86_64")]
pub(super) const ARGUMENTS: [u32; 6] = [
    offset_of!(libc::user_regs_struct, rdi) as u32,
    offset_of!(libc::user_regs_struct, rsi) as u32,
    offset_of!(libc::user_regs_struct, rdx) as u32,
    offset_of!(libc::user_regs_struct, r10) as u32,
    offset_of!(libc::user_regs_struct, r8) as u32,
    offset_of!(libc::user_regs_struct, r9) as u32,
];

/// Bytes from the start of `struct pt_regs`, which begins with the general registers, to each of the six arguments.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ARGUMENTS: [u32; 6] = {
    let register = size_of::<u64>() as u32;
    [0, register, 2 * register, 3 * register, 4 * register, 5 * register]
};

/// Bytes from the start of `struct pt_regs` to the code segment.
#[cfg(target_arch = "x86_64")]
pub(super) const CODE_SEGMENT: u32 = offset_of!(libc::user_regs_struct, cs) as u32;

/// There is none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const CODE_SEGMENT: u32 = 0;

/// Bytes from the start of `struct pt_regs` to the number of the system call.
#[cfg(target_arch = "x86_64")]
pub(super) const NUMBER: u32 = offset_of!(libc::user_regs_struct, orig_rax) as u32;

/// The same: `struct pt_regs` of arm64 has 31 registers, three more words and `orig_x0` before it.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const NUMBER: u32 = 35 * size_of::<u64>() as u32;

/// The first kernel with `bpf_task_pt_regs`.
pub(super) const SEEN_SINCE: (u32, u32) = (5, 15);
