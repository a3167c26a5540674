//! What the tracing programs are measured against, at the very same tracepoints: a program that does nothing, and one that
//! does what any tracer must do who hands events to userspace, and no more.
#![no_std]
#![no_main]
#![allow(clippy::inline_always, reason = "the verifier wants one function a program")]

mod object;

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::map, maps::RingBuf};

/// As the tracing programs do: whoever reads looks on a timer.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// As large as the record of a hop.
type Record = [u64; 8];

/// The size is set by userspace.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// The time, a record, and nobody is woken.
#[inline(always)]
fn hand_over() {
    // SAFETY: the helper has no preconditions.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(mut entry) = RECORDS.reserve::<Record>(0) {
        entry.write([time_ns; 8]);
        entry.submit(BPF_RB_NO_WAKEUP);
    }
}

macro_rules! tracepoint_programs {
    // The reader is only named so that this is expanded for rows that have one.
    (@ $reader:ident $hop:literal) => {
        #[unsafe(export_name = concat!("empty_", $hop))]
        #[unsafe(link_section = "tp_btf")]
        extern "C" fn empty(_: *mut c_void) -> i32 {
            0
        }

        #[unsafe(export_name = concat!("bare_", $hop))]
        #[unsafe(link_section = "tp_btf")]
        extern "C" fn bare(_: *mut c_void) -> i32 {
            hand_over();
            0
        }
    };
}

// Only tracepoints: what a program costs does not depend on how it is called, and functions are not probed everywhere.
macro_rules! programs {
    ($(
        $id:ident $hop:literal in $traffic:ident, $context:ident;
        functions
            $([$($function:literal),+] read $reader:ident($($arg:ident: $index:literal),*))?
            $(none $no_function:literal)? $(as $function_of:ident)?;
        tracepoint
            $($name:literal read $tp_reader:ident($($tp_arg:ident: $tp_index:literal),*))?
            $(none $no_tracepoint:literal)? $(as $tracepoint_of:ident)?;
        $(alone $alone:literal read $alone_reader:ident($($alone_arg:ident: $alone_index:literal),*);)?
        about $about:literal;
    )*) => {$(
        const _: () = {
            $(tracepoint_programs!(@ $tp_reader $hop);)?
            $(tracepoint_programs!(@ $alone_reader $hop);)?
        };
    )*};
}
tracer_common::probe_points!(programs);
