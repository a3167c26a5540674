//! What can go wrong between here and the kernel, in words that say what to do.

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, kprobe::KProbeError},
};

use crate::kernel::btf::BtfError;

/// Why no kprobe can be made.
pub(super) const NO_KPROBES: &str = "this kernel is built without kprobes (CONFIG_KPROBES)";

/// Tracing is impossible.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The programs or their maps were refused.
    #[error("the kernel refused the programs' maps: {}", chain(.0))]
    Load(#[source] EbpfError),
    /// The limit of locked memory is too low for the maps.
    #[error(
        "no room for the programs' maps: {}\n  before Linux 5.11 they count against the limit of locked memory, which \
         only CAP_SYS_RESOURCE can raise;\n  as root: ulimit -l unlimited (or give CAP_SYS_RESOURCE, too, or a smaller \
         --buffer-size)",
        chain(.0)
    )]
    LockedMemory(#[source] EbpfError),
    /// The kernel's types are not as needed.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's types cannot be read by the loader.
    #[error("cannot read the kernel's type information for loading: {0}")]
    LoaderBtf(String),
    /// A map of the object is not there: the object is not this version's.
    #[error("the compiled kernel programs have no map {0}: rebuild with `cargo xtask build`")]
    NoMap(&'static str),
    /// The memory of a map cannot be had.
    #[error("cannot map the memory of {name}: {source}")]
    Mmap {
        /// Which.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A map cannot be used.
    #[error("cannot use the map {name}: {}", chain(source))]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        source: MapError,
    },
}

impl CollectError {
    /// Before 5.11 EPERM for a map mostly means the limit of locked memory, as capabilities were looked at before.
    pub(super) fn explained(self, kernel: (u32, u32)) -> Self {
        match self {
            Self::Load(error) if kernel < (5, 11) && is_refused_map(&error) => Self::LockedMemory(error),
            error => error,
        }
    }

    /// Wraps a map's error with the map's name.
    pub(super) fn map(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { name, source }
    }
}

fn is_refused_map(error: &EbpfError) -> bool {
    let EbpfError::MapError(MapError::CreateError { io_error, .. }) = error else { return false };
    io_error.raw_os_error() == Some(libc::EPERM)
}

/// An error with its causes. aya's messages mostly name the call and leave the cause to the source.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a program was refused, in one line. A verifier's log runs over pages: its last line but the statistics says why.
pub(super) fn refusal(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let verdict = log.lines().rev().find(|line| {
            let line = line.trim();
            !line.is_empty()
                && !["processed ", "verification time", "stack depth"]
                    .iter()
                    .any(|start| line.starts_with(start))
        });
        if !log.is_empty() {
            log::debug!("verifier: {log}");
        }
        return match verdict {
            Some(verdict) if log.contains('\n') => format!("{io_error}: {}", verdict.trim()),
            _ => io_error.to_string(),
        };
    }
    if let ProgramError::KProbeError(KProbeError::FileError { filename, .. }) = error
        && filename.ends_with("kprobe/type")
    {
        return NO_KPROBES.to_owned();
    }
    // ENOTSUPP is no errno that C libraries know. Trampolines give it for functions with more arguments than they pass on
    // (six on x86 in 5.10: not ip6_xmit, which has seven).
    chain(error)
        .replace("Unknown error 524 (os error 524)", "this kernel's trampolines do not take it (ENOTSUPP)")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_map_refused_by_an_old_kernel_names_the_limit() {
        let refused = |errno, kernel| {
            let io_error = io::Error::from_raw_os_error(errno);
            let error = MapError::CreateError { name: "EVENTS".into(), io_error };
            CollectError::Load(EbpfError::MapError(error)).explained(kernel).to_string()
        };
        let said = refused(libc::EPERM, (5, 10));
        assert!(said.contains("CAP_SYS_RESOURCE") && said.contains("ulimit -l unlimited"), "{said}");
        assert!(said.contains("EVENTS"), "{said}");
        assert!(!refused(libc::EPERM, (5, 11)).contains("ulimit"));
        assert!(!refused(libc::EINVAL, (5, 10)).contains("ulimit"));
    }
}
