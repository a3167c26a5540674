//! The page of one hop.

use std::fmt::Write as _;

use tracer_common::probes::{Arg, Point};

use super::{
    GENERATED,
    kernels::Kernels,
    row::{Row, Way},
    table::table,
};

/// The file of a hop's page.
pub(super) fn file(hop: &str) -> String {
    format!("{hop}.md")
}

/// The page of the hop in that place of the table.
pub(super) fn page(rows: &[Row], place: usize, kernels: &Kernels) -> String {
    let row = &rows[place];
    let mut text = format!("{GENERATED}# {}\n\n{}\n\n", row.hop, row.about);
    let _ = writeln!(text, "It sees {}. {}\n", row.traffic, neighbours(rows, place));
    let _ = writeln!(text, "## In the kernel\n\n{}", in_the_kernel(row));
    let _ = writeln!(text, "## In the output\n\n{}", output(row));
    let _ = writeln!(text, "## On which kernels\n\nWhat it was attached to on Debian's kernels:\n");
    text.push_str(&table(row, kernels));
    text
}

/// Where it stands in the table.
fn neighbours(rows: &[Row], place: usize) -> String {
    let link = |row: &Row| format!("[{}]({})", row.hop, file(row.hop));
    let before = place.checked_sub(1).and_then(|place| rows.get(place)).map(link);
    let after = rows.get(place + 1).map(link);
    let place = format!("In [the table](README.md) it is {} of {}", place + 1, rows.len());
    match (before, after) {
        (Some(before), Some(after)) => format!("{place}, between {before} and {after}."),
        (Some(before), None) => format!("{place}, after {before}."),
        (None, Some(after)) => format!("{place}, before {after}."),
        (None, None) => format!("{place}."),
    }
}

fn in_the_kernel(row: &Row) -> String {
    let stands_in = match row.functions {
        Way::At { .. } => "Tracepoint, where functions cannot be probed",
        Way::Nowhere(_) => "Tracepoint",
    };
    let alone = row.alone.as_ref().map_or_else(String::new, |it| way(&alone(row), it));
    way("Function, probed at its entry by fentry or kprobe", &row.functions)
        + &way(stands_in, &row.tracepoint)
        + &alone
}

/// When the other tracepoint is taken.
fn alone(row: &Row) -> String {
    format!("Tracepoint where only {} are traced, if the kernel has it", row.traffic)
}

/// An item of the list. Where there is nothing, how it would be probed does not matter.
fn way(what: &str, way: &Way) -> String {
    match way {
        Way::At { names, args, by } => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let by = by.map_or_else(String::new, |hop| {
                format!(" Its records are written by the program of [{hop}]({}).", file(hop))
            });
            format!("- {what}: {}. {}{by}\n", names.join("; where a kernel lacks that, "), read(args))
        }
        Way::Nowhere(why) => format!("- {}: none; {why}.\n", what.split(',').next().unwrap_or(what)),
    }
}

/// What is read, as a sentence.
fn read(args: &[Arg]) -> String {
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

/// What a reader sees of it.
fn output(row: &Row) -> String {
    let hop = row.hop;
    let (backend, function) = row.best();
    let backend = backend.name();
    let otherwise = match row.functions {
        Way::At { .. } => " or whatever else it is attached to",
        Way::Nowhere(_) => "",
    };
    let mut text = format!(
        "- In a line, `{hop}`; the number before it is the time since the hop before, in µs.\n\
         - With `--format tree`, a line of its own, with `{backend}:{function}`{otherwise}.\n"
    );
    let beside = beside(row.point);
    if let Some((sentence, _)) = beside {
        let _ = writeln!(text, "- {sentence}");
    }
    let json = beside.map_or("", |(_, json)| json);
    let _ = writeln!(
        text,
        "- With `--json`, an element of `hops`:\n\n```json\n\
         {{\"hop\":\"{hop}\",\"function\":\"{function}\",\"backend\":\"{backend}\",\"cpu\":0,\"ns\":1250{json}}}\n```"
    );
    text
}

/// What a hop says beside where and when it was, as a sentence and in JSON: see `tracer-user/src/export/extra.rs`.
fn beside(point: Point) -> Option<(&'static str, &'static str)> {
    Some(match point {
        Point::FibLookup | Point::Fib6Lookup => (
            "It says which routing table was asked and what that answered: `(local→lo)` in a line, `table local→lo type \
             local src 127.0.0.1` in a tree; `(main: no route)` if it had none.",
            ",\"table\":255,\"route_type\":\"local\",\"out\":\"lo\",\"source\":\"127.0.0.1\",\"error\":0",
        ),
        Point::EnqueueToBacklog => {
            ("It names the CPU on whose queue the packet was put: `to CPU 2` in a tree.", ",\"target_cpu\":2")
        }
        Point::DevQueueXmit
        | Point::QdiscEnqueue
        | Point::QdiscDequeue
        | Point::DevHardStartXmit
        | Point::LoopbackXmit
        | Point::NetifReceiveSkb => (
            "It names the device that the packet is on where that is another one than before: `(veth-a)` in a line, `dev \
             veth-a` in a tree, with the network namespace if the packet has come into another one.",
            ",\"device\":\"lo\",\"ifindex\":1,\"netns\":4026531840",
        ),
        Point::KfreeSkb => (
            "It ends the path and says why and where: `DROPPED: NO_SOCKET in tcp_v4_rcv`; in JSON, `dropped` of the path does.",
            "",
        ),
        _ => return None,
    })
}
