//! Messages on UNIX sockets: everything happens in the sender's system call, so its thread joins the hops.

use std::{collections::HashMap, sync::Arc};

use tracer_common::{
    event::{HopRecord, UnixNameRecord},
    probes::Point,
};

use super::{
    Correlator,
    in_flight::{Packet, PacketKey},
};
use crate::model::{Hop, Hops, Incomplete};

/// A system call that has not woken its reader yet.
#[derive(Debug)]
struct Call {
    packet: PacketKey,
    /// The socket that it will wake: the peer for a send, whichever listens for a connect.
    wakes: Option<u64>,
}

/// The calls under way, by thread, and the names that sockets were connected to.
pub(super) struct UnixCalls {
    limit: usize,
    calls: HashMap<u32, Call>,
    names: HashMap<u64, Arc<[u8]>>,
}

impl UnixCalls {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, calls: HashMap::new(), names: HashMap::new() }
    }

    /// Takes the name that a socket is connected to.
    pub(super) fn announce(&mut self, record: &UnixNameRecord) {
        if self.names.len() >= self.limit {
            self.names.clear();
        }
        let len = usize::from(record.len).min(record.path.len());
        let name = &record.path[..len];
        // A path ends at its NUL byte; an abstract name begins with one and may hold more.
        let end = match name.first() {
            Some(0) | None => name.len(),
            Some(_) => name.iter().position(|byte| *byte == 0).unwrap_or(name.len()),
        };
        self.names.insert(record.sk, Arc::from(&name[..end]));
    }
}

impl Correlator {
    /// A thread connects or sends on a UNIX socket.
    pub(super) fn unix_call(&mut self, record: &HopRecord, hop: Hop) {
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return;
        }
        if let Some(before) = self.unix.calls.remove(&record.tid) {
            self.end(before.packet, Some(Incomplete::LostTrack));
        }
        let mut hops = Hops::new();
        hops.push(hop);
        let id = self.number();
        let packet = self.keep(Packet {
            id,
            skb: 0,
            flow: None,
            unix_name: Some(self.unix.names.get(&record.sk).cloned().unwrap_or_default()),
            tcp: None,
            len: record.len,
            ifindex: None,
            sender: Some(record.tgid),
            stage: hop.point,
            hops,
            awaits_reader: false,
            doubt: None,
        });
        if self.coverage.sees(Point::SockDefReadable) {
            let wakes = (hop.point == Point::UnixStreamSendmsg).then_some(record.skb);
            self.unix.calls.insert(record.tid, Call { packet, wakes });
        } else {
            self.end(packet, None);
        }
    }

    /// A UNIX socket has data: the call of this thread has come to its end.
    pub(super) fn unix_readable(&mut self, record: &HopRecord, hop: Hop) {
        let ours = self
            .unix
            .calls
            .get(&record.tid)
            .is_some_and(|call| call.wakes.is_none_or(|socket| socket == record.sk));
        if let Some(call) = ours.then(|| self.unix.calls.remove(&record.tid)).flatten() {
            if let Some(packet) = self.in_flight.get_mut(call.packet) {
                packet.add(hop);
            }
            self.end(call.packet, None);
        }
    }
}
