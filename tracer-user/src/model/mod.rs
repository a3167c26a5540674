//! What pathtrace knows of traffic: events as they come, flows, and the paths that are built from them. Plain data:
//! nothing here reads a clock, a file or the kernel, and nothing here knows how it will be shown.

mod audit;
mod cost;
mod coverage;
mod flow;
mod path;
mod shares;
mod trust;

pub use audit::Audit;
pub use cost::{ByRun, Cost, NotMeasured, OwnCost, Sample};
pub use coverage::{Attached, Coverage, Refusal, State};
pub use flow::{Comm, Endpoint, Flow, Protocol, Task};
pub use path::{
    Device, Devices, Dropped, Hop, Hops, Icmp, Incomplete, MAX_DEVICES, MAX_HOPS, Path, Route, Routing, Tcp,
    Unix, is_read, is_send,
};
pub use shares::{Part, Shares};
pub use trust::{Losses, Trust};
