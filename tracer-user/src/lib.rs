//! pathtrace: the way of each local packet through the Linux kernel, hop by hop, with the time between hops.
//!
//! Data flows one way: `collect` (the kernel, or a recording) to `decode` to `correlate` to the path model to `render`
//! and `export`. See ARCHITECTURE.md.

pub mod analyze;
pub mod cli;
pub mod collect;
pub mod commands;
pub mod comparison;
pub mod correlate;
pub mod decode;
pub mod diagnosis;
pub mod export;
pub mod filter;
pub mod kernel;
pub mod model;
pub mod proof;
pub mod render;
pub mod session;
pub mod store;
pub mod workload;
