//! What the kernel programs and userspace share, and nothing else.
//!
//! * [`probes`]: the probe table, from which both sides are expanded;
//! * [`event`]: the records that travel through the ring buffer;
//! * [`fields`]: the kernel struct fields that the programs read;
//! * [`settings`]: the read-only values that userspace sets before it loads the programs.
#![no_std]

pub mod event;
pub mod fields;
pub mod probes;
pub mod settings;
