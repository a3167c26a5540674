//! The compiler for the kernel programs.
//!
//! Rust's stable toolchains have no `core` for BPF. There are two ways to one, tried in this order: rustup's nightly
//! compiler builds `core` from its sources, or Debian's compiler comes with one built already.

mod find;
mod install;
mod version;

use std::path::PathBuf;

pub use find::find;
pub use install::find_or_install;

/// The linker's version that `install` takes.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// Debian's compiler. The path is spelled out because rustup's comes first on most `PATH`s.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler and a linker that work together.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Where `core` for BPF comes from.
    pub compiler: Compiler,
    /// The program bpf-linker.
    pub linker: PathBuf,
    /// For people: what was taken, and why not what comes earlier in the order.
    pub why: String,
}

/// Where `core` for BPF comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's nightly toolchain builds it from the component rust-src.
    Nightly,
    /// Debian's compiler, with the package that holds it ready made.
    Debian,
}

/// Why a way does not work on this machine, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub Vec<String>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}
