//! The command line of `cargo xtask`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Builds, tests and demonstrates pathtrace.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Compile the kernel programs and pathtrace; installs the eBPF toolchain if there is none
    Build {
        /// Link without shared libraries, for virtual machines and other distributions
        #[arg(long)]
        target_static: bool,
    },
    /// Install what building and testing need, and compile the kernel programs
    Setup,
    /// Run clippy on everything, the kernel programs included, and check docs/hops; a warning is an error
    Lint,
    /// Make the pages in docs/hops anew from the probe table
    Docs {
        /// Boot the kernels in QEMU first and note which hops each has, and by which backend
        #[arg(long)]
        measure: bool,
    },
    /// Run the tests: without root, live on this kernel, live on Debian's kernels in QEMU
    Test(TestArguments),
    /// Boot a kernel with pathtrace, the live tests and busybox, and run a shell command in it
    Vm(VmArguments),
    /// Trace connections that come and go for a while; memory must stay flat, nothing may be lost or left behind
    Soak(SoakArguments),
    /// Trace a TCP client and a server that talk over loopback
    Demo(DemoArguments),
    /// Measure what tracing costs, beside bpftrace and tcpdump (as root; some minutes)
    Bench(BenchArguments),
}

/// The options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub rounds: u32,
    /// Only these groups of works: tcp, unix, stream, connections, redis, programs, start, correlator
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these variants besides the untraced one: json, json-any, summary, sample, excluded, empty, one, bare, bpftrace-print,
    /// bpftrace-count, tcpdump
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    pub variants: Vec<String>,
    /// The verdicts as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if a verdict is not met
    #[arg(long)]
    pub gate: bool,
    /// Renew the tables in docs/performance.md
    #[arg(long)]
    pub write: bool,
    /// Keep the raw figures in this file, one JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub keep: Option<PathBuf>,
    /// Measure nothing, but read raw figures that were kept
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// The options of `test`.
#[derive(Debug, Args)]
pub struct TestArguments {
    /// Only this kernel in QEMU, for example 6.12 (can be repeated)
    #[arg(long, value_name = "VERSION")]
    pub kernel: Vec<String>,
    /// Each virtual machine runs all live tests that depend on the kernel by each backend (two hours), not in turns
    #[arg(long)]
    pub every: bool,
    /// No virtual machines
    #[arg(long, conflicts_with_all = ["kernel", "every"])]
    pub no_vm: bool,
    /// No live tests on the running kernel
    #[arg(long)]
    pub no_live: bool,
}

/// The options of `vm`.
#[derive(Debug, Args)]
pub struct VmArguments {
    /// The kernel, for example 6.12
    #[arg(long, value_name = "VERSION")]
    pub kernel: String,
    /// A file for the guest's folder /files (can be repeated)
    #[arg(long, value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// A network module for the guest's folder /modules besides the usual ones (can be repeated)
    #[arg(long, value_name = "NAME")]
    pub module: Vec<String>,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    pub timeout: u64,
    /// The command, for sh: `/pathtrace …`, `/live …`, busybox's; what it leaves in /out comes back
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

/// The options of `soak`.
#[derive(Debug, Args)]
pub struct SoakArguments {
    /// For how many minutes
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub minutes: u64,
}

/// The options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// The server's port
    #[arg(long, value_name = "N", default_value_t = 8888)]
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }
}
