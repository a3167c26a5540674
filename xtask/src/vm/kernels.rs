//! The kernels that pathtrace is tested on, and which Debian packages hold them.

use anyhow::{Result, bail};

/// One kernel version and where Debian keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// As people call it: `6.12`.
    pub version: &'static str,
    /// The archive's suite.
    pub suite: &'static str,
    /// The packages' names up to the version. The newest point release that has them all is taken.
    pub packages: &'static [&'static str],
}

/// The flavour without drivers for real hardware: small, and all that a virtual machine needs.
pub(super) const FLAVOUR: &str = "-cloud-amd64";

const IMAGE: &[&str] = &["linux-image"];

/// One kernel of each generation that is supported, oldest first.
pub const KERNELS: [Kernel; 5] = [
    Kernel { version: "5.10", suite: "bullseye-security", packages: IMAGE },
    Kernel { version: "6.1", suite: "bookworm-security", packages: IMAGE },
    Kernel { version: "6.12", suite: "bookworm-security", packages: IMAGE },
    Kernel { version: "6.18", suite: "trixie-backports", packages: IMAGE },
    Kernel {
        version: "7.3",
        suite: "trixie-backports",
        packages: &["linux-base", "linux-binary", "linux-modules"],
    },
];

/// The kernels with these versions, each once; all of them if none is named.
pub fn by_versions(versions: &[String]) -> Result<Vec<Kernel>> {
    if let Some(unknown) =
        versions.iter().find(|version| KERNELS.iter().all(|kernel| kernel.version != **version))
    {
        bail!("no kernel `{unknown}`, there are: {}", KERNELS.map(|kernel| kernel.version).join(", "));
    }
    let wanted =
        |kernel: &Kernel| versions.is_empty() || versions.iter().any(|version| kernel.version == version);
    Ok(KERNELS.into_iter().filter(wanted).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_by_version() {
        assert_eq!(by_versions(&[]).unwrap().len(), 5);
        assert_eq!(by_versions(&["6.1".into(), "6.1".into()]).unwrap(), [KERNELS[1]]);
        let error = by_versions(&["4.9".into()]).unwrap_err().to_string();
        assert_eq!(error, "no kernel `4.9`, there are: 5.10, 6.1, 6.12, 6.18, 7.3");
    }
}
