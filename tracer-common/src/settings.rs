//! The read-only values that userspace sets before it loads the programs, beside the [fields](crate::fields).

/// How many ports `--port` can be given. They are compared one after the other in the kernel.
pub const MAX_PORTS: usize = 8;

/// Name of the global `[u16; MAX_PORTS]`: the ports to trace in host byte order, the rest 0. All 0: no port filter.
pub const PORTS: &str = "PORTS";

/// Name of the ring buffer.
pub const EVENTS: &str = "EVENTS";
/// Name of the per-CPU `u64` counters of records that the ring buffer could not take, indexed by record kind.
pub const LOST: &str = "LOST";
/// Name of the one-element `u32` array: the programs only work while it is not 0, so that all of them start and stop
/// at one moment, however long attaching takes.
pub const ENABLED: &str = "ENABLED";
