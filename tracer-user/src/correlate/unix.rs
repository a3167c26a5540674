//! Messages on UNIX sockets: everything happens in the sender's system call, so its thread joins the hops.

use std::sync::Arc;

use hashbrown::HashMap;
use tracer_common::{
    event::{HopRecord, UnixNameRecord},
    probes::Point,
};

use super::{
    Correlator,
    in_flight::{Cut, Packet, PacketKey},
    process,
};
use crate::model::{Hop, Hops, Incomplete};

/// A `connect` that has not woken its listener after this time has failed, or waits for room in the listener's queue;
/// what the thread wakes later need not be the listener. ns.
const CONNECT_NS: u64 = 20_000_000;

/// A system call that has not woken its reader yet.
#[derive(Debug)]
struct Call {
    packet: PacketKey,
    time_ns: u64,
    /// The socket that it will wake: the peer for a send, whichever listens for a connect.
    wakes: Option<u64>,
}

/// What a socket was connected to.
#[derive(Debug)]
struct Name {
    name: Arc<[u8]>,
    /// The socket at the other end, once it has been sent to. It never changes while the socket lives.
    peer: Option<u64>,
}

/// The calls under way, by thread, and the names that sockets were connected to.
pub(super) struct UnixCalls {
    limit: usize,
    calls: HashMap<u32, Call>,
    names: HashMap<u64, Name>,
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
        self.names.insert(record.sk, Name { name: Arc::from(&name[..end]), peer: None });
    }

    /// The name that the socket of a call was connected to. A socket with another peer than before is another socket
    /// in the same memory.
    fn name(&mut self, record: &HopRecord, point: Point) -> Option<Arc<[u8]>> {
        let name = self.names.get_mut(&record.sk)?;
        if point == Point::UnixStreamSendmsg && *name.peer.get_or_insert(record.skb) != record.skb {
            self.names.remove(&record.sk);
            return None;
        }
        Some(Arc::clone(&name.name))
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.calls.len(), self.names.len()]
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
        let name = self.unix.name(record, hop.point).unwrap_or_default();
        let packet = self.keep(Packet {
            id,
            skb: 0,
            flow: None,
            received_on: None,
            unix_name: Some(name),
            tcp: None,
            len: record.len,
            ifindex: None,
            sender: process(record),
            stage: hop.point,
            hops,
            cut: Cut::default(),
            awaits_reader: false,
            doubt: None,
        });
        if self.coverage.sees(Point::SockDefReadable) {
            let wakes = (hop.point == Point::UnixStreamSendmsg).then_some(record.skb);
            // Calls that failed stay behind.
            if self.unix.calls.len() > 2 * self.in_flight.len() + 1024 {
                self.unix.calls.retain(|_, call| self.in_flight.get(call.packet).is_some());
            }
            self.unix.calls.insert(record.tid, Call { packet, time_ns: hop.time_ns, wakes });
        } else {
            self.end(packet, None);
        }
    }

    /// A UNIX socket has data: the call of this thread has come to its end.
    pub(super) fn unix_readable(&mut self, record: &HopRecord, hop: Hop) {
        let ours = self.unix.calls.get(&record.tid).is_some_and(|call| match call.wakes {
            Some(socket) => socket == record.sk,
            None => hop.time_ns.saturating_sub(call.time_ns) <= CONNECT_NS,
        });
        if let Some(call) = ours.then(|| self.unix.calls.remove(&record.tid)).flatten() {
            if let Some(packet) = self.in_flight.get_mut(call.packet) {
                packet.add(hop);
            }
            self.end(call.packet, None);
        }
    }
}
