//! The object for a path.

use std::{io, sync::Arc};

use serde::Serialize;

use super::{
    SCHEMA, Shown, Text, add_fields,
    flow::{Ends, Header},
    hop::{HopWriter, device_name},
};
use crate::{
    export::{IcmpMessage, Printable},
    model::{Coverage, Dropped, Incomplete, Path, Protocol, Routing, Task},
};

/// The line up to the hops.
#[derive(Serialize)]
struct Front<'a> {
    schema: u32,
    kind: &'static str,
    id: u64,
    time_ns: Option<u64>,
    flow: Option<Ends<'a>>,
    netns: Option<u32>,
    tcp: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpSays>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<UnixSays>,
    retransmitted: bool,
    len: u32,
    device: Option<Text<'a>>,
    ifindex: Option<u32>,
    sender: Option<Process<'a>>,
    receiver: Option<Process<'a>>,
    /// `asked`, `cached`, or `null` where it cannot be told.
    route: Option<&'static str>,
}

/// The line behind the hops.
#[derive(Serialize)]
struct Back<'a> {
    total_ns: u64,
    shares: Option<Parts>,
    dropped: Option<DropSays<'a>>,
    complete: bool,
    incomplete_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    tid: Option<u32>,
    comm: Option<Text<'a>>,
}

/// What an ICMP message says.
#[derive(Serialize)]
struct IcmpSays {
    r#type: u8,
    code: u8,
    name: Option<&'static str>,
    answers: Option<Shown<Protocol>>,
}

/// What a UNIX socket's message says beside its ends.
#[derive(Serialize)]
struct UnixSays {
    descriptors: u32,
    reads: u32,
}

/// Where the time went.
#[derive(Serialize)]
#[allow(clippy::struct_field_names, reason = "they are the keys")]
struct Parts {
    kernel_ns: u64,
    scheduler_ns: u64,
    reader_ns: u64,
}

/// Where and why it was dropped.
#[derive(Serialize)]
struct DropSays<'a> {
    reason: Option<Text<'a>>,
    reason_number: Option<u32>,
    function: Option<Text<'a>>,
}

impl<'a> DropSays<'a> {
    fn of(dropped: &'a Dropped) -> Self {
        let text = |name: &'a Option<Arc<str>>| name.as_deref().map(|name| Text(Printable(name.as_bytes())));
        Self {
            reason: text(&dropped.reason_name),
            reason_number: dropped.reason,
            function: text(&dropped.function),
        }
    }
}

impl<'a> Process<'a> {
    fn of(task: &'a Task) -> Self {
        Self { pid: task.pid, tid: task.tid, comm: task.comm.as_ref().map(Printable::comm).map(Text) }
    }
}

/// Writes each path as one line.
#[derive(Debug)]
pub struct PathLines {
    /// Makes a time of `CLOCK_MONOTONIC` one since 1970.
    realtime_offset_ns: i64,
    hops: HopWriter,
}

impl PathLines {
    /// Of a run that sees `coverage`. `realtime_offset_ns` makes a time of `CLOCK_MONOTONIC` one since 1970.
    pub fn new(coverage: &Coverage, realtime_offset_ns: i64) -> Self {
        Self { realtime_offset_ns, hops: HopWriter::new(coverage) }
    }

    /// Writes a path.
    pub fn write(&self, path: &Path, out: &mut Vec<u8>) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &self.front(path))?;
        out.pop();
        out.extend_from_slice(b",\"hops\":");
        self.hops.write(path, out)?;
        add_fields(&Back::of(path), out)?;
        out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn front<'a>(&self, path: &'a Path) -> Front<'a> {
        let device = path.device();
        Front {
            schema: SCHEMA,
            kind: "path",
            id: path.id,
            time_ns: path.hops.first().map(|hop| hop.time_ns.saturating_add_signed(self.realtime_offset_ns)),
            flow: Ends::of(path),
            netns: path.flow.map(|flow| flow.netns).filter(|netns| *netns != 0),
            tcp: path.tcp.map(Header::of),
            icmp: path.icmp.map(|icmp| IcmpSays {
                r#type: icmp.kind,
                code: icmp.code,
                name: IcmpMessage::of(path).and_then(IcmpMessage::name),
                answers: icmp.answers.map(Shown),
            }),
            unix: path
                .unix
                .as_ref()
                .map(|unix| UnixSays { descriptors: unix.descriptors, reads: unix.reads }),
            retransmitted: path.retransmitted,
            len: path.len,
            device: device.and_then(device_name),
            ifindex: device.map(|device| device.ifindex),
            sender: path.sender.as_ref().map(Process::of),
            receiver: path.receiver.as_ref().map(Process::of),
            route: match path.routing {
                Routing::Unknown => None,
                Routing::Cached => Some("cached"),
                Routing::Asked(_) => Some("asked"),
            },
        }
    }
}

impl<'a> Back<'a> {
    fn of(path: &'a Path) -> Self {
        Self {
            total_ns: path.total_ns(),
            shares: path.shares().map(|shares| Parts {
                kernel_ns: shares.kernel_ns,
                scheduler_ns: shares.scheduler_ns,
                reader_ns: shares.reader_ns,
            }),
            dropped: path.dropped.as_ref().map(DropSays::of),
            complete: path.incomplete.is_none(),
            incomplete_reason: path.incomplete.map(Incomplete::reason),
        }
    }
}
