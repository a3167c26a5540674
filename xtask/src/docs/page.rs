//! The page of one hop.

use std::fmt::Write as _;

use tracer_common::probes::{Arg, Point, ProbePoint, Traffic};

use super::{GENERATED, kernels::Kernels, table::table};

/// The file of a hop's page.
pub(super) fn file(hop: &str) -> String {
    format!("{hop}.md")
}

/// The page of the hop in that place of the table.
pub(super) fn page(probes: &[ProbePoint], place: usize, kernels: &Kernels) -> String {
    let probe = &probes[place];
    let mut text = format!("{GENERATED}# {}\n\n{}\n\n", probe.hop, probe.about);
    let _ = writeln!(text, "It sees {}. {}\n", traffic(probe.traffic), neighbours(probes, place));
    let _ = writeln!(text, "## In the kernel\n\n{}{}", functions(probe), tracepoint(probe));
    let _ = writeln!(text, "## In the output\n\n{}", output(probe));
    let _ = write!(
        text,
        "## On which kernels\n\nWhat it was attached to on Debian's kernels:\n\n{}",
        table(probe, kernels)
    );
    text
}

/// What a point sees, within a sentence.
pub(super) fn traffic(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Ip => "IP packets",
        Traffic::Tcp => "TCP sockets",
        Traffic::Unix => "UNIX sockets",
        Traffic::Any => "sockets of every kind",
    }
}

/// Where it stands in the table.
fn neighbours(probes: &[ProbePoint], place: usize) -> String {
    let link = |probe: &ProbePoint| format!("[{}]({})", probe.hop, file(probe.hop));
    let before = place.checked_sub(1).and_then(|place| probes.get(place)).map(link);
    let after = probes.get(place + 1).map(link);
    let place = format!("In [the table](README.md) it is {} of {}", place + 1, probes.len());
    match (before, after) {
        (Some(before), Some(after)) => format!("{place}, between {before} and {after}."),
        (Some(before), None) => format!("{place}, after {before}."),
        (None, Some(after)) => format!("{place}, before {after}."),
        (None, None) => format!("{place}."),
    }
}

fn functions(probe: &ProbePoint) -> String {
    let names: Vec<_> = probe.functions.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join("; where a kernel lacks that, ");
    format!("- Function, probed at its entry by fentry or kprobe: {names}. {}\n", args(probe.args))
}

fn tracepoint(probe: &ProbePoint) -> String {
    match &probe.tracepoint {
        Ok(tracepoint) => {
            let (name, args) = (tracepoint.full_name, args(tracepoint.args));
            format!("- Tracepoint, where functions cannot be probed: `{name}`. {args}\n")
        }
        Err(why) => format!("- Tracepoint: none; {why}.\n"),
    }
}

/// What is read, as a sentence.
fn args(args: &[Arg]) -> String {
    let one = |arg: &Arg| match arg.expected_struct() {
        Some(kind) => format!("{} (`{}`, a `struct {kind} *`)", arg.index, arg.name),
        None => format!("{} (`{}`)", arg.index, arg.name),
    };
    match args {
        [] => "No argument is read.".into(),
        [arg] => format!("Its argument {} is read.", one(arg)),
        several => {
            format!("Its arguments {} are read.", several.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Points that tell something about a path and are no hop of it.
const NO_HOP: &[(Point, &str)] = &[(
    Point::TcpSendmsg,
    "It is no hop of a path: it names the process that sends, `client(812) → …`, in JSON `sender`.",
)];

/// What a hop says beside where and when it was, as a sentence and in JSON: see `tracer-user/src/export/extra.rs`.
fn beside(point: Point) -> Option<(&'static str, &'static str)> {
    Some(match point {
        Point::FibLookup => (
            "It names the routing table that was asked: `(main)` in a line, `table main (254)` in a tree.",
            ",\"table\":254",
        ),
        Point::EnqueueToBacklog => {
            ("It names the CPU on whose queue the packet was put: `to CPU 2` in a tree.", ",\"target_cpu\":2")
        }
        Point::DevQueueXmit
        | Point::LoopbackXmit
        | Point::NetifReceiveSkb
        | Point::TcpV4Rcv
        | Point::TcpV6Rcv => {
            ("It names the device that the packet is on: in a tree where that changes.", ",\"ifindex\":1")
        }
        _ => return None,
    })
}

/// What a reader sees of it.
fn output(probe: &ProbePoint) -> String {
    if let Some((_, instead)) = NO_HOP.iter().find(|(point, _)| *point == probe.point) {
        return format!("{instead}\n");
    }
    let hop = probe.hop;
    let function = probe.functions.first().copied().unwrap_or(hop);
    let mut text = format!(
        "- In a line, `{hop}`; the number before it is the time since the hop before, in µs.\n\
         - With `--format tree`, a line of its own, with `fentry:{function}` or whatever else it is attached to.\n"
    );
    let beside = beside(probe.point);
    if let Some((sentence, _)) = beside {
        let _ = writeln!(text, "- {sentence}");
    }
    let json = beside.map_or("", |(_, json)| json);
    let _ = writeln!(
        text,
        "- With `--json`, an element of `hops`:\n\n```json\n\
         {{\"hop\":\"{hop}\",\"function\":\"{function}\",\"backend\":\"fentry\",\"cpu\":0,\"ns\":1250{json}}}\n```"
    );
    text
}
