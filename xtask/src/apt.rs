//! Debian packages on this machine: what is known, what is installed, installing.

use std::{ffi::OsStr, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    privilege::Privilege,
    process::{on_path, output, run, step},
};

/// Whether this machine has apt.
pub fn is_here() -> bool {
    on_path("apt-get").is_some()
}

/// The version that apt would install, if it knows the package.
pub fn candidate(package: &str) -> Option<String> {
    let mut command = Command::new("apt-cache");
    let policy = output(command.env("LC_ALL", "C").args(["policy", package]), "asking apt").ok()?;
    candidate_in(&policy)
}

/// Downloads the package lists anew.
pub fn update(privilege: Privilege) -> Result<()> {
    step("apt-get update");
    run(apt_get(privilege).args(["-q", "update"]), "updating the package lists")
}

/// Installs packages. A failure is tried once more with fresh lists: old ones name files that the mirror has replaced.
pub fn install(packages: &[String]) -> Result<()> {
    let Some(privilege) = Privilege::any() else {
        bail!("these packages are missing, type as root: {}", command_line(packages));
    };
    if packages.iter().any(|package| candidate(package).is_none()) {
        update(privilege)?;
    }
    step(&format!("installing {}", packages.join(" ")));
    let install = || {
        let mut command = apt_get(privilege);
        command.args(["-q", "install", "-y", "--no-install-recommends"]).args(packages);
        run(&mut command, "installing packages")
    };
    install().or_else(|_| update(privilege).and_then(|()| install())).with_context(|| {
        format!(
            "installing {} failed; check the network and the package sources, then try again",
            packages.join(" ")
        )
    })
}

/// What a user types to install the packages.
pub fn command_line(packages: &[String]) -> String {
    format!("apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn apt_get(privilege: Privilege) -> Command {
    privilege.command(&[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))], "apt-get")
}

fn candidate_in(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim_start().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate_in(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate_in("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_in(""), None);
    }
}
