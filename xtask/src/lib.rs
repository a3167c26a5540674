//! What `cargo xtask` does: finds or installs the eBPF toolchain, builds, tests and demonstrates pathtrace.
//!
//! It is a library as well because `tracer-user`'s build script compiles the kernel programs with the same code.

pub mod apt;
pub mod bench;
pub mod browser;
pub mod build;
pub mod cli;
pub mod demo;
pub mod docs;
pub mod lint;
pub mod live;
pub mod privilege;
pub mod process;
pub mod test;
pub mod toolchain;
pub mod vm;
pub mod workspace;
