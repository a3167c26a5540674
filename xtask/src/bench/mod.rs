//! `cargo xtask bench`: what tracing costs, beside the alternatives.
//!
//! The benchmark itself is `tracer-user/benches/cost`, which prints raw figures. Here they become medians, ratios, verdicts and
//! tables.

mod correlator;
mod document;
pub mod lines;
mod page;
mod results;
mod run;
#[cfg(test)]
mod tests;
mod verdicts;

pub use self::run::{Options, bench};
