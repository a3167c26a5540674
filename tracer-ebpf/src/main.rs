//! The programs that run in the kernel.
//!
//! Each probe point of the table becomes three small programs (fentry, kprobe, tracepoint) around one reader, so that
//! userspace can attach whichever the kernel allows. Everything here runs inside somebody's system call: it reads,
//! filters, writes one record and is gone.
#![no_std]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    feature(asm_experimental_arch),
    expect(unstable_features, reason = "inline assembly for BPF")
)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the verifier wants one function a program, and registers are cut to what the kernel put into them"
)]

mod context;
mod counter;
mod filter;
mod flow;
mod kread;
mod numbers;
mod object;
mod packet;
mod readers;
mod recent;
mod record;
mod ring;
mod sample;
mod words;

use core::ffi::c_void;

use tracer_common::probes::{Backend, Context, Point};

use crate::{
    context::{BtfArgs, Registers},
    record::Probe,
};

macro_rules! function_programs {
    ($hop:literal $id:ident $context:ident $reader:ident($($index:literal),*)) => {
        #[unsafe(export_name = concat!("fentry_", $hop))]
        #[unsafe(link_section = "fentry")]
        extern "C" fn fentry(ctx: *mut c_void) -> i32 {
            if let Some(probe) = Probe::enabled(Point::$id, Backend::Fentry, Context::$context) {
                readers::$reader(&BtfArgs(ctx), probe, $($index),*);
            }
            0
        }

        #[unsafe(export_name = concat!("kprobe_", $hop))]
        #[unsafe(link_section = "kprobe")]
        extern "C" fn kprobe(ctx: *mut c_void) -> i32 {
            if let Some(probe) = Probe::enabled(Point::$id, Backend::Kprobe, Context::$context) {
                readers::$reader(&Registers(ctx), probe, $($index),*);
            }
            0
        }
    };
}

macro_rules! tracepoint_program {
    ($hop:literal $id:ident $context:ident $reader:ident($($index:literal),*)) => {
        #[unsafe(export_name = concat!("tracepoint_", $hop))]
        #[unsafe(link_section = "tp_btf")]
        extern "C" fn tracepoint(ctx: *mut c_void) -> i32 {
            if let Some(probe) = Probe::enabled(Point::$id, Backend::Tracepoint, Context::$context) {
                readers::$reader(&BtfArgs(ctx), probe, $($index),*);
            }
            0
        }
    };
}

// `none` and `as Row` expand to nothing: there is no program, or it is another row's.
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
            $(function_programs!($hop $id $context $reader($($index),*));)?
            $(tracepoint_program!($hop $id $context $tp_reader($($tp_index),*));)?
            $(tracepoint_program!($hop $id $context $alone_reader($($alone_index),*));)?
        };
    )*};
}
tracer_common::probe_points!(programs);
