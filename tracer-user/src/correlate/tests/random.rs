//! Random traffic of which the truth is known, as it is and damaged.

mod datagrams;
mod packets;
mod unix;
mod world;
