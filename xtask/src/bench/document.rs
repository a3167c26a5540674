//! docs/performance.md: prose that people write, and the tables of a run between two marks.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{process::step, workspace::Workspace};

const FILE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- Made by `cargo xtask bench --write`. -->\n";
const END: &str = "<!-- End of what is made. -->\n";

/// Replaces the tables.
pub(super) fn renew(workspace: &Workspace, tables: &str) -> Result<()> {
    let path = workspace.root().join(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let Some(text) = replaced(&text, tables) else {
        bail!("{FILE} lacks one of the lines between which the tables stand: {BEGIN}{END}");
    };
    fs::write(&path, text).with_context(|| format!("cannot write {FILE}"))?;
    step(&format!("wrote {FILE}"));
    Ok(())
}

fn replaced(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}after\n");
        let replaced = replaced(&text, "new\n\n").expect("both marks are there");
        assert_eq!(replaced, format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert_eq!(super::replaced("no marks", "new"), None);
    }
}
