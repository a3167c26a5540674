//! A row of the probe table, as the pages need it: the one place here that knows the table's types.

use tracer_common::probes::{Arg, Backend, Point, ProbePoint, Traffic};

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) point: Point,
    pub(super) hop: &'static str,
    /// What it sees, within a sentence.
    pub(super) traffic: &'static str,
    pub(super) about: &'static str,
    pub(super) functions: Way,
    pub(super) tracepoint: Way,
    /// Where the tracepoint's program is another hop's that is not asked for.
    pub(super) alone: Option<Way>,
}

/// What a row has for a kind of probe.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// Where a program is attached, best first, and what it reads there.
    At {
        names: Vec<&'static str>,
        args: &'static [Arg],
        /// The hop whose program it is, if this one has none of its own.
        by: Option<&'static str>,
    },
    /// Nothing, and why.
    Nowhere(&'static str),
}

impl Row {
    pub(super) fn of(probe: &ProbePoint) -> Self {
        let tracepoint = match probe.tracepoint() {
            Ok(tracepoint) => Way::At {
                names: vec![tracepoint.full_name],
                args: tracepoint.args,
                by: other_program(probe, Backend::Tracepoint),
            },
            Err(why) => Way::Nowhere(why),
        };
        let functions = match probe.functions() {
            Ok(functions) => Way::At {
                names: functions.names.to_vec(),
                args: functions.args,
                by: other_program(probe, Backend::Fentry),
            },
            Err(why) => Way::Nowhere(why),
        };
        Self {
            point: probe.point,
            hop: probe.hop,
            traffic: traffic(probe.traffic),
            about: probe.about,
            functions,
            tracepoint,
            alone: probe.alone.map(|it| Way::At { names: vec![it.full_name], args: it.args, by: None }),
        }
    }

    /// What it has for a backend.
    pub(super) fn way(&self, backend: Backend) -> &Way {
        match backend {
            Backend::Fentry | Backend::Kprobe => &self.functions,
            Backend::Tracepoint => &self.tracepoint,
        }
    }

    /// The cheapest backend that it has something for, and the name of that.
    pub(super) fn best(&self) -> (Backend, &'static str) {
        let found = Backend::ALL.into_iter().find_map(|backend| match self.way(backend) {
            Way::At { names, .. } => names.first().map(|name| (backend, *name)),
            Way::Nowhere(_) => None,
        });
        found.unwrap_or((Backend::Tracepoint, self.hop))
    }
}

/// The hop whose program writes this one's records, if it is another one.
fn other_program(probe: &ProbePoint, backend: Backend) -> Option<&'static str> {
    let owner = probe.program_of(backend);
    (owner != probe.point).then(|| owner.row().hop)
}

fn traffic(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Ip => "IP packets",
        Traffic::Tcp => "TCP sockets",
        Traffic::Udp => "UDP sockets",
        Traffic::Unix => "UNIX sockets",
        Traffic::Any => "traffic of every kind",
    }
}
