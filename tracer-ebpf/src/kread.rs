//! The one place that reads kernel memory.
//!
//! Offsets come from the running kernel's BTF (`tracer_common::fields`). A read that fails yields 0: a kernel
//! pointer that cannot be read is no pointer, and callers treat 0 as "not known".

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user},
};

macro_rules! offsets {
    ($($global:ident = $parent:literal . $path:literal;)*) => {
        /// Byte offsets of the fields, set by userspace before the programs are loaded.
        pub(crate) mod offset {
            use aya_ebpf::Global;
            $(
                #[unsafe(no_mangle)]
                pub(crate) static $global: Global<u32> = Global::new(0);
            )*
        }
    };
}
tracer_common::kernel_fields!(offsets);

/// An address in the kernel, 0 if unknown.
pub(crate) type Address = u64;

/// Types for which any bits are a value.
///
/// # Safety
/// Every bit pattern must be valid, and there must be no padding.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u8; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u64; N] {}

/// Reads the `T` at `address + offset`; zeroes if it cannot be read.
#[inline(always)]
pub(crate) fn read<T: Plain>(address: Address, offset: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes all size_of::<T>() bytes, zeroes if the address cannot be read, and `T: Plain` makes
    // any bytes valid.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address.wrapping_add(offset) as *const _,
        );
        value.assume_init()
    }
}

/// [`read`], to a place that is there.
#[inline(always)]
pub(crate) fn read_into<T: Plain>(address: Address, offset: u64, value: &mut T) {
    // SAFETY: as in `read`.
    unsafe {
        bpf_probe_read_kernel(
            core::ptr::from_mut(value).cast(),
            size_of::<T>() as u32,
            address.wrapping_add(offset) as *const _,
        );
    }
}

/// Reads the `T` at an address of the process on the CPU; zeroes if it cannot be read.
#[inline(always)]
pub(crate) fn read_user<T: Plain>(address: Address) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `read`.
    unsafe {
        bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// `len` if it is at most `room`, in a form that the verifier follows: LLVM would move the comparison away from the call
/// that it bounds.
#[inline(always)]
fn bounded(len: u32, room: usize) -> Option<u32> {
    #[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "the assembly is for BPF only"))]
    let mut len = u64::from(len);
    #[cfg(target_arch = "bpf")]
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{len} &= 255", len = inout(reg) len);
    }
    (len <= room as u64).then_some(len as u32)
}

/// Reads `len` bytes, at most as many as there is room for, to a place that is there; says whether they could be read.
#[inline(always)]
pub(crate) fn read_bytes<T: Plain>(address: Address, value: &mut T, len: u32) -> bool {
    let Some(len) = bounded(len, size_of::<T>()) else { return false };
    // SAFETY: `value` is as large as just checked, and `T: Plain` makes any bytes valid.
    unsafe { bpf_probe_read_kernel(core::ptr::from_mut(value).cast(), len, address as *const _) == 0 }
}

/// [`read_bytes`] from the memory of the process on the CPU.
#[inline(always)]
pub(crate) fn read_user_bytes<T: Plain>(address: Address, value: &mut T, len: u32) -> bool {
    let Some(len) = bounded(len, size_of::<T>()) else { return false };
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(core::ptr::from_mut(value).cast(), len, address as *const _) == 0 }
}

/// Zeroes a value in words: bpf-linker makes LLVM call `memset`, a loop over bytes, for any plain zeroing.
#[inline(always)]
pub(crate) fn zeroed<T: Plain>(value: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<u64>()) && align_of::<T>() == align_of::<u64>()) };
    let words = value.as_mut_ptr().cast::<u64>();
    for word in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: inside `value`, which is aligned as asserted; volatile, or LLVM would make it a `memset` again.
        unsafe { words.add(word).write_volatile(0) };
    }
    // SAFETY: all bytes were written, and `T: Plain`.
    unsafe { value.assume_init_mut() }
}

/// Zeroes an address, as [`zeroed`] does.
#[inline(always)]
pub(crate) fn zero(address: &mut [u8; 16]) {
    for byte in address {
        // SAFETY: a valid reference; volatile as above.
        unsafe { core::ptr::from_mut(byte).write_volatile(0) };
    }
}

macro_rules! field_readers {
    ($($name:ident: $type:ty),*) => {$(
        /// Reads a field of the struct at `address`, 0 if it cannot be read.
        #[inline(always)]
        pub(crate) fn $name(address: Address, field: &Global<u32>) -> $type {
            read(address, u64::from(field.load()))
        }
    )*};
}
field_readers!(u8_field: u8, u16_field: u16, u32_field: u32, u64_field: u64);
