//! Virtual machines with Debian's kernels.
//!
//! pathtrace attaches to functions that differ from kernel to kernel, and many machines that build it have no kprobes
//! at all. So the live tests also run inside QEMU, on one kernel of each generation that is supported. Debian's
//! packages are signed, stay available and have the configuration that people run.

mod choose;
mod console;
mod cpio;
mod download;
mod guest;
mod kernels;
mod matrix;
mod modules;
mod prepare;
mod private_apt;
mod qemu;
mod run;
mod sources;
mod turns;

pub use guest::Contents;
pub use kernels::{KERNELS, Kernel, by_versions};
pub use matrix::{Verdict, came_back, run_command, run_live_tests};
pub use prepare::{Readiness, prepare};
pub use turns::Share;
