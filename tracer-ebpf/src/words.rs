//! Comparisons and names as arithmetic on words, without branches.
//!
//! The verifier of older kernels follows both sides of each branch to the program's end: a chain of comparisons written
//! with branches took that of 5.10 over a minute.

use aya_ebpf::Global;

/// The name of a process or of a device, padded with NUL: words, which are compared at once.
pub(crate) type Name = [u64; 2];

/// The bytes of a name.
#[inline(always)]
pub(crate) fn bytes_of(name: Name) -> [u8; size_of::<Name>()] {
    // SAFETY: integers, and as many bytes.
    unsafe { core::mem::transmute(name) }
}

/// A name with what comes after its first NUL zeroed: the end of a longer former name stays there, of a
/// process before 5.17 (`__set_task_comm()`), of a device on all kernels (`dev_change_name()`).
#[inline(always)]
pub(crate) fn until_nul([first, second]: Name) -> Name {
    let end = first_nul(first);
    [first & up_to(end), second & up_to(first_nul(second)) & is_zero(end).wrapping_neg()]
}

/// The highest bit of each zero byte, of which the lowest one is right.
#[inline(always)]
fn first_nul(word: u64) -> u64 {
    word.wrapping_sub(u64::from_ne_bytes([0x01; 8])) & !word & u64::from_ne_bytes([0x80; 8])
}

/// All bits up to the lowest that is set; all if none is.
#[inline(always)]
fn up_to(bit: u64) -> u64 {
    bit ^ bit.wrapping_sub(1)
}

/// One of the numbers of a list that userspace sets: `Global::load` would load all of them, each time.
#[inline(always)]
pub(crate) fn element<T: Copy, const N: usize>(list: &Global<[T; N]>, index: usize) -> T {
    let first = core::ptr::from_ref(list).cast::<T>();
    // Mostly the index is a constant, and nothing is left of this.
    let index = if index < N { index } else { 0 };
    // SAFETY: `Global` is transparent, and the list is as long as that; volatile, as userspace writes it before the program is loaded.
    unsafe { first.add(index).read_volatile() }
}

/// A hash with one more word in it (the step of `FxHash`).
#[inline(always)]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// A word as part of a sum that tells it from others at other places.
#[inline(always)]
pub(crate) fn weigh(word: u64, at: usize) -> u64 {
    word.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * at as u64 + 3) | 1)
}

/// 1 for 0, and 0 for all else.
#[inline(always)]
pub(crate) fn is_zero(value: u64) -> u64 {
    mask_if_zero(value) & 1
}

/// All ones for 0, and 0 for all else. LLVM would make a branch of anything but assembly.
#[inline(always)]
pub(crate) fn mask_if_zero(value: u64) -> u64 {
    #[cfg(not(target_arch = "bpf"))]
    let mask = if value == 0 { u64::MAX } else { 0 };
    #[cfg(target_arch = "bpf")]
    let mask = {
        let (mut mask, mut negative) = (value, value);
        // SAFETY: arithmetic on registers.
        unsafe {
            core::arch::asm!(
                "{negative} = -{negative}",
                "{mask} |= {negative}",
                "{mask} s>>= 63",
                "{mask} ^= -1",
                mask = inout(reg) mask,
                negative = inout(reg) negative,
                options(pure, nomem, nostack)
            );
        }
        let _ = negative;
        mask
    };
    mask
}

/// All ones if the difference is negative, and 0 if it is not.
#[inline(always)]
pub(crate) fn mask_if_negative(difference: u64) -> u64 {
    #[cfg(not(target_arch = "bpf"))]
    let mask = (difference.cast_signed() >> 63).cast_unsigned();
    #[cfg(target_arch = "bpf")]
    let mask = {
        let mut mask = difference;
        // SAFETY: arithmetic on one register.
        unsafe {
            core::arch::asm!("{mask} s>>= 63", mask = inout(reg) mask, options(pure, nomem, nostack));
        }
        mask
    };
    mask
}
