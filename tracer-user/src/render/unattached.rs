//! The probe points that could not be attached, put so that nothing is said twice.

use tracer_common::probes::{Backend, Point};

use crate::{
    export::first_line,
    model::{Coverage, Refusal, State},
};

/// What is missing.
pub(super) struct Unattached {
    /// Answers that a backend gave for every point it refused.
    pub(super) shared: Vec<Refusal>,
    /// The points, in the order of the path.
    pub(super) groups: Vec<Group>,
}

/// Points that are missing for the same reason, with the same consequence.
pub(super) struct Group {
    pub(super) points: Vec<Point>,
    pub(super) consequence: &'static str,
    /// What is not among the shared answers.
    pub(super) why: String,
}

impl Unattached {
    pub(super) fn of(coverage: &Coverage) -> Self {
        let refused: Vec<(Point, &[Refusal])> = coverage
            .tried()
            .filter_map(|(point, state)| match state {
                State::Refused(refusals) => Some((point, refusals.as_slice())),
                State::Attached(_) | State::NotNeeded => None,
            })
            .collect();
        let shared: Vec<Refusal> =
            Backend::ALL.into_iter().filter_map(|backend| shared_answer(backend, &refused)).collect();

        let mut groups: Vec<Group> = Vec::new();
        for (point, refusals) in refused {
            let (consequence, why) = (consequence(point), why(point, refusals, &shared));
            match groups.iter_mut().find(|group| group.consequence == consequence && group.why == why) {
                Some(group) => group.points.push(point),
                None => groups.push(Group { points: vec![point], consequence, why }),
            }
        }
        Self { shared, groups }
    }
}

/// The answer that a backend gave for all of several points.
fn shared_answer(backend: Backend, refused: &[(Point, &[Refusal])]) -> Option<Refusal> {
    let mut answers =
        refused.iter().flat_map(|(_, refusals)| *refusals).filter(|refusal| refusal.backend == backend);
    let first = answers.next()?;
    let others: Vec<&Refusal> = answers.collect();
    (!others.is_empty() && others.iter().all(|other| other.reason == first.reason)).then(|| first.clone())
}

/// What the backends said of one point alone. Where the table says why there is no tracepoint, that is a sentence.
fn why(point: Point, refusals: &[Refusal], shared: &[Refusal]) -> String {
    let own = refusals.iter().filter(|refusal| !shared.contains(refusal));
    let said = own.map(|refusal| match point.row().tracepoint() {
        Err(none) if refusal.backend == Backend::Tracepoint && refusal.reason == none => none.to_owned(),
        _ => format!("{}: {}", refusal.backend.name(), first_line(&refusal.reason)),
    });
    said.collect::<Vec<String>>().join("; ")
}

/// What will be missing in the paths.
fn consequence(point: Point) -> &'static str {
    match point {
        Point::UnixStreamConnect => "connections of UNIX sockets will not be seen",
        Point::UnixStreamSendmsg | Point::UnixDgramSendmsg => "messages on UNIX sockets will not be seen",
        Point::UnixAccept => "connections of UNIX sockets will end at the wake-up of the server",
        Point::UnixStreamRecvmsg | Point::UnixDgramRecvmsg => {
            "messages on UNIX sockets will end at the wake-up"
        }
        Point::TcpSendmsg | Point::UdpSendmsg | Point::Udpv6Sendmsg => "sending processes will not be named",
        Point::IpQueueXmit | Point::Ip6Xmit => "the time in IP will be counted in the hop after it",
        Point::FibLookup | Point::Fib6Lookup => "paths will not say which routing table was asked",
        Point::TcpV4Rcv | Point::TcpV6Rcv => "packets without data will end at the hop before it",
        Point::UdpRcv | Point::Udpv6Rcv => "the time in UDP will be counted in the hop after it",
        Point::UdpRecvmsg => "datagrams will end where UDP receives them",
        Point::SchedWaking | Point::SchedSwitch => "the scheduler's delay will be counted as the reader's",
        Point::KfreeSkb => "dropped packets will not be told from those that vanish",
        Point::QdiscEnqueue | Point::QdiscDequeue => {
            "the time in a device's queue will be counted in the hop after it"
        }
        Point::SockDefReadable => "the wake-up of the reader will not be seen",
        Point::TcpRecvmsg => "paths will end where TCP receives, and reading processes will not be named",
        _ => "its time will be counted in the hop after it",
    }
}
