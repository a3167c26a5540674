//! Every path from records as a kernel sends them, and from records as no kernel sends them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bounds;
mod conversations;
mod delivery;
mod kernel;
mod namespaces;
mod random;
mod routes;
mod skbs;
mod time;
mod tracepoints;
mod unix;
