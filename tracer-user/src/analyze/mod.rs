//! What paths say together: how long each step takes.

#[cfg(test)]
pub(crate) mod arbitrary;
mod class;
mod distribution;
mod latency;
#[cfg(test)]
pub(crate) mod samples;
mod summary;

pub use class::Class;
pub use distribution::Distribution;
pub use latency::{Counted, LatencyTable, Quantiles, Row};
pub use summary::Summary;
