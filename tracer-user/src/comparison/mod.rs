//! What `compare` found out: the same messages over different kinds of connection, end to end and stage by stage. All of
//! it is a pure function of what was measured.

mod baseline;
mod gap;
mod messages;
#[cfg(test)]
pub(crate) mod samples;
mod stage;
#[cfg(test)]
mod tests;

pub use self::{
    baseline::{Change, Condition, Former, Held, Metric, hold},
    gap::{Cost, Gap, GapRow},
    messages::{Messages, Stamp, Way},
    stage::Stage,
};
use crate::{
    analyze::{Distribution, LatencyTable},
    model::{Coverage, Trust},
    workload::Link,
};

/// A whole comparison.
#[derive(Debug)]
pub struct Comparison {
    /// Where the two programs and the tracer ran.
    pub cpus: Cpus,
    /// A size of messages each. Of a user's own traffic, one, whose size is not known.
    pub sizes: Vec<AtSize>,
    /// Packets of a user's own traffic that came when enough were kept: they are not in any figure.
    pub not_kept: u64,
    /// What could not be done, and why, in one line each.
    pub left_out: Vec<(Link, String)>,
    /// Which probe points saw the traced part.
    pub coverage: Coverage,
    /// How far that can be believed.
    pub trust: Trust,
    /// All traced paths, hop by hop.
    pub latencies: LatencyTable,
}

/// The CPUs of a run; `None`: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Of the program that asks.
    pub client: Option<usize>,
    /// Of the program that answers.
    pub server: Option<usize>,
    /// Of pathtrace itself while it traces.
    pub tracer: Option<usize>,
}

/// All connections with messages of one size.
#[derive(Debug)]
pub struct AtSize {
    /// Bytes of a message; `None` if they are the user's.
    pub bytes: Option<u32>,
    /// TCP first.
    pub runs: Vec<Run>,
}

/// One kind of connection.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub link: Link,
    /// The true times, while nothing was traced; `None` of a user's own traffic, which is not sent twice.
    pub untraced: Option<Measured>,
    /// How much it carries one way, while nothing is traced; `None` if it was not measured.
    pub stream: Option<Stream>,
    /// The same work while it was traced; `None` of the user's own, and where there is nothing to trace.
    pub traced: Option<Measured>,
    /// The traced messages; `None` where there is nothing to trace.
    pub messages: Option<Messages>,
    /// What became of messages that were to go past the network, while they were traced.
    pub short_cut: Option<ShortCut>,
}

/// Messages that a map of sockets hands from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortCut {
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Bytes that the map has handed over.
    pub delivered_bytes: u64,
    /// Packets with data that passed the loopback device all the same.
    pub packets: u64,
}

impl ShortCut {
    /// Whether a stage is one that they are spared: all of IP and of devices, if none came by.
    pub fn skips(self, stage: Stage) -> bool {
        self.packets == 0
            && self.delivered_bytes >= self.sent_bytes
            && matches!(stage, Stage::Route | Stage::Device | Stage::Backlog | Stage::Receive)
    }
}

/// Round trips as the programs see them.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Of a message and its answer of the same size.
    pub round_trip: Distribution,
    /// Of each message and each answer.
    pub one_way: Distribution,
}

/// Messages sent one after the other, without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How many messages arrived.
    pub messages: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// From before the first send call until after the last read, ns.
    pub ns: u64,
}

impl Stream {
    /// Bytes each second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 * 1e9 / self.ns.max(1) as f64
    }

    /// Messages each second.
    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 * 1e9 / self.ns.max(1) as f64
    }
}

impl AtSize {
    /// The run over one kind of connection.
    pub fn run(&self, link: Link) -> Option<&Run> {
        self.runs.iter().find(|run| run.link == link)
    }

    /// The gap between TCP and another kind of connection, if both were traced.
    pub fn gap(&self, to: Link) -> Option<Gap> {
        let messages = |link| self.run(link)?.messages.as_ref();
        Gap::between(messages(Link::Tcp)?, messages(to)?)
    }
}

impl Run {
    /// How many times longer the median round trip takes while it is traced.
    pub fn cost_of_tracing(&self) -> Option<f64> {
        let p50 = |measured: &Option<Measured>| measured.as_ref()?.round_trip.quantile(0.5);
        Some(p50(&self.traced)? as f64 / p50(&self.untraced)?.max(1) as f64)
    }
}
