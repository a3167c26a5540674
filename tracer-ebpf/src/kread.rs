//! The one place that reads kernel memory.
//!
//! Offsets come from the running kernel's BTF (`tracer_common::fields`). A read that fails yields 0: a kernel
//! pointer that cannot be read is no pointer, and callers treat 0 as "not known".

use aya_ebpf::{Global, helpers::generated::bpf_probe_read_kernel};

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
/// All zeroes and every other bit pattern must be valid.
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

/// Reads the `T` at `address + offset` into `value`; says whether it could.
#[inline(always)]
pub(crate) fn read_into<T: Plain>(address: Address, offset: u64, value: &mut T) -> bool {
    // SAFETY: the helper writes exactly size_of::<T>() bytes to `value`, zeroes if the address cannot be read, and
    // `T: Plain` makes any bytes valid.
    let result = unsafe {
        bpf_probe_read_kernel(
            core::ptr::from_mut(value).cast(),
            size_of::<T>() as u32,
            address.wrapping_add(offset) as *const _,
        )
    };
    result == 0
}

macro_rules! reader {
    ($name:ident, $field:ident, $type:ty, $doc:literal) => {
        #[doc = $doc]
        #[inline(always)]
        pub(crate) fn $name(address: Address, offset: u64) -> $type {
            let mut value: $type = 0;
            read_into(address, offset, &mut value);
            value
        }

        #[doc = concat!($doc, " That of a field.")]
        #[inline(always)]
        pub(crate) fn $field(address: Address, field: &Global<u32>) -> $type {
            $name(address, u64::from(field.load()))
        }
    };
}
reader!(u8_at, u8_field, u8, "The byte at `address + offset`, or 0.");
reader!(u16_at, u16_field, u16, "The 16 bits at `address + offset`, or 0.");
reader!(u32_at, u32_field, u32, "The 32 bits at `address + offset`, or 0.");
reader!(u64_at, u64_field, u64, "The 64 bits at `address + offset`, or 0.");
