//! Counters that programs which interrupt each other on one CPU share.

/// Adds to an aligned, live counter.
///
/// `core` offers no atomic read-modify-write for BPF, as the target has no compare-and-swap before 5.12; the plain
/// atomic add is in every version of the instruction set.
///
/// # Safety
/// `counter` must be valid for reads and writes, and aligned.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: one aligned 8-byte read-modify-write at an address that the caller vouches for.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {value}", counter = in(reg) counter, value = in(reg) value);
    }
    // Type checking on the host only: the programs are never run there.
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: as above.
    unsafe {
        counter.write(counter.read().wrapping_add(value));
    }
}
