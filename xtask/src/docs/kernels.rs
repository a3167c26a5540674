//! What real kernels answered: `docs/hops/kernels.json`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tracer_common::probes::Backend;

/// The answers of all kernels, oldest kernel first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernels {
    pub(super) kernels: Vec<Kernel>,
}

/// The answers of one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    pub(super) release: String,
    pub(super) points: Vec<Point>,
}

/// The answers for one hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) hop: String,
    /// By the name of the backend. What was not tried is not there.
    pub(super) backends: BTreeMap<String, Answer>,
}

/// What became of an attempt to attach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// It is attached to this function or tracepoint.
    Function(String),
    /// It is not, for this reason.
    Refused(String),
}

impl Kernels {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| {
            format!("cannot read {}; `cargo xtask docs --measure` makes it", file.display())
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot put answers into JSON")? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Adds an answer; a later one replaces an earlier one.
    pub(super) fn add(&mut self, release: &str, hop: &str, backend: &str, answer: Answer) {
        let kernel = entry(
            &mut self.kernels,
            |kernel| kernel.release == release,
            || Kernel { release: release.into(), points: Vec::new() },
        );
        let point = entry(
            &mut kernel.points,
            |point| point.hop == hop,
            || Point { hop: hop.into(), backends: BTreeMap::new() },
        );
        point.backends.insert(backend.into(), answer);
    }
}

impl Kernel {
    /// As people call it: `6.12`.
    pub(super) fn version(&self) -> &str {
        let end = self.release.match_indices(|c: char| !c.is_ascii_digit()).nth(1);
        end.and_then(|(end, _)| self.release.get(..end)).unwrap_or(&self.release)
    }

    pub(super) fn answer(&self, hop: &str, backend: Backend) -> Option<&Answer> {
        self.points.iter().find(|point| point.hop == hop)?.backends.get(backend.name())
    }
}

/// The element that is meant, made if there is none.
fn entry<T>(list: &mut Vec<T>, is_meant: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let place = list.iter().position(is_meant).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    });
    &mut list[place]
}
