//! What the running kernel and our privileges allow, read from files before anything is tried.
//!
//! It explains failures and spares hopeless tries; whether a program really loads and attaches, only trying tells.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file without which nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// It cannot be read.
    #[error("cannot read {}: {source} (is /proc mounted?)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("{} does not name the capabilities of this process", path.display())]
    NoCapabilities {
        /// The file.
        path: PathBuf,
    },
}

/// How far the kernel is locked down against root (`security/lockdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all.
    None,
    /// The kernel may not be changed. Tracing is allowed.
    Integrity,
    /// The kernel may not be read either: `LOCKDOWN_KPROBES` and `LOCKDOWN_BPF_READ_KERNEL` are refused, so no program
    /// of ours can work.
    Confidentiality,
}

impl Lockdown {
    /// The kernel's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }

    /// Reads `none [integrity] confidentiality`, where the brackets mark what is in force.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('[')?;
        match rest.split_once(']')?.0 {
            "none" => Some(Self::None),
            "integrity" => Some(Self::Integrity),
            "confidentiality" => Some(Self::Confidentiality),
            _ => None,
        }
    }
}

/// What this process may do, as far as tracing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Load programs: `CAP_BPF`, or `CAP_SYS_ADMIN`, which includes it.
    pub bpf: bool,
    /// Attach them and read kernel memory: `CAP_PERFMON`, or `CAP_SYS_ADMIN`, which includes it.
    pub perfmon: bool,
    /// Whether the kernel knows the two (5.8 and later, or backported). Before, only `CAP_SYS_ADMIN` counts.
    pub fine_grained: bool,
}

impl Privileges {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;

    /// Reads the effective capabilities from `/proc/self/status`; `last` is the last capability that the kernel knows.
    fn parse(status: &str, last: u32) -> Option<Self> {
        let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        let has = |capability: u32| mask >> capability & 1 == 1;
        Some(Self {
            bpf: has(Self::BPF) || has(Self::SYS_ADMIN),
            perfmon: has(Self::PERFMON) || has(Self::SYS_ADMIN),
            fine_grained: last >= Self::BPF,
        })
    }

    /// The capabilities that tracing needs, each with whether this process has it (or one that includes it).
    pub fn needed(self) -> Vec<(&'static str, bool)> {
        if self.fine_grained {
            vec![("CAP_BPF", self.bpf), ("CAP_PERFMON", self.perfmon)]
        } else {
            vec![("CAP_SYS_ADMIN", self.bpf && self.perfmon)]
        }
    }

    /// The capabilities that tracing needs and this process lacks.
    pub fn missing(self) -> Vec<&'static str> {
        self.needed().into_iter().filter_map(|(name, held)| (!held).then_some(name)).collect()
    }
}

/// What is known before anything is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// What this process may do.
    pub privileges: Privileges,
    /// How far the kernel is locked down; `None` if it does not say (no such security module, or no securityfs).
    pub lockdown: Option<Lockdown>,
}

impl Features {
    /// The first two numbers of the release; zeroes if it has none.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers =
            self.release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// What the running kernel allows this process.
    pub fn running() -> Result<Self, FeatureError> {
        Self::read(Path::new("/"))
    }

    /// As [`running`](Self::running), with `/proc` and `/sys` under another root.
    pub fn read(root: &Path) -> Result<Self, FeatureError> {
        let text = |path: &str| {
            let path = root.join(path);
            fs::read_to_string(&path).map_err(|source| FeatureError::Read { path, source })
        };
        let release = text("proc/sys/kernel/osrelease")?.trim().to_owned();
        // Distributions backport: what the kernel knows counts, not its version.
        let last = text("proc/sys/kernel/cap_last_cap")?.trim().parse().unwrap_or(u32::MAX);
        let privileges = Privileges::parse(&text("proc/self/status")?, last)
            .ok_or_else(|| FeatureError::NoCapabilities { path: root.join("proc/self/status") })?;
        Ok(Self {
            release,
            privileges,
            lockdown: text("sys/kernel/security/lockdown").ok().and_then(|text| Lockdown::parse(&text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u32 = 40;

    fn status(mask: u64) -> String {
        format!(
            "Name:\tpathtrace\nCapPrm:\t0000000000000000\nCapEff:\t{mask:016x}\nCapBnd:\t000001ffffffffff\n"
        )
    }

    fn missing(mask: u64, last: u32) -> Vec<&'static str> {
        Privileges::parse(&status(mask), last).map(Privileges::missing).unwrap_or_default()
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing(0, LAST), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 39, LAST), ["CAP_PERFMON"]);
        assert_eq!(missing(1 << 38, LAST), ["CAP_BPF"]);
        assert!(missing(1 << 38 | 1 << 39, LAST).is_empty());
        assert!(missing(1 << 21, LAST).is_empty());
    }

    #[test]
    fn a_kernel_without_fine_capabilities_needs_the_coarse_one() {
        assert_eq!(missing(0, 37), ["CAP_SYS_ADMIN"]);
        assert!(missing(1 << 21, 37).is_empty());
    }

    #[test]
    fn status_without_a_mask_is_refused() {
        assert_eq!(Privileges::parse("Name:\tpathtrace\n", LAST), None);
        assert_eq!(Privileges::parse("CapEff:\tnonsense\n", LAST), None);
    }

    #[test]
    fn lockdown_is_what_stands_in_brackets() {
        assert_eq!(Lockdown::parse("[none] integrity confidentiality\n"), Some(Lockdown::None));
        assert_eq!(Lockdown::parse("none [integrity] confidentiality\n"), Some(Lockdown::Integrity));
        assert_eq!(Lockdown::parse("none integrity [confidentiality]\n"), Some(Lockdown::Confidentiality));
        assert_eq!(Lockdown::parse("none integrity\n"), None);
    }

    #[test]
    fn a_kernel_is_read_from_its_files() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap_or(root.path()))?;
            fs::write(path, text)
        };
        assert!(matches!(Features::read(root.path()), Err(FeatureError::Read { .. })));
        write("proc/sys/kernel/osrelease", "6.1.0-40-cloud-amd64\n")?;
        write("proc/sys/kernel/cap_last_cap", "40\n")?;
        write("proc/self/status", &status(1 << 39))?;
        let mut expected = Features {
            release: "6.1.0-40-cloud-amd64".to_owned(),
            privileges: Privileges { bpf: true, perfmon: false, fine_grained: true },
            lockdown: None,
        };
        assert_eq!(Features::read(root.path()).ok(), Some(expected.clone()));
        assert_eq!(expected.version(), (6, 1));

        write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")?;
        expected.lockdown = Some(Lockdown::Integrity);
        assert_eq!(Features::read(root.path()).ok(), Some(expected));
        Ok(())
    }
}
