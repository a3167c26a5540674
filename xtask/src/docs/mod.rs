//! `cargo xtask docs`: a page for each hop, made from the probe table and from what real kernels answered.
//!
//! Prose that repeats a table is wrong as soon as the table changes. So the pages are generated and committed, where
//! people read them, and `cargo xtask lint` says when they are old.

mod index;
mod kernels;
mod measure;
mod page;
mod recording;
mod row;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tracer_common::probes::PROBES;

use self::{kernels::Kernels, row::Row};
use crate::{process::step, workspace::Workspace};

/// The first line of each page, which tells whoever opens it to edit.
const GENERATED: &str =
    "<!-- Made by `cargo xtask docs` from tracer-common/src/probes.rs and docs/hops/kernels.json. -->\n\n";

/// Writes the pages; with `measure` after asking the kernels anew.
pub fn docs(workspace: &Workspace, measure: bool) -> Result<()> {
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if measure {
        measure::measure(workspace)?.write(&kernels_file(&folder))?;
    }
    let pages = pages(&folder)?;
    for page in old(&folder, &pages)? {
        let file = folder.join(&page);
        let (done, result) = match pages.iter().find(|(name, _)| *name == page) {
            Some((_, text)) => ("wrote", fs::write(&file, text)),
            None => ("removed", fs::remove_file(&file)),
        };
        result.with_context(|| format!("cannot change {}", file.display()))?;
        step(&format!("{done} docs/hops/{page}"));
    }
    Ok(())
}

/// Fails if a page is not what it would be if it were made now.
pub fn check(workspace: &Workspace) -> Result<()> {
    let folder = folder(workspace);
    let old = old(&folder, &pages(&folder)?)?;
    if !old.is_empty() {
        bail!("not up to date in docs/hops: {}; `cargo xtask docs` makes them anew", old.join(", "));
    }
    Ok(())
}

/// Names and contents of all pages.
fn pages(folder: &Path) -> Result<Vec<(String, String)>> {
    let kernels = Kernels::read(&kernels_file(folder))?;
    let rows: Vec<Row> = PROBES.iter().map(Row::of).collect();
    let mut pages = vec![("README.md".into(), index::index(&rows, &kernels))];
    for (place, row) in rows.iter().enumerate() {
        pages.push((page::file(row.hop), page::page(&rows, place, &kernels)));
    }
    Ok(pages)
}

/// Pages that are missing, different or too many.
fn old(folder: &Path, pages: &[(String, String)]) -> Result<Vec<String>> {
    let mut old = Vec::new();
    for (name, text) in pages {
        if fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text) {
            old.push(name.clone());
        }
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_page = Path::new(&name).extension().is_some_and(|extension| extension == "md");
        if is_page && pages.iter().all(|(page, _)| *page != name) {
            old.push(name);
        }
    }
    Ok(old)
}

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/hops")
}

fn kernels_file(folder: &Path) -> PathBuf {
    folder.join("kernels.json")
}
