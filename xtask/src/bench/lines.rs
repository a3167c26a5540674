//! What the benchmark prints, one JSON object a line: raw figures, one round of one variant at a time. Whoever reads them
//! makes medians, ratios and verdicts of them.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// Where it ran; the first line.
    Machine(Machine),
    /// A piece of work was done while a variant was attached.
    Work(Work),
    /// A variant has ended.
    Tracer(Tracer),
    /// What one kernel program took while a piece of work was done.
    Program(Program),
    /// From the start of pathtrace to its first path.
    Start(Start),
    /// Records became output.
    Correlator(Correlator),
    /// A variant could not be measured.
    Unavailable(Unavailable),
    /// A variant does not do the same as pathtrace.
    Note(Note),
}

/// Where the figures were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name for itself.
    pub processor: String,
    /// How many CPUs may be used.
    pub cpus: usize,
    /// Where both ends of a connection run, or the client if they are apart.
    pub work_cpu: usize,
    /// Where the server runs if they are apart.
    pub other_cpu: usize,
    /// Where the tracers' readers run.
    pub tracer_cpu: usize,
    /// How many programs wanted to run before it began, on the average of a minute (`/proc/loadavg`).
    pub load: f64,
    /// How often everything was measured.
    pub rounds: u32,
    /// The alternatives' names for themselves, with their versions.
    pub programs: Vec<String>,
}

/// A piece of work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Counts from 0.
    pub round: u32,
    /// The group of works that were done while the variant was attached once.
    pub group: String,
    /// Which work.
    pub work: String,
    /// What was attached.
    pub variant: String,
    /// How fast the machine was right before and right after: what a page fault took, ns.
    pub pace_ns: [u64; 2],
    /// How many round trips, messages or requests.
    pub count: u64,
    /// The same with those that came before and were not measured: the tracer has seen them all.
    pub seen: u64,
    /// How long all of them took.
    pub ns: u64,
    /// Round trip, median; `None` where there is none.
    pub p50_ns: Option<u64>,
    /// Round trip, of a hundred the slowest.
    pub p99_ns: Option<u64>,
    /// Round trips, messages or requests a second.
    pub per_second: f64,
    /// Bytes a second, of a stream.
    pub bytes_per_second: Option<f64>,
    /// CPU time of the tracer's process meanwhile.
    pub cpu_ns: Option<u64>,
}

/// The end of a variant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracer {
    /// As of [`Work`].
    pub round: u32,
    /// Which group of works it saw.
    pub group: String,
    /// Which variant.
    pub variant: String,
    /// From its start until it says that it traces.
    pub ready_ns: u64,
    /// How long it traced.
    pub traced_ns: u64,
    /// From Ctrl-C to its end.
    pub exit_ns: u64,
    /// CPU time of its process while it traced, and until it ended.
    pub cpu_ns: u64,
    /// The most memory that its process had (`VmHWM`).
    pub peak_bytes: Option<u64>,
    /// What it says that it saw: events, lines, packets.
    pub events: Option<u64>,
    /// What it says that it lost.
    pub lost: Option<u64>,
    /// Of pathtrace: paths that are whole.
    pub complete: Option<u64>,
    /// Of pathtrace: paths that are not.
    pub incomplete: Option<u64>,
    /// What it wrote.
    pub output_bytes: u64,
}

/// The kernel's statistics of one program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// As of [`Work`].
    pub round: u32,
    /// Which work.
    pub work: String,
    /// Whose program: a variant, or a yardstick.
    pub variant: String,
    /// The hop.
    pub hop: String,
    /// How often it ran.
    pub runs: u64,
    /// How long all runs took.
    pub ns: u64,
}

/// From the start of pathtrace to its end, while there is traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// As of [`Work`].
    pub round: u32,
    /// Which work.
    pub work: String,
    /// From its start until everything was attached.
    pub ready_ns: u64,
    /// From its start until the first path was written.
    pub first_path_ns: u64,
    /// From Ctrl-C to its end.
    pub exit_ns: u64,
}

/// How fast userspace turns records into output, without a kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Correlator {
    /// `correlate`, `summary`, `json` or `table`.
    pub output: String,
    /// What the records tell of.
    pub stream: String,
    /// How many flows are under way at once.
    pub flows: u64,
    /// How many records of hops were asked for; a batch that has begun is filled.
    pub events: u64,
    /// How many paths they became.
    pub paths: u64,
    /// On one CPU.
    pub events_per_second: f64,
    /// How often memory was asked for, of each event.
    pub allocations_per_event: f64,
    /// The most memory that was held at once, beside that of the records.
    pub peak_bytes: u64,
}

/// Why there are no figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unavailable {
    /// In which group of works.
    pub group: String,
    /// Of which variant.
    pub variant: String,
    /// Why.
    pub why: String,
}

/// What a variant does otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// In which group of works.
    pub group: String,
    /// Which variant.
    pub variant: String,
    /// In words.
    pub text: String,
}
