//! Which traffic a tracer is to look at.

use pathtrace::filter::{Filter, FilterError, Transport, UnixName, Wanted};
use tracer_common::probes::Point;

/// The connections of a group.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Of TCP.
    pub(crate) ports: Vec<u16>,
    /// Of UNIX sockets, abstract, without the `@`.
    pub(crate) names: Vec<String>,
    /// The names of all processes that talk.
    pub(crate) processes: &'static [&'static str],
}

/// All ports are those of TCP connections.
const TCP: [&str; 2] = ["--proto", "tcp"];

/// Nobody talks on it here: discard, which hardly any host serves.
const OTHER_PORT: u16 = 9;
/// No socket has this name.
const OTHER_NAME: &str = "@pathtrace-bench-nobody";

impl Target {
    pub(crate) fn of_port(port: u16, processes: &'static [&'static str]) -> Self {
        Self { ports: vec![port], names: Vec::new(), processes }
    }

    /// pathtrace's filter for it.
    pub(crate) fn filter(&self) -> Vec<String> {
        let mut filter = self.filter_of_any_protocol();
        if !self.ports.is_empty() {
            filter.extend(TCP.map(str::to_owned));
        }
        filter
    }

    /// The same without saying that it is TCP.
    pub(crate) fn filter_of_any_protocol(&self) -> Vec<String> {
        let ports = self.ports.iter().flat_map(|port| ["--port".to_owned(), port.to_string()]);
        let names = self.names.iter().flat_map(|name| ["--unix".to_owned(), format!("@{name}")]);
        ports.chain(names).collect()
    }

    /// One of the same kind that lets nothing of it through.
    pub(crate) fn other_filter(&self) -> Vec<String> {
        if self.ports.is_empty() {
            return vec!["--unix".into(), OTHER_NAME.into()];
        }
        let port = ["--port".to_owned(), OTHER_PORT.to_string()];
        port.into_iter().chain(TCP.map(str::to_owned)).collect()
    }

    /// Where a message is first seen by itself: in its packet, or when its reader is woken.
    pub(crate) fn first_seen(&self) -> Point {
        if self.ports.is_empty() { Point::SockDefReadable } else { Point::DevQueueXmit }
    }

    /// What pathtrace makes of [`filter`](Self::filter).
    pub(crate) fn understood(&self) -> Result<Filter, FilterError> {
        let unix = self.names.iter().map(|name| UnixName::of_abstract(name.as_bytes())).collect();
        let transports = if self.ports.is_empty() { Vec::new() } else { vec![Transport::Tcp] };
        Filter::new(Wanted { ports: self.ports.clone(), transports, unix, ..Wanted::default() })
    }
}
