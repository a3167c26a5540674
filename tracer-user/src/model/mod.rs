//! What pathtrace knows of traffic: events as they come, flows, and the paths that are built from them. Plain data:
//! nothing here reads a clock, a file or the kernel, and nothing here knows how it will be shown.

mod coverage;
mod flow;
mod path;
mod trust;

pub use coverage::{Attached, Coverage, Refusal, State};
pub use flow::{Comm, Endpoint, Flow, Protocol, Task};
pub use path::{Device, Hop, Hops, Incomplete, MAX_HOPS, Path, Tcp};
pub use trust::{Losses, Trust};
