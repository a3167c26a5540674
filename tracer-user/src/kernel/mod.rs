//! What is known of the running kernel before anything is attached: its types, its symbols, what it allows, its clock.

pub mod btf;
pub mod clock;
pub mod drop_reasons;
pub mod features;
pub mod namespaces;
pub mod processes;
pub mod symbols;
