//! What is read, and whose it is.

use tracer_common::event::{AUX_UNKNOWN, MARK_TAKEN, UnixRecord};

use super::{
    super::{
        Correlator,
        in_flight::{InFlight, Packet, PacketKey, Who},
    },
    STREAM,
    sockets::{Buffer, Socket, UnixSockets},
};
use crate::model::{Hop, Incomplete};

impl Correlator {
    /// The server has accepted a connection.
    pub(super) fn unix_accept(&mut self, record: &UnixRecord, hop: Hop) {
        self.close_call(record.tid);
        let Some(key) = self.unix.connecting.get(&record.peer).copied() else { return };
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let Some(message) = &mut packet.message else { return };
        message.buffers_read = 1;
        let is_open = message.is_open;
        self.wakes.give(record.tid, hop.time_ns, packet);
        packet.receiver = Who::thread(record.tgid, record.tid);
        packet.add(hop);
        // A server that is running may accept before it is woken.
        if !is_open {
            self.end(key, None);
        }
    }

    /// A process copies data out of an `sk_buff`.
    pub(super) fn unix_read(&mut self, record: &UnixRecord, hop: Hop) {
        // A thread is in one call at a time.
        self.close_call(record.tid);
        let end = record.offset.saturating_add(record.len);
        // Of a datagram the rest is gone after the first copy.
        let is_done = end >= record.total || record.socket_type != STREAM;
        let owner = match self.unix.buffers.get(&record.skb).copied() {
            Some(buffer) if (buffer.sk, buffer.len) == (record.sk, record.total) => Some(buffer.packet),
            // Other data in the same memory: what was there before is gone.
            Some(buffer) => {
                self.unix.buffers.remove(&record.skb);
                self.supersede(buffer.packet);
                self.read_early(record)
            }
            None => self.read_early(record),
        };
        if is_done {
            self.unix.buffers.remove(&record.skb);
            if let Some(socket) = self.unix.sockets.get_mut(&record.sk) {
                socket.last_read = (record.skb, record.total);
            }
        }
        let Some(key) = owner else { return };
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        if packet.doubt == Some(Incomplete::Entangled) {
            return;
        }
        let Some(message) = &mut packet.message else { return };
        message.reads = message.reads.saturating_add(1);
        message.read = Some(hop);
        if is_done {
            message.buffers_read += 1;
        }
        packet.receiver = Who::thread(record.tgid, record.tid).or(packet.receiver);
        // What the scheduler did for the first read, it did for the message.
        self.wakes.give(record.tid, hop.time_ns, packet);
        self.end_if_read(key);
    }

    /// Data is read that was not seen to be queued: it was there before the trace, or a call under way has queued it and
    /// has not come to wake the reader, or it had been taken when the reader was woken. Says whose it is.
    fn read_early(&mut self, record: &UnixRecord) -> Option<PacketKey> {
        let (lost, stranger_ns) = (self.lost, self.unix.stranger_ns);
        let socket = self.unix.sockets.get_mut(&record.sk)?;
        let is_datagram = record.socket_type != STREAM;
        let to_come = socket.taken;
        socket.taken -= isize::from(is_datagram);
        let may_be = |key: &PacketKey| {
            self.in_flight
                .get(*key)
                .is_some_and(|packet| packet.doubt.is_none() && may_have_queued(packet, record))
        };
        let unseen = socket.unseen.filter(may_be);
        let only = socket.only.filter(may_be).filter(|only| unseen != Some(*only));
        let was_read = socket.last_read.0 == record.skb && record.marks & MARK_TAKEN == 0;
        if was_read && unseen.or(only).is_none() {
            socket.is_peeked = true;
        }
        // Only one can be read before its wake-up: what is read beside it was not, or it was not.
        let early = socket.only.filter(|only| {
            self.in_flight.get(*only).and_then(Packet::message).is_some_and(|message| message.early)
        });
        // Others that were taken, or that calls under way have queued, of messages that cannot be told apart.
        let is_told_apart = |key| is_told_apart(&self.in_flight, key);
        let to_come_of_one =
            isize::from(socket.unseen.is_some_and(is_told_apart)) - isize::from(early.is_some());
        let others =
            to_come > to_come_of_one || socket.open > usize::from(socket.only.is_some_and(is_told_apart));
        // It may be what was read before, or was queued when records were lost.
        let may_be_older = socket.is_peeked
            || was_read
            || is_datagram && others
            || is_datagram && stranger_ns > socket.empty_ns
            || lost.is_after(socket.empty_ns);
        if let Some(early) = early {
            self.entangle(early);
            return None;
        }
        // The start of an `sk_buff` must be seen, or it is one from before.
        if record.offset != 0 {
            return None;
        }
        let key = match (unseen, only) {
            (Some(one), Some(other)) => {
                self.entangle(one);
                self.entangle(other);
                return None;
            }
            (key, other) => key.or(other)?,
        };
        if may_be_older {
            self.entangle(key);
            return None;
        }
        let packet = self.in_flight.get_mut(key)?;
        packet.awaits_reader = true;
        let message = packet.message.as_mut()?;
        if message.unseen > 0 {
            message.unseen -= 1;
            if message.unseen == 0 {
                socket_mut(&mut self.unix, record.sk, |socket| socket.unseen = None);
            }
        } else {
            message.early = true;
        }
        message.buffers += 1;
        message.queued = message.queued.saturating_add(record.total);
        message.descriptors += u32::from(record.descriptors);
        let buffer = Buffer { packet: key, sk: record.sk, len: record.total };
        self.unix.queue(record.skb, buffer, &self.in_flight);
        Some(key)
    }

    /// Ends a message that has been read.
    pub(super) fn end_if_read(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let Some(message) = packet.message().filter(|message| message.is_read()) else { return };
        let (queued, Some(read)) = (message.queued, message.read) else { return };
        packet.add(read);
        packet.len = queued;
        self.end(key, None);
    }
}

/// Whether a message is in flight, and its reads are known.
fn is_told_apart(in_flight: &InFlight, key: PacketKey) -> bool {
    in_flight.get(key).is_some_and(|packet| packet.doubt != Some(Incomplete::Entangled))
}

/// Whether the data that is read may be what a message has queued.
fn may_have_queued(packet: &Packet, record: &UnixRecord) -> bool {
    let Some(message) = packet.message() else { return false };
    let is_first = packet.hops.first().is_some_and(|call| call.time_ns <= record.time_ns);
    let has_room = match message.asked {
        AUX_UNKNOWN => true,
        asked if record.socket_type == STREAM => message.queued.saturating_add(record.total) <= asked,
        // A datagram is one `sk_buff`.
        asked => asked == record.total,
    };
    is_first && has_room
}

fn socket_mut(unix: &mut UnixSockets, sk: u64, change: impl FnOnce(&mut Socket)) {
    if let Some(socket) = unix.sockets.get_mut(&sk) {
        change(socket);
    }
}
