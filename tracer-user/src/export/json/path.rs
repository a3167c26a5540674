//! The object for a path.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    SCHEMA, Shown,
    flow::{Ends, Header},
    hop::Hops,
};
use crate::{
    export::Printable,
    model::{Coverage, Incomplete, Path, Task},
};

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    kind: &'static str,
    id: u64,
    time_ns: Option<u64>,
    flow: Option<Ends<'a>>,
    netns: Option<u32>,
    tcp: Option<Header>,
    len: u32,
    device: Option<Shown<Printable<'a>>>,
    ifindex: Option<u32>,
    sender: Option<Process<'a>>,
    receiver: Option<Process<'a>>,
    hops: Hops<'a>,
    total_ns: u64,
    complete: bool,
    incomplete_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: Option<Shown<Printable<'a>>>,
}

impl<'a> Process<'a> {
    fn of(task: &'a Task) -> Self {
        Self { pid: task.pid, comm: task.comm.as_ref().map(Printable::comm).map(Shown) }
    }
}

/// Writes a path as one line. `realtime_offset_ns` makes a time of `CLOCK_MONOTONIC` one since 1970.
pub fn write_path(
    path: &Path,
    coverage: &Coverage,
    realtime_offset_ns: i64,
    mut out: impl Write,
) -> io::Result<()> {
    let device = path.device.as_ref();
    let line = Line {
        schema: SCHEMA,
        kind: "path",
        id: path.id,
        time_ns: path.hops.first().map(|hop| hop.time_ns.saturating_add_signed(realtime_offset_ns)),
        flow: Ends::of(path),
        netns: path.flow.map(|flow| flow.netns).filter(|netns| *netns != 0),
        tcp: path.tcp.map(Header::of),
        len: path.len,
        device: device
            .and_then(|device| device.name.as_deref())
            .map(|name| Shown(Printable(name.as_bytes()))),
        ifindex: device.map(|device| device.ifindex),
        sender: path.sender.as_ref().map(Process::of),
        receiver: path.receiver.as_ref().map(Process::of),
        hops: Hops { path, coverage },
        total_ns: path.total_ns(),
        complete: path.incomplete.is_none(),
        incomplete_reason: path.incomplete.map(Incomplete::reason),
    };
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")
}
