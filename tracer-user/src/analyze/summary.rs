//! A run in numbers.

use super::LatencyTable;
use crate::model::{Coverage, Trust};

/// What is said at the end of a run.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// How long each step took.
    pub table: &'a LatencyTable,
    /// How far that can be believed.
    pub trust: &'a Trust,
    /// Which probe points saw it.
    pub coverage: &'a Coverage,
}
