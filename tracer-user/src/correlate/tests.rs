//! Every path from records as a kernel sends them, and from records as no kernel sends them.

mod bounds;
mod conversations;
mod datagrams;
mod delivery;
mod drops;
mod forwarding;
mod kernel;
mod loss;
mod namespaces;
mod random;
mod routes;
mod sends;
mod skbs;
mod time;
mod tracepoints;
mod unix;
mod wakes;
