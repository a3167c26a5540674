//! The programs that virtual machines need on this machine.

use std::{
    env::consts::ARCH,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{apt, privilege::Privilege, process::on_path};

/// Whether virtual machines can run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// With this static busybox in the guest.
    Ready {
        /// The program on this machine.
        busybox: PathBuf,
    },
    /// For this reason they cannot.
    Not(String),
}

/// Looks for the programs; installs what is missing where that is possible.
pub fn prepare() -> Result<Readiness> {
    if ARCH != "x86_64" {
        return Ok(Readiness::Not(format!("the guests are x86_64, this machine is {ARCH}")));
    }
    let missing = missing();
    if !missing.is_empty() {
        if !apt::is_here() || Privilege::any().is_none() {
            let commands = apt::command_line(&missing);
            return Ok(Readiness::Not(format!("programs are missing; type as root: {commands}")));
        }
        apt::install(&missing)?;
    }
    Ok(match busybox() {
        Some(busybox) => Readiness::Ready { busybox },
        None => Readiness::Not("there is no static busybox".into()),
    })
}

/// The Debian packages of what is not there.
fn missing() -> Vec<String> {
    let mut packages = Vec::new();
    if on_path("qemu-system-x86_64").is_none() {
        packages.push("qemu-system-x86".into());
    }
    if busybox().is_none() {
        packages.push("busybox-static".into());
    }
    packages
}

fn busybox() -> Option<PathBuf> {
    on_path("busybox").filter(|file| is_static(file))
}

/// A dynamic program names its loader right behind its headers.
fn is_static(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(4096).read_to_end(&mut head));
    let names = |text: &[u8]| head.windows(text.len()).any(|window| window == text);
    read.is_ok() && names(b"ELF") && !names(b"/ld-linux") && !names(b"/ld-musl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_not_taken_for_a_static_one() {
        assert!(!is_static(Path::new("/proc/self/exe")), "tests are linked dynamically");
        assert!(!is_static(Path::new("/etc/passwd")));
    }
}
