//! apt with sources, lists and caches in a folder of its own. It verifies what it fetches, needs no privilege, and
//! leaves the machine's configuration alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::sources;
use crate::process::output;

/// One suite of Debian's archive.
pub(super) struct PrivateApt {
    options: Vec<String>,
}

impl PrivateApt {
    /// Fetches the suite's package list from the machine's own mirror.
    pub(super) fn new(folder: &Path, suite: &str) -> Result<Self> {
        let sources = folder.join("debian.sources");
        for needed in ["lists/partial", "cache/archives/partial"] {
            let needed = folder.join(needed);
            fs::create_dir_all(&needed).with_context(|| format!("cannot create {}", needed.display()))?;
        }
        fs::write(&sources, sources::mirror_for(suite)?.entry(suite))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let folder = folder.display();
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=-".into(),
            format!("Dir::State={folder}"),
            format!("Dir::State::Lists={folder}/lists"),
            "Dir::State::status=/dev/null".into(),
            format!("Dir::Cache={folder}/cache"),
            "Acquire::Languages=none".into(),
            // apt's own user may not write here.
            "APT::Sandbox::User=root".into(),
            // The kernels are for this architecture, whatever else the machine takes packages of.
            "APT::Architectures=amd64".into(),
        ];
        let apt = Self { options: options.into_iter().flat_map(|option| ["-o".into(), option]).collect() };
        let mut update = apt.command("apt-get");
        output(update.args(["-q", "update", "--error-on=any"]), "updating the package list")
            .map_err(|error| shorten(&error, &format!("the package list of {suite}")))?;
        Ok(apt)
    }

    /// The suite's packages, as `apt-cache dumpavail` prints them.
    pub(super) fn available(&self) -> Result<String> {
        output(self.command("apt-cache").arg("dumpavail"), "reading the package list")
    }

    /// Downloads packages into a folder and returns the files.
    pub(super) fn download(&self, packages: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        let mut command = self.command("apt-get");
        output(command.args(["-q", "download"]).args(packages).current_dir(folder), "downloading packages")
            .map_err(|error| shorten(&error, &packages.join(", ")))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                files.push(file);
            }
        }
        if files.len() < packages.len() {
            bail!("apt downloaded {} of {} packages", files.len(), packages.len());
        }
        Ok(files)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args(&self.options);
        command
    }
}

/// apt's own last message without the long command line.
fn shorten(error: &anyhow::Error, what: &str) -> anyhow::Error {
    let text = format!("{error:#}");
    let message = text.rsplit("): ").next().unwrap_or(&text);
    anyhow::anyhow!("apt could not download {what}; check the network ({message})")
}
