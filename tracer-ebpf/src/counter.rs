//! Counters that programs which interrupt each other on one CPU share.

/// Adds one to an aligned, live counter.
///
/// `core` offers no atomic read-modify-write for BPF, as the target has no compare-and-swap before 5.12; the plain
/// atomic add is in every version of the instruction set.
///
/// # Safety
/// `counter` must be valid for reads and writes, and aligned.
#[inline(always)]
pub(crate) unsafe fn add_one(counter: *mut u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: one aligned 8-byte read-modify-write at an address that the caller vouches for.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1u64);
    }
    // Type checking on the host only: the programs are never run there.
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: as above.
    unsafe {
        counter.write(counter.read() + 1);
    }
}
