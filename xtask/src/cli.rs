//! The command line of `cargo xtask`.

use clap::{Parser, Subcommand};

/// Builds, tests and demonstrates pathtrace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = false)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Compile the kernel programs and pathtrace, installing the eBPF toolchain if there is none
    Build {
        /// Link without shared libraries, for virtual machines and other distributions
        #[arg(long)]
        target_static: bool,
    },
}
