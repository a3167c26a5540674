//! The browser that the tests look at pictures with.

use std::path::PathBuf;

use anyhow::Result;

use crate::{apt, privilege::Privilege, process::on_path};

/// Debian's name first, then what others call it.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const PACKAGE: &str = "chromium";

/// Whether there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Browser {
    /// This program.
    Ready(PathBuf),
    /// For this reason there is none.
    Not(String),
}

/// Looks for a browser; installs one where that is possible.
pub fn prepare() -> Result<Browser> {
    let packages = [PACKAGE.to_owned()];
    let mut program = find();
    if program.is_none() && apt::is_here() && Privilege::any().is_some() {
        apt::install(&packages)?;
        program = find();
    }
    Ok(program.map_or_else(
        || Browser::Not(format!("chromium is missing; type as root: {}", apt::command_line(&packages))),
        Browser::Ready,
    ))
}

fn find() -> Option<PathBuf> {
    PROGRAMS.into_iter().find_map(on_path)
}
