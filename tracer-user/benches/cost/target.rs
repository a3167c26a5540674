//! Which traffic a tracer is to look at.

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
        let ports = self.ports.iter().flat_map(|port| ["--port".to_owned(), port.to_string()]);
        let names = self.names.iter().flat_map(|name| ["--unix".to_owned(), format!("@{name}")]);
        ports.chain(names).collect()
    }

    /// One of the same kind that lets nothing of it through.
    pub(crate) fn other_filter(&self) -> Vec<String> {
        if self.ports.is_empty() {
            vec!["--unix".into(), OTHER_NAME.into()]
        } else {
            vec!["--port".into(), OTHER_PORT.to_string()]
        }
    }
}
