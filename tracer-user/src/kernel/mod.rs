//! What is known of the running kernel before anything is attached: its types, its symbols, what it allows, its clock;
//! and what it says of its network.

pub mod btf;
pub mod cgroup;
pub mod clock;
pub mod drop_reasons;
pub mod features;
pub mod namespace;
pub mod network;
pub mod processes;
pub mod symbols;
