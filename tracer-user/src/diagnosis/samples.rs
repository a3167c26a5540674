//! Made-up kernels for tests.

use std::{collections::BTreeMap, path::PathBuf};

use tracer_common::probes::{Backend, Point};

use super::{Diagnosis, NotTried, SelfTest, Trial, TypesFile};
use crate::{
    kernel::{
        features::{Features, Lockdown, Privileges},
        symbols::Symbols,
    },
    model::{Attached, Coverage, Losses, Refusal, State},
    workload::Exchange,
};

/// The points of a kernel in these tests: fixed, so that snapshots stay when the table grows.
const POINTS: [Point; 8] = [
    Point::TcpSendmsg,
    Point::Ip6Xmit,
    Point::FibLookup,
    Point::DevQueueXmit,
    Point::EnqueueToBacklog,
    Point::NetifReceiveSkb,
    Point::TcpV4Rcv,
    Point::TcpRecvmsg,
];

const SYMBOLS: &str = "\
ffffffff81000000 T tcp_sendmsg
ffffffffc0000000 T ip6_xmit\t[ipv6]
ffffffff81000200 T __dev_queue_xmit
ffffffff81000300 t enqueue_to_backlog.llvm.1234
ffffffff81000400 t __netif_receive_skb
ffffffff81000500 T tcp_v4_rcv
ffffffff81000600 T tcp_rcv_space_adjust
";

fn features() -> Features {
    Features {
        release: "6.18.5-cloud".to_owned(),
        privileges: Privileges { bpf: true, perfmon: true, fine_grained: true },
        lockdown: Some(Lockdown::None),
    }
}

fn types() -> TypesFile {
    TypesFile { path: PathBuf::from("/sys/kernel/btf/vmlinux"), bytes: Ok(5_678_901) }
}

fn attached(backend: Backend, function: &str) -> State {
    State::Attached(Attached { backend, function: function.to_owned() })
}

fn refusal(backend: Backend, reason: &str) -> State {
    State::Refused(vec![Refusal { backend, reason: reason.to_owned() }])
}

/// The functions of a point; none if it is a tracepoint everywhere.
fn functions_of(point: Point) -> &'static [&'static str] {
    point.row().functions().map_or(&[], |functions| functions.names)
}

/// Every point refused for one reason.
pub(crate) fn refused(backend: Backend, reason: &str) -> Coverage {
    let mut coverage = Coverage::default();
    for point in POINTS {
        coverage.set(point, refusal(backend, reason));
    }
    coverage
}

fn by_tracepoint(point: Point) -> State {
    match point.row().tracepoint() {
        Ok(tracepoint) => attached(Backend::Tracepoint, tracepoint.full_name),
        Err(reason) => refusal(Backend::Tracepoint, reason),
    }
}

fn tracepoints() -> Coverage {
    let mut coverage = Coverage::default();
    for point in POINTS {
        coverage.set(point, by_tracepoint(point));
    }
    coverage
}

/// What a backend makes of each function. What is no function is a tracepoint, whichever backend was asked for.
fn of_functions(state: impl Fn(&[&str]) -> State) -> Coverage {
    let mut coverage = Coverage::default();
    for point in POINTS {
        let functions = functions_of(point);
        coverage.set(point, if functions.is_empty() { by_tracepoint(point) } else { state(functions) });
    }
    coverage
}

fn kprobes(symbols: &Symbols) -> Coverage {
    of_functions(|functions| {
        let symbol = functions.iter().find_map(|function| symbols.get(function)).unwrap();
        attached(Backend::Kprobe, &symbol.taken)
    })
}

fn diagnosis(alone: Vec<(Backend, Coverage)>, symbols: Symbols) -> Diagnosis {
    let mut taken = Coverage::default();
    for point in POINTS {
        let states = || alone.iter().map(|(_, coverage)| coverage.state(point));
        let refusals = states().flat_map(|state| match state {
            State::Refused(refusals) => refusals.clone(),
            _ => Vec::new(),
        });
        let first = states().find(|state| matches!(state, State::Attached(_)));
        taken.set(point, first.cloned().unwrap_or_else(|| State::Refused(refusals.collect())));
    }
    let hops: BTreeMap<Point, u64> =
        POINTS.into_iter().filter(|point| taken.sees(*point)).map(|point| (point, 8)).collect();
    let exchanges = Exchange::ALL.into_iter().map(|exchange| (exchange, Ok(()))).collect();
    let losses = Losses { hops: 0, others: 0, missed: Some(0) };
    let self_test = SelfTest { exchanges, hops, losses };
    Diagnosis {
        features: features(),
        types: types(),
        trial: Ok(Trial { alone, taken, symbols: Ok(symbols), self_test }),
    }
}

fn symbols() -> Symbols {
    let functions: Vec<&str> = POINTS.iter().flat_map(|point| functions_of(*point).iter().copied()).collect();
    Symbols::resolve(SYMBOLS.as_bytes(), &functions).unwrap()
}

/// A kernel without kprobes that refuses fentry.
pub(crate) fn tracepoints_only() -> Diagnosis {
    let alone = vec![
        (Backend::Fentry, of_functions(|_| refusal(Backend::Fentry, "Operation not permitted (os error 1)"))),
        (
            Backend::Kprobe,
            of_functions(|_| {
                refusal(Backend::Kprobe, "this kernel is built without kprobes (CONFIG_KPROBES)")
            }),
        ),
        (Backend::Tracepoint, tracepoints()),
    ];
    diagnosis(alone, symbols())
}

/// A kernel on which all backends work but fentry for one point, with a renamed function and one in a module.
pub(crate) fn functions() -> Diagnosis {
    let symbols = symbols();
    let mut fentry = of_functions(|functions| attached(Backend::Fentry, functions[0]));
    for (point, reason) in [
        (Point::Ip6Xmit, "this kernel's trampolines do not take it (ENOTSUPP)"),
        (Point::EnqueueToBacklog, "no such function in this kernel's type information"),
    ] {
        fentry.set(point, refusal(Backend::Fentry, reason));
    }
    let alone = vec![
        (Backend::Fentry, fentry),
        (Backend::Kprobe, kprobes(&symbols)),
        (Backend::Tracepoint, tracepoints()),
    ];
    diagnosis(alone, symbols)
}

/// A process without any capability.
pub(crate) fn unprivileged() -> Diagnosis {
    let privileges = Privileges { bpf: false, perfmon: false, fine_grained: true };
    Diagnosis {
        features: Features { privileges, lockdown: None, ..features() },
        types: types(),
        trial: Err(NotTried::Privilege),
    }
}
