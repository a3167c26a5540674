//! The guest's file system: busybox, our programs, the modules and the command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, download::Fetched, modules};
use crate::process::{on_path, output};

const FOLDERS: [&str; 13] =
    ["bin", "dev", "proc", "sys", "tmp", "run", "var", "etc", "root", "out", "modules", "files", "mnt"];

/// What a guest gets besides busybox.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Static programs, as (path in the guest, file here). They are stripped.
    pub programs: Vec<(&'static str, PathBuf)>,
    /// Files for `/files`.
    pub files: Vec<PathBuf>,
    /// Network modules besides the usual ones.
    pub modules: Vec<String>,
}

impl Contents {
    /// Reads and strips everything that does not depend on the kernel, once for all of them.
    pub(super) fn load(&self, busybox: &Path, scratch: &Path) -> Result<Base> {
        let mut archive = Archive::default();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        archive.program("init", include_bytes!("init.sh"));
        archive.program("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n");
        archive.program("bin/busybox", &read(busybox)?);
        // Links made here cost nothing; made by `busybox --install` in the guest, they cost a second.
        let applets = output(Command::new(busybox).arg("--list"), "listing busybox's commands")?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
        for (path, file) in &self.programs {
            archive.program(path, &stripped(file, scratch)?);
        }
        for file in &self.files {
            let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            archive.program(&format!("files/{name}"), &read(file)?);
        }
        Ok(Base { archive: archive.finish(), modules: self.modules.clone() })
    }
}

/// The part of the file system that all kernels share.
pub(super) struct Base {
    archive: Vec<u8>,
    modules: Vec<String>,
}

impl Base {
    /// Writes the file system for one kernel and one command. The kernel unpacks archives that follow each other.
    pub(super) fn write(&self, kernel: &Fetched, command: &str, file: &Path) -> Result<()> {
        let mut own = Archive::default();
        own.program("command", command.as_bytes());
        for (name, content) in modules::load(&kernel.modules(), &self.modules)? {
            own.program(&format!("modules/{name}.ko"), &content);
        }
        let mut bytes = self.archive.clone();
        bytes.extend(own.finish());
        fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The program without symbols: they are most of its size, and the guest keeps its files in memory.
fn stripped(file: &Path, scratch: &Path) -> Result<Vec<u8>> {
    if on_path("strip").is_none() {
        return read(file);
    }
    // Others may do the same at this moment.
    let target = scratch.join(format!("stripped-{}", process::id()));
    output(Command::new("strip").arg("-o").arg(&target).arg(file), "stripping a program for the guest")?;
    let bytes = read(&target)?;
    fs::remove_file(&target).context("cannot remove a stripped program")?;
    Ok(bytes)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
