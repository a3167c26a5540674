//! The folder of one run, so that several can use a kernel at the same time.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use super::{
    download::Fetched,
    guest::Base,
    qemu::{self, Ending, Patience},
};

const PREFIX: &str = "run-";

/// Runs one command in one guest. The console and the files that came back then lie in the kernel's folder, in place
/// of an earlier run's.
pub(super) fn run(
    kernel: &Fetched,
    base: &Base,
    command: &str,
    patience: Patience,
    show: impl Fn(&str) + Sync,
) -> Result<Ending> {
    let folder = create(&kernel.folder)?;
    base.write(kernel, command, &folder.join("initrd"))?;
    let ending = qemu::boot(kernel, &folder, patience, show)?;
    for result in ["console.log", "out"] {
        let target = kernel.folder.join(result);
        let _ = fs::remove_dir_all(&target).or_else(|_| fs::remove_file(&target));
        fs::rename(folder.join(result), &target)
            .with_context(|| format!("cannot place {}", target.display()))?;
    }
    remove(&folder)?;
    Ok(ending)
}

/// Makes the folder, and removes those of runs that were interrupted.
fn create(kernel: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(kernel).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&entry.path())?;
        }
    }
    let folder = kernel.join(format!("{PREFIX}{}", process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
