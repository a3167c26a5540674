//! How a program finds the arguments of the function or tracepoint that it sits on.

use core::ffi::c_void;

use aya_ebpf::{bindings::pt_regs, programs::ProbeContext};

use crate::kread::{self, Given, Pointer as _, Raw, Typed};

/// Access to argument `n` as a register's 64 bits. `n` must be a constant once everything is inlined.
pub(crate) trait Args {
    /// What an argument that points to a struct of the kernel is read through.
    type Pointer: Given;

    /// Argument `n`, from 0; 0 where the calling convention has no such register.
    fn arg(&self, n: usize) -> u64;

    /// The same as a pointer.
    fn pointer(&self, n: usize) -> Self::Pointer;

    /// The same as a plain number: of a typed pointer that may be null the verifier allows no arithmetic.
    fn number(&self, n: usize) -> u64;
}

/// The context of fentry and `tp_btf` programs: an array with one `u64` an argument.
pub(crate) struct BtfArgs(pub(crate) *mut c_void);

impl Args for BtfArgs {
    type Pointer = Typed;

    #[inline(always)]
    fn pointer(&self, n: usize) -> Typed {
        Typed::to(self.arg(n))
    }

    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        // SAFETY: the verifier knows how many arguments there are and refuses the program if `n` is beyond them.
        unsafe { *self.0.cast::<u64>().add(n) }
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        kread::read(self.0 as u64, n as u64 * 8)
    }
}

/// The context of kprobe programs: the registers at the function's entry.
pub(crate) struct Registers(pub(crate) *mut c_void);

impl Args for Registers {
    type Pointer = Raw;

    #[inline(always)]
    fn pointer(&self, n: usize) -> Raw {
        Raw(self.arg(n))
    }

    #[inline(always)]
    fn arg(&self, n: usize) -> u64 {
        ProbeContext { regs: self.0.cast::<pt_regs>() }.arg(n).unwrap_or(0)
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n)
    }
}
