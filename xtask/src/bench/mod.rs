//! `cargo xtask bench`: what tracing costs, beside the alternatives.
//!
//! The benchmarks themselves are `tracer-user/benches/cost` and `benches/correlator`, which print raw figures. Here they become
//! medians, ratios, verdicts and tables.

mod document;
pub mod lines;
mod page;
mod results;
mod run;
#[cfg(test)]
mod tests;
mod verdicts;

pub use self::run::{Options, bench};
