//! The benchmark of what pathtrace does with records, if this version has it.

use serde::Deserialize;

/// How fast records become output.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Correlator {
    /// `summary` or `json`.
    pub(super) output: String,
    /// On one CPU.
    pub(super) events_per_second: f64,
}

impl Correlator {
    /// Those among the lines that are.
    pub(super) fn read(lines: &str) -> Vec<Self> {
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
