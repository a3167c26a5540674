//! Why a verb failed, in words that say what failed, why it matters and what to do.

use std::{io, path::PathBuf};

use crate::{
    collect::CollectError,
    filter::FilterError,
    kernel::{btf::BtfError, features::FeatureError},
    store::StoreError,
    workload::Link,
};

/// A run that could not be done. Exit status 2, but for a reader that went away.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Not allowed to.
    #[error(
        "tracing the kernel needs {}, which this process lacks\n  as root:              sudo {command}\n  \
         or once:              sudo setcap cap_bpf,cap_perfmon=ep {program}",
        missing.join(" and ")
    )]
    Privilege {
        /// What is missing.
        missing: Vec<&'static str>,
        /// The command line as it was typed, quoted for a shell.
        command: String,
        /// The program's file, quoted for a shell.
        program: String,
    },
    /// No point that packets and messages pass could be attached.
    #[error("nothing that makes a path could be attached, so there is nothing to see:\n{0}")]
    NothingAttached(String),
    /// What the kernel says of itself cannot be read.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The kernel's types cannot be used.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel side failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// An option's value means nothing here.
    #[error("{option} {value}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: String,
        /// What is wrong with it, and what is valid.
        why: String,
    },
    /// The filter cannot be.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The recording cannot be read.
    #[error("{name}: {source}")]
    Store {
        /// The file, or what stands for it.
        name: String,
        /// Why.
        source: StoreError,
    },
    /// A file cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command that was to be traced cannot be started.
    #[error("cannot start {program:?}: {source}")]
    Command {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody asked to stop in the middle of a comparison.
    #[error("stopped before the comparison was complete, so there is nothing to show")]
    Interrupted {
        /// Which signal it was.
        signal: i32,
    },
    /// Messages of our own did not come to their end.
    #[error("messages over {link} did not arrive: {source}")]
    Exchange {
        /// Over what.
        link: Link,
        /// Why.
        source: io::Error,
    },
    /// A recorded comparison cannot be compared with.
    #[error("{}: {why}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The operating system refused something that it never should.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// An error of any kind: usage (clap's own status is the same), privilege, kernel.
const ERROR: u8 = 2;

impl Failure {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            // As a shell has it.
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(ERROR),
            _ => ERROR,
        }
    }

    /// Whether whoever read our output went away (`pathtrace | head`), which is how such runs end.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
