//! The one place that reads kernel memory.
//!
//! Offsets come from the running kernel's BTF (`tracer_common::fields`). A read that fails yields 0: a kernel
//! pointer that cannot be read is no pointer, and callers treat 0 as "not known".

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user, bpf_skc_to_tcp_sock},
};
#[cfg(target_arch = "bpf")]
use tracer_common::settings;

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

/// Whether programs may [load](load) from any memory: a constant for the verifier.
#[unsafe(no_mangle)]
static MEMORY_IS_LOADED: Global<u32> = Global::new(0);

/// Whether nothing is gained by keeping a pointer that the verifier knows.
#[inline(always)]
pub(crate) fn memory_is_loaded() -> bool {
    MEMORY_IS_LOADED.load() != 0
}

/// A pointer to memory of which the verifier knows nothing, and which it lets programs read, if [`MEMORY_IS_LOADED`].
#[inline(always)]
fn cast(address: Address) -> Address {
    #[cfg(target_arch = "bpf")]
    {
        let pointer;
        // SAFETY: a call of `bpf_rdonly_cast(address, 0)`, once userspace has written the function's number there; it has no effect
        // but that it gives the address back, and leaves nothing in the registers for arguments.
        unsafe {
            core::arch::asm!(
                ".quad {call}",
                call = const settings::CAST,
                inlateout("r1") address => _,
                // `void` in any BTF.
                inlateout("r2") 0u64 => _,
                lateout("r0") pointer,
                lateout("r3") _,
                lateout("r4") _,
                lateout("r5") _,
                options(pure, nomem, nostack)
            );
        }
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    address
}

/// Loads from [cast](cast) memory; 0 where there is none (`BPF_PROBE_MEM`).
#[inline(always)]
fn load<T: Plain>(at: Address) -> T {
    // SAFETY: the kernel catches faults. Volatile, as LLVM does not know that they may happen.
    unsafe { (at as *const T).read_volatile() }
}

/// Reads the `T` at `address + offset`; zeroes if it cannot be read.
#[inline(always)]
pub(crate) fn read<T: Plain>(address: Address, offset: u64) -> T {
    *read_to(address.wrapping_add(offset), &mut MaybeUninit::uninit())
}

/// [`read`], to a place that is there: what is large would be on the stack twice.
#[inline(always)]
pub(crate) fn read_to<T: Plain>(address: Address, room: &mut MaybeUninit<T>) -> &T {
    let to = room.as_mut_ptr();
    // SAFETY: each way writes all size_of::<T>() bytes, zeroes where they cannot be read, and `T: Plain` makes any bytes valid.
    // What is no integer is written in words only if it is aligned like them.
    unsafe {
        if !memory_is_loaded() {
            bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, address as *const _);
            return room.assume_init_ref();
        }
        let from = cast(address);
        match size_of::<T>() {
            1 => to.cast::<u8>().write(load(from)),
            2 => to.cast::<u16>().write_unaligned(load(from)),
            4 => to.cast::<u32>().write_unaligned(load(from)),
            size => {
                const {
                    let is_small = matches!(size_of::<T>(), 1 | 2 | 4);
                    assert!(is_small || align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8));
                };
                for word in 0..size / 8 {
                    to.cast::<u64>().add(word).write(load(from.wrapping_add(word as u64 * 8)));
                }
            }
        }
        room.assume_init_ref()
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

/// What fields of a struct of the kernel are read from.
pub(crate) trait Fields: Copy {
    /// Reads the field at this place, which must be as large as `T`; zeroes if it cannot be read.
    fn read<T: Plain>(self, offset: u64) -> T;

    /// Reads a field.
    #[inline(always)]
    fn field<T: Plain>(self, field: &Global<u32>) -> T {
        self.read(u64::from(field.load()))
    }

    /// Reads 16 bytes of an array, or of a union of arrays.
    #[inline(always)]
    fn words(self, field: &Global<u32>) -> [u64; 2] {
        let offset = u64::from(field.load());
        [self.read(offset), self.read(offset.wrapping_add(8))]
    }
}

/// A pointer to a struct of the kernel; null where there is none, whose fields are all 0.
///
/// A helper's call for each field is most of what a program costs (40 ns on a machine with return thunks, where a load takes
/// less than one), so fields are loaded wherever the verifier knows the struct.
pub(crate) trait Pointer: Fields {
    /// What its fields that point to structs are.
    type Target: Pointer<Target = Self::Target>;

    /// One to this address.
    fn to(address: Address) -> Self;
    /// As the verifier knows it.
    fn held(self) -> Address;

    /// Where it points to, as a number.
    #[inline(always)]
    fn address(self) -> Address {
        as_number(self.held())
    }

    /// Reads a field that points to a struct.
    #[inline(always)]
    fn pointer(self, field: &Global<u32>) -> Self::Target {
        Self::Target::to(self.field(field))
    }

    /// Reads a field that points to anything, as a number. Newer verifiers (6.18) take a loaded `void *` or `char *` for a pointer, too
    /// (`PTR_UNTRUSTED` to read-only memory), which it lets no global function have.
    #[inline(always)]
    fn address_in(self, field: &Global<u32>) -> Address {
        self.pointer(field).address()
    }

    /// The struct that lies within this one.
    #[inline(always)]
    fn inner(self, field: &Global<u32>) -> Self {
        Self::to(self.held().wrapping_add(u64::from(field.load())))
    }

    /// The same memory as what the verifier does not know: the larger struct that this one is the beginning of.
    #[inline(always)]
    fn raw(self) -> Raw {
        Raw(self.address())
    }

    /// Whether it points to nothing. Of some pointers the verifier wants to know before their fields are loaded.
    #[inline(always)]
    fn is_null(self) -> bool {
        self.held() == 0
    }
}

/// A pointer that a program was given, which newer kernels' helpers want as they want it trusted.
pub(crate) trait Given: Pointer {
    /// Of a `struct sock` the `struct tcp_sock` that it is the beginning of; null if it is none.
    fn tcp_sock(self) -> Self;
}

/// A pointer of which the verifier knows the struct: an argument of a program whose types it knows, or what a helper returns. A load
/// that fails gives 0 (`BPF_PROBE_MEM`).
#[derive(Clone, Copy)]
pub(crate) struct Typed(Address);

/// What such a struct points to: where [`MEMORY_IS_LOADED`], a number, and else a pointer as [`Typed`].
///
/// To load a pointer from an argument the verifier (6.18) looks several times through all of the kernel's types, to learn whether it
/// may trust it (`btf_nested_type_is_trusted`): a fifth of the time that starting took. So it is loaded from cast memory, if that can
/// be.
#[derive(Clone, Copy)]
pub(crate) struct Walked(Address);

/// Negated twice: on pointers the verifier allows hardly any arithmetic, but what it does not follow is a number for it (for those who
/// may see addresses, `CAP_PERFMON`).
#[inline(always)]
fn as_number(pointer: Address) -> Address {
    #[cfg_attr(not(target_arch = "bpf"), expect(unused_mut, reason = "the assembly is for BPF only"))]
    let mut address = pointer;
    #[cfg(target_arch = "bpf")]
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!(
            "{address} = -{address}",
            "{address} = -{address}",
            address = inout(reg) address,
            options(pure, nomem, nostack)
        );
    }
    address
}

/// A pointer that is just a number.
#[derive(Clone, Copy)]
pub(crate) struct Raw(pub(crate) Address);

impl Pointer for Typed {
    type Target = Walked;

    #[inline(always)]
    fn to(address: Address) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn held(self) -> Address {
        self.0
    }

    #[inline(always)]
    fn pointer(self, field: &Global<u32>) -> Walked {
        Walked(self.0).pointer(field)
    }
}

impl Given for Typed {
    #[inline(always)]
    fn tcp_sock(self) -> Self {
        // SAFETY: the verifier accepts nothing but a socket.
        Self(unsafe { bpf_skc_to_tcp_sock(self.0 as *mut _) } as Address)
    }
}

impl Pointer for Walked {
    type Target = Self;

    #[inline(always)]
    fn to(address: Address) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn held(self) -> Address {
        self.0
    }
}

impl Fields for Walked {
    /// Where memory is not loaded, the cast is a move, and the load that of a struct which the verifier knows.
    #[inline(always)]
    fn read<T: Plain>(self, offset: u64) -> T {
        load(cast(self.0.wrapping_add(offset)))
    }
}

impl Fields for Typed {
    #[inline(always)]
    fn read<T: Plain>(self, offset: u64) -> T {
        // SAFETY: the verifier accepts the load only where it knows the struct, and the kernel catches its faults. Volatile, as
        // it wants each field read by itself, and LLVM would join neighbours.
        unsafe { (self.0.wrapping_add(offset) as *const T).read_volatile() }
    }
}

impl Pointer for Raw {
    type Target = Self;

    #[inline(always)]
    fn to(address: Address) -> Self {
        Self(address)
    }

    #[inline(always)]
    fn held(self) -> Address {
        self.0
    }

    #[inline(always)]
    fn address(self) -> Address {
        self.0
    }
}

impl Given for Raw {
    #[inline(always)]
    fn tcp_sock(self) -> Self {
        self
    }
}

impl Fields for Raw {
    #[inline(always)]
    fn read<T: Plain>(self, offset: u64) -> T {
        read(self.0, offset)
    }

    #[inline(always)]
    fn words(self, field: &Global<u32>) -> [u64; 2] {
        self.field(field)
    }
}

/// The beginning of a struct that is read from at most [`COPIED`] bytes on, read at once: one call of a helper for all its fields.
#[derive(Clone, Copy)]
pub(crate) struct Copied<'a>(&'a [u64; COPIED / 8]);

/// Bytes of a [`Copied`]: `struct sock_common` up to its addresses.
pub(crate) const COPIED: usize = 88;

impl<'a> Copied<'a> {
    /// Reads the beginning of the struct at `from` to `room`.
    #[inline(always)]
    pub(crate) fn of(from: Raw, room: &'a mut MaybeUninit<[u64; COPIED / 8]>) -> Self {
        Self(read_to(from.0, room))
    }
}

impl Fields for Copied<'_> {
    #[inline(always)]
    fn read<T: Plain>(self, offset: u64) -> T {
        const { assert!(size_of::<T>() <= size_of::<u64>()) };
        let offset = offset as usize;
        if offset + size_of::<T>() > COPIED {
            // SAFETY: `T: Plain` says that zeroes are a value.
            return unsafe { core::mem::zeroed() };
        }
        // SAFETY: within the array, as just checked, and aligned as the kernel aligns the field.
        unsafe { core::ptr::from_ref(self.0).cast::<u8>().add(offset).cast::<T>().read() }
    }
}
