//! Works that are done while a variant is attached once. What is lost can only be said of a whole run, so what must not lose
//! anything is a group of its own.

use std::fmt;

use clap::ValueEnum;

use crate::variant::Variant;

/// Works of the same traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Group {
    /// Round trips over a TCP connection.
    Tcp,
    /// Round trips over a UNIX connection.
    Unix,
    /// One way over a TCP connection, as fast as it goes.
    Stream,
    /// Round trips over many TCP connections at once.
    Connections,
    /// A database and its load generator.
    Redis,
    /// What each program takes in the kernel, by the kernel's own statistics.
    Programs,
    /// How long pathtrace takes to start and to end.
    Start,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) over: Over,
    pub(crate) bytes: u32,
    /// Whether the ends are on different CPUs.
    pub(crate) apart: bool,
    pub(crate) kind: Kind,
}

/// By which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Tcp,
    Unix,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RoundTrips,
    Stream,
    /// Round trips of many connections.
    Crowd,
    /// Requests to a database.
    Requests,
    /// Round trips while the kernel keeps statistics, which are not comparable with others.
    Watched,
    /// Round trips while a tracer starts.
    Background,
}

const SMALL: u32 = 5;
const LARGE: u32 = 1024;
/// What programs write that copy files.
const CHUNK: u32 = 16 * 1024;
/// Of each of many connections.
pub(crate) const CONNECTION: u32 = 100;
/// Of the values in a database.
pub(crate) const VALUE: u32 = 64;

const fn round_trips(over: Over, bytes: u32, apart: bool) -> Job {
    Job { over, bytes, apart, kind: Kind::RoundTrips }
}

const fn stream(apart: bool) -> Job {
    Job { over: Over::Tcp, bytes: CHUNK, apart, kind: Kind::Stream }
}

const fn with(bytes: u32, kind: Kind) -> Job {
    Job { over: Over::Tcp, bytes, apart: false, kind }
}

const fn small(over: Over, kind: Kind) -> Job {
    Job { over, bytes: SMALL, apart: false, kind }
}

impl Group {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Tcp, Self::Unix, Self::Stream, Self::Connections, Self::Redis, Self::Programs, Self::Start];

    /// What is done.
    pub(crate) fn works(self) -> &'static [Job] {
        const TCP: [Job; 4] = [
            round_trips(Over::Tcp, SMALL, false),
            round_trips(Over::Tcp, LARGE, false),
            round_trips(Over::Tcp, SMALL, true),
            round_trips(Over::Tcp, LARGE, true),
        ];
        const UNIX: [Job; 4] = [
            round_trips(Over::Unix, SMALL, false),
            round_trips(Over::Unix, LARGE, false),
            round_trips(Over::Unix, SMALL, true),
            round_trips(Over::Unix, LARGE, true),
        ];
        const STREAM: [Job; 2] = [stream(false), stream(true)];
        const CONNECTIONS: [Job; 1] = [with(CONNECTION, Kind::Crowd)];
        const REDIS: [Job; 1] = [with(VALUE, Kind::Requests)];
        const PROGRAMS: [Job; 1] = [small(Over::Tcp, Kind::Watched)];
        const START: [Job; 2] = [small(Over::Tcp, Kind::Background), small(Over::Unix, Kind::Background)];
        match self {
            Self::Tcp => &TCP,
            Self::Unix => &UNIX,
            Self::Stream => &STREAM,
            Self::Connections => &CONNECTIONS,
            Self::Redis => &REDIS,
            Self::Programs => &PROGRAMS,
            Self::Start => &START,
        }
    }

    /// What is attached meanwhile.
    pub(crate) fn variants(self) -> &'static [Variant] {
        use Variant::{
            Bare, BpftraceCount, BpftracePrint, Empty, Excluded, Json, JsonAny, One, Sample, Summary, Tcpdump,
        };
        match self {
            Self::Tcp => &[
                Json,
                JsonAny,
                Summary,
                Sample,
                Excluded,
                Empty,
                One,
                Bare,
                BpftracePrint,
                BpftraceCount,
                Tcpdump,
            ],
            Self::Unix => &[Json, Summary, Sample, Excluded, Empty, One, Bare, BpftracePrint, BpftraceCount],
            Self::Stream | Self::Connections | Self::Redis => {
                &[Json, Summary, Sample, Excluded, BpftracePrint, BpftraceCount, Tcpdump]
            }
            Self::Programs => &[Empty, Bare, Json, Sample, Excluded],
            Self::Start => &[Json],
        }
    }

    /// Whether the kernel keeps statistics of programs meanwhile. They cost time themselves, so nothing else is measured then.
    pub(crate) fn has_statistics(self) -> bool {
        self == Self::Programs
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Stream => "stream",
            Self::Connections => "connections",
            Self::Redis => "redis",
            Self::Programs => "programs",
            Self::Start => "start",
        })
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.over {
            Over::Tcp => "tcp",
            Over::Unix => "unix",
        };
        let kind = match self.kind {
            Kind::RoundTrips => "",
            Kind::Stream => "-stream",
            Kind::Crowd => "-connections",
            Kind::Requests => "-redis",
            Kind::Watched => "-programs",
            Kind::Background => "-start",
        };
        let apart = if self.apart { "-apart" } else { "" };
        write!(f, "{over}{kind}-{}{apart}", self.bytes)
    }
}
