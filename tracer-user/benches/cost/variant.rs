//! What is attached while work is done.

use std::fmt;

use clap::ValueEnum;

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Variant {
    /// At the tracepoints of pathtrace's hops, programs that do nothing.
    Empty,
    /// One of these alone, where a message is first seen by itself: less than that no tracer can attach.
    One,
    /// There, programs that hand a record over and do nothing else.
    Bare,
    /// pathtrace, each path as JSON, to a file.
    Json,
    /// The same where no protocol is asked for: UDP of that port is wanted, too.
    JsonAny,
    /// pathtrace, only the summary.
    Summary,
    /// pathtrace, one message of 64.
    Sample,
    /// pathtrace with a filter that lets none of the traffic through.
    Excluded,
    /// bpftrace printing the same at the same tracepoints, to a file.
    BpftracePrint,
    /// bpftrace counting at the same tracepoints.
    BpftraceCount,
    /// tcpdump, to a file.
    Tcpdump,
}

impl Variant {
    /// Whether it is pathtrace, or a part of this program.
    pub(crate) fn is_ours(self) -> bool {
        !self.is_bpftrace() && self != Self::Tcpdump
    }

    /// Whether it is a script.
    pub(crate) fn is_bpftrace(self) -> bool {
        matches!(self, Self::BpftracePrint | Self::BpftraceCount)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::One => "one",
            Self::Bare => "bare",
            Self::Json => "json",
            Self::JsonAny => "json-any",
            Self::Summary => "summary",
            Self::Sample => "sample",
            Self::Excluded => "excluded",
            Self::BpftracePrint => "bpftrace-print",
            Self::BpftraceCount => "bpftrace-count",
            Self::Tcpdump => "tcpdump",
        })
    }
}
