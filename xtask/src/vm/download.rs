//! Fetching a kernel: through apt, which verifies it, with a configuration of its own, which leaves the machine's alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result};

use super::{choose, kernels::Kernel, modules, private_apt::PrivateApt};
use crate::{
    process::{run, step},
    workspace::Workspace,
};

/// A kernel on disk.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    /// The kernel's own name, as `uname -r` prints it.
    pub(super) release: String,
    /// The kernel's folder under the workspace's `vm`.
    pub(super) folder: PathBuf,
}

impl Fetched {
    /// The kernel image.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Its network modules, in one flat folder.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("modules")
    }
}

/// The kernel from the cache, else from Debian's archive.
pub(super) fn fetch(workspace: &Workspace, kernel: &Kernel) -> Result<Fetched> {
    let folder = workspace.vm().join(kernel.version);
    // Written last, so it stands for a complete folder.
    let note = folder.join("package");
    if let Ok(package) = fs::read_to_string(&note) {
        return Ok(Fetched { release: release(&package), folder });
    }
    let package = download(workspace, kernel, &folder)
        .with_context(|| format!("cannot fetch kernel {} from Debian's {}", kernel.version, kernel.suite))?;
    fs::write(&note, &package).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(Fetched { release: release(&package), folder })
}

/// The kernel's name, which follows the two words of the package's: `linux-image-6.1.0-56-cloud-amd64`.
fn release(package: &str) -> String {
    package.trim().splitn(3, '-').last().unwrap_or_default().into()
}

fn download(workspace: &Workspace, kernel: &Kernel, folder: &Path) -> Result<String> {
    let apt = PrivateApt::new(&workspace.vm().join("apt").join(kernel.suite), kernel.suite)?;
    let available = apt.available()?;
    let packages = choose::newest(kernel, choose::names(&available))
        .context("no such package in its list; the mirror may have moved on to another version")?;
    step(&format!("fetching {}", packages.join(", ")));
    // Others may fetch the same kernel at this moment.
    let unpacked = folder.join(format!("unpacked-{}", process::id()));
    fs::create_dir_all(&unpacked).with_context(|| format!("cannot create {}", unpacked.display()))?;
    for archive in apt.download(&packages, &unpacked)? {
        run(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked), "unpacking a kernel package")?;
    }
    place(&unpacked, folder)?;
    fs::remove_dir_all(&unpacked).context("cannot remove unpacked packages")?;
    packages.into_iter().next().context("no package")
}

/// Takes the image and the modules out of an unpacked package: releases put them in different folders.
fn place(unpacked: &Path, folder: &Path) -> Result<()> {
    let files = files_under(unpacked)?;
    let is_image = |file: &&PathBuf| {
        file.file_name()
            .is_some_and(|name| name == "vmlinuz" || name.to_string_lossy().starts_with("vmlinuz-"))
    };
    let image = files.iter().find(is_image).context("the package holds no vmlinuz")?;
    fs::rename(image, folder.join("vmlinuz")).context("cannot place vmlinuz")?;
    let target = folder.join("modules");
    fs::create_dir_all(&target).context("cannot create the folder of modules")?;
    for file in &files {
        if let Some(name) = modules::network_module(file) {
            fs::rename(file, target.join(name)).context("cannot place a module")?;
        }
    }
    Ok(())
}

fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let read = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in read {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_taken_from_the_packages_name() {
        assert_eq!(release("linux-image-6.1.0-56-cloud-amd64\n"), "6.1.0-56-cloud-amd64");
        assert_eq!(release("linux-base-7.3.4+deb13-cloud-amd64"), "7.3.4+deb13-cloud-amd64");
    }
}
