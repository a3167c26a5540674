//! Traces real traffic on the running kernel with the program that users run. Needs root, so it only works when asked
//! for (`PATHTRACE_LIVE=1`, which `cargo xtask test` sets); the virtual machines run the same tests with every backend.
//!
//! Environment: `PATHTRACE_BIN`, the program to run; `PATHTRACE_TEST_BACKENDS`, which backends to test, `auto` if unset.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::similar_names,
    reason = "a test fails by panicking; a sniffer has sniffed"
)]

mod bounds;
mod closed;
mod compare;
mod cost;
mod devices;
mod doctor;
mod drops;
mod ends;
mod filters;
mod leftovers;
mod memory;
mod namespaces;
mod netlink;
mod nftables;
mod packets;
mod peer;
mod prove;
mod recording;
mod routes;
mod sample;
mod sendfile;
mod sockmap;
mod support;
mod translated;
mod truth;
mod udp;
mod unix;
