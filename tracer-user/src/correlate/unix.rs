//! Connections and messages on UNIX sockets.
//!
//! A send call queues `sk_buff`s on the receiver's queue and wakes its reader after each, in the sender's thread. There
//! the `sk_buff` is seen: it is at the end of the queue. The reader copies its data out, and the copy names the `sk_buff`
//! and the sender's socket. So a message has been read when all that was queued for it has been copied to the end, however
//! many calls, buffers and reads that takes.
//!
//! A reader that is running may take an `sk_buff` before the wake-up looks at the queue. It is then one that nobody has
//! seen being queued, and if its socket has just one call under way, or one message of which an `sk_buff` was gone when
//! its reader was woken, it can only be of that one. Where there are several, nobody can tell them apart
//! ([`Incomplete::Entangled`]): such a message shows its call and its wake-up, which are known by their thread, and no read.

mod reads;
mod sockets;

use std::collections::VecDeque;

use smallvec::SmallVec;
use tracer_common::{
    event::{AUX_UNKNOWN, MARK_LISTENS, MARK_NOTHING_QUEUED, UnixNameRecord, UnixRecord},
    probes::Point,
};

pub(super) use self::sockets::UnixSockets;
use self::sockets::{Buffer, Call, SLACK};
use super::{
    Correlator,
    in_flight::{Cut, Header, Message, Packet, PacketKey, Who},
};
use crate::model::{Hop, Incomplete};

/// `SOCK_STREAM`.
const STREAM: u8 = 1;

/// What a stream sends in one `sk_buff`, however small its buffer is (`SOCK_MIN_SNDBUF`). Bytes.
const ONE_BUFFER: u32 = 2048;

impl Correlator {
    /// A socket has a name. It comes when a socket is first seen, and before each `connect`.
    pub(super) fn unix_name(&mut self, record: &UnixNameRecord) {
        let before = self.unix.sockets.get(&record.sk).map_or(0, |socket| socket.inode);
        // Whatever is known by its address is of another socket that lay in the same memory. That was not free before all
        // its messages were, and the connections that it made. (A socket that nobody has accepted has no inode yet.)
        if before != 0 && before != record.inode {
            self.unix_socket_gone(record.sk);
        }
        self.unix.announce(record);
    }

    fn unix_socket_gone(&mut self, sk: u64) {
        if let Some(key) = self.unix.connecting.remove(&sk) {
            self.end_connect(key);
        }
        let Some(socket) = self.unix.sockets.get_mut(&sk) else { return };
        for key in std::mem::take(&mut socket.unread) {
            if let Some(message) = self.in_flight.get(key).and_then(Packet::message)
                && message.is_open
            {
                self.close_call(message.tid);
            }
            self.end(key, Some(Incomplete::ReadNotSeen));
        }
        self.unix.sockets.remove(&sk);
    }

    /// A probe point fired for a UNIX socket.
    pub(super) fn unix_hop(&mut self, record: &UnixRecord) {
        let Some(hop) = self.hop_of(record.point, record.backend, record.cpu, record.time_ns) else { return };
        match hop.point {
            Point::UnixStreamConnect | Point::UnixStreamSendmsg | Point::UnixDgramSendmsg => {
                self.unix_call(record, hop);
            }
            Point::SockDefReadable => self.unix_readable(record, hop),
            Point::UnixAccept => self.unix_accept(record, hop),
            Point::UnixStreamRecvmsg | Point::UnixDgramRecvmsg => self.unix_read(record, hop),
            _ => self.malformed += 1,
        }
    }

    /// A thread connects or sends.
    fn unix_call(&mut self, record: &UnixRecord, hop: Hop) {
        self.close_call(record.tid);
        let connects = hop.point == Point::UnixStreamConnect;
        if !connects && record.marks & MARK_NOTHING_QUEUED != 0 {
            self.queue_is_empty(record.sk, hop.time_ns);
        }
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return;
        }
        // A stream has no empty messages: such a call sends nothing.
        if !connects && record.socket_type == STREAM && record.len == 0 {
            return;
        }
        let (sk, tid) = (record.sk, record.tid);
        let message = Message {
            sk,
            to: record.peer,
            socket_type: record.socket_type,
            connects,
            tid,
            asked: record.len,
            is_open: true,
            ..Message::default()
        };
        let len = if record.len == AUX_UNKNOWN { 0 } else { record.len };
        let sender = Who::thread(record.tgid, tid);
        let key = self.begin_message(message, hop, len, sender, None);
        if connects {
            if let Some(before) = self.unix.connecting.insert(sk, key) {
                self.end_connect(before);
            }
        } else {
            let socket = self.unix.socket(sk);
            socket.unread.push_back(key);
            socket.live += 1;
            socket.open += 1;
            let other = socket.only.replace(key);
            if socket.open > 1 {
                socket.only = None;
                for key in [other, Some(key)].into_iter().flatten() {
                    self.entangle(key);
                }
            }
        }
        if !self.coverage.sees(Point::SockDefReadable) {
            return self.end(key, None);
        }
        // Calls of threads that are gone stay behind.
        if self.unix.calls.len() > 2 * self.in_flight.len() + SLACK {
            self.unix.calls.retain(|_, call| self.in_flight.get(call.packet).is_some());
        }
        self.unix.calls.insert(tid, Call { packet: key, sk, wakes: record.peer, connects });
    }

    /// A path begins.
    fn begin_message(
        &mut self,
        mut message: Message,
        hop: Hop,
        len: u32,
        sender: Option<Who>,
        doubt: Option<Incomplete>,
    ) -> PacketKey {
        let mut hops = self.in_flight.hops();
        hops.push(hop);
        let id = self.number();
        message.called = self.unix.name(message.sk);
        let message = self.in_flight.message(message);
        self.keep(Packet {
            id,
            skb: 0,
            flow: None,
            received_on: None,
            message: Some(message),
            header: Header::default(),
            sent_by: 0,
            is_tcp: false,
            retransmitted: false,
            len,
            on_devices: SmallVec::new(),
            sender,
            receiver: None,
            woken_on: 0,
            stage: hop.point,
            hops,
            routes: Vec::new(),
            to_peer: false,
            cut: Cut::default(),
            at_device: None,
            holds_several: false,
            awaits_reader: false,
            dropped: None,
            doubt,
        })
    }

    /// Nothing that the socket has sent waits to be read any more.
    fn queue_is_empty(&mut self, sk: u64, now_ns: u64) {
        let Some(socket) = self.unix.sockets.get_mut(&sk) else { return };
        socket.empty_ns = now_ns;
        let early = socket.only.and_then(|key| self.in_flight.get(key)?.message()).is_some_and(|it| it.early);
        socket.taken = -isize::from(early);
        if socket.live == 0 {
            return;
        }
        let unread = std::mem::take(&mut socket.unread);
        // What another thread is about to queue was not there yet.
        let (open, queued): (VecDeque<_>, VecDeque<_>) = unread
            .into_iter()
            .filter_map(|key| Some((key, self.in_flight.get(key)?.message()?.is_open)))
            .partition(|(_, is_open)| *is_open);
        socket.unread = open.into_iter().map(|(key, _)| key).collect();
        for (key, _) in queued {
            self.end(key, Some(Incomplete::ReadNotSeen));
        }
    }

    /// Nobody can accept it any more, if it was queued.
    fn end_connect(&mut self, key: PacketKey) {
        let is_queued =
            self.in_flight.get(key).is_some_and(|packet| packet.awaits_reader || packet.woken_on != 0);
        self.end(key, Some(if is_queued { Incomplete::NeverRead } else { Incomplete::CallFailed }));
    }

    /// The thread's call, if it had one, has come back: it has queued what it has queued.
    fn close_call(&mut self, tid: u32) {
        let Some(call) = self.unix.calls.remove(&tid) else { return };
        let Some(packet) = self.in_flight.get_mut(call.packet) else { return };
        let Some(message) = &mut packet.message else { return };
        if call.connects {
            // Accepted, but the wake-up of the server was not seen.
            let is_accepted = message.buffers_read > 0;
            let reason = if is_accepted { Incomplete::HopNotSeen } else { Incomplete::CallFailed };
            return self.end(call.packet, Some(reason));
        }
        let is_entangled = packet.doubt == Some(Incomplete::Entangled);
        if message.buffers == 0 && message.unseen == 0 && !(is_entangled && packet.woken_on != 0) {
            return self.end_unsent(call.packet);
        }
        message.is_open = false;
        let early = message.early;
        if message.unseen == 0 && !is_entangled {
            packet.len = message.queued;
        }
        self.unix.comes_back(call.sk, call.packet);
        if early {
            // The wake-up must have come before the end: what was read was another one's, or a record was lost.
            return self.end_without_read(call.packet, Incomplete::HopNotSeen);
        }
        if is_entangled {
            return self.end(call.packet, None);
        }
        self.end_if_read(call.packet);
    }

    /// Nothing was sent (EAGAIN, EPIPE), so there is no message; or its wake-up was lost, and its path says so.
    fn end_unsent(&mut self, key: PacketKey) {
        if self.in_flight.get(key).is_some_and(|packet| self.may_lack_records(packet)) {
            return self.end(key, None);
        }
        if let Some(message) = self.in_flight.remove(key).and_then(|packet| packet.message) {
            self.unix.ended(&message, key, &self.in_flight);
            self.in_flight.reuse_message(message);
        }
    }

    /// Whose a message's reads are cannot be told.
    fn entangle(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        packet.doubt.get_or_insert(Incomplete::Entangled);
        forget_reads(packet);
        if packet.message().is_some_and(|message| !message.is_open) {
            self.end(key, Some(Incomplete::Entangled));
        }
    }

    fn end_without_read(&mut self, key: PacketKey, reason: Incomplete) {
        if let Some(packet) = self.in_flight.get_mut(key) {
            forget_reads(packet);
        }
        self.end(key, Some(reason));
    }

    /// A socket has data, or a listener a connection.
    fn unix_readable(&mut self, record: &UnixRecord, hop: Hop) {
        let listens = record.marks & MARK_LISTENS != 0;
        let call = self.unix.calls.get(&record.tid).copied().filter(|call| wakes(call, record, listens));
        self.count_taken(record, call);
        let Some(call) = call else { return self.woken_without_call(record, hop) };
        if self.in_flight.get(call.packet).is_none() {
            // Its path has ended. What is read of this is not to be taken for anybody else's.
            return self.queue_nobodys(record);
        }
        let Some(packet) = self.in_flight.get_mut(call.packet) else { return };
        let Some(message) = &mut packet.message else { return };
        message.to = record.sk;
        if packet.woken_on == 0 {
            packet.woken_on = record.sk;
            packet.add(hop);
        }
        if call.connects {
            self.unix.calls.remove(&record.tid);
            return self.connected(call.packet);
        }
        if !self.coverage.sees(read_point(record.socket_type)) {
            self.unix.calls.remove(&record.tid);
            return self.end(call.packet, None);
        }
        self.buffer_queued(call, record);
        self.close_if_full(record.tid);
    }

    /// A wake-up for a datagram that does not see it: it was taken, or another one is behind it, which has a wake-up of its own.
    fn count_taken(&mut self, record: &UnixRecord, call: Option<Call>) {
        let is_of_datagram = record.socket_type != STREAM && record.marks & MARK_LISTENS == 0;
        let is_new = record.skb != 0 && record.peer != 0 && !self.unix.buffers.contains_key(&record.skb);
        match call {
            _ if !is_of_datagram => {}
            Some(call) if !is_new || record.peer != call.sk => self.unix.socket(call.sk).taken += 1,
            // Whose it is is not known.
            None if !is_new => self.unix.stranger_ns = record.time_ns,
            _ => {}
        }
    }

    fn queue_nobodys(&mut self, record: &UnixRecord) {
        if record.skb != 0 && record.peer != 0 && self.owner(record.skb).is_none() {
            let buffer = Buffer { packet: PacketKey::default(), sk: record.peer, len: record.len };
            self.unix.queue(record.skb, buffer, &self.in_flight);
        }
    }

    /// The message that an `sk_buff` in a queue is of.
    fn owner(&self, skb: u64) -> Option<PacketKey> {
        let owner = self.unix.buffers.get(&skb)?.packet;
        self.in_flight.get(owner).map(|_| owner)
    }

    /// A thread sends, and its call was not seen: it began before the trace, or it is none of those that are known where
    /// functions cannot be probed (`io_uring`, `pwritev2`, those of 32-bit programs, the further messages of `sendmmsg`).
    fn woken_without_call(&mut self, record: &UnixRecord, hop: Hop) {
        if record.marks & MARK_LISTENS != 0 {
            return;
        }
        if self.closes_at_ns.is_some_and(|closed| hop.time_ns > closed) {
            return self.queue_nobodys(record);
        }
        // If the reader has taken the `sk_buff` already, that of another message may be behind it; and so may that of another
        // thread that is sending on the same socket.
        let is_shared = self.unix.sockets.get(&record.peer).is_some_and(|socket| socket.open > 0);
        let is_known = self.unix.buffers.contains_key(&record.skb);
        let is_seen = record.skb != 0 && record.peer != 0 && !is_shared && !is_known;
        let message = Message {
            sk: if is_seen { record.peer } else { 0 },
            to: record.sk,
            socket_type: record.socket_type,
            tid: record.tid,
            asked: AUX_UNKNOWN,
            queued: if is_seen { record.len } else { 0 },
            buffers: u32::from(is_seen),
            descriptors: if is_seen { record.descriptors.into() } else { 0 },
            ..Message::default()
        };
        let len = message.queued;
        let key = self.begin_message(message, hop, len, None, Some(Incomplete::StartNotSeen));
        if let Some(packet) = self.in_flight.get_mut(key) {
            packet.woken_on = record.sk;
            packet.awaits_reader = true;
        }
        if !is_seen || !self.coverage.sees(read_point(record.socket_type)) {
            self.queue_nobodys(record);
            return self.end(key, None);
        }
        let socket = self.unix.socket(record.peer);
        socket.unread.push_back(key);
        socket.live += 1;
        let buffer = Buffer { packet: key, sk: record.peer, len: record.len };
        self.unix.queue(record.skb, buffer, &self.in_flight);
    }

    /// The connection is in the listener's queue.
    fn connected(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        let Some(message) = &mut packet.message else { return };
        message.is_open = false;
        packet.awaits_reader = true;
        if message.buffers_read > 0 || !self.coverage.sees(Point::UnixAccept) {
            self.end(key, None);
        }
    }

    /// An `sk_buff` of a call's message is in the receiver's queue, and if the reader has not taken it, it is
    /// `record.skb`.
    fn buffer_queued(&mut self, call: Call, record: &UnixRecord) {
        let key = call.packet;
        let is_seen = record.skb != 0 && record.peer == call.sk;
        let owner = self.owner(record.skb).filter(|_| is_seen);
        // A reader of a stream takes an `sk_buff` off the queue after it has copied all of it.
        let is_read = is_seen
            && self.unix.sockets.get(&call.sk).is_some_and(|it| it.last_read == (record.skb, record.len))
            && self.in_flight.get(key).and_then(Packet::message).is_some_and(|it| it.early);
        let owner = if is_read { Some(key) } else { owner };
        if is_seen && owner != Some(key) {
            if let Some(owner) = owner {
                self.supersede(owner);
            }
            let buffer = Buffer { packet: key, sk: call.sk, len: record.len };
            self.unix.queue(record.skb, buffer, &self.in_flight);
        }
        // More than one message can hold is the work of somebody whose records were lost.
        let is_over = self.unix.buffers.len() > 2 * self.limits.in_flight + 2 * SLACK;
        let Some(packet) = self.in_flight.get_mut(key) else { return };
        if is_over {
            packet.doubt.get_or_insert(Incomplete::TooMany);
        }
        let is_entangled = packet.doubt == Some(Incomplete::Entangled);
        let Some(message) = &mut packet.message else { return };
        if is_seen && owner != Some(key) {
            message.buffers += 1;
            message.queued = message.queued.saturating_add(record.len);
            // If its reader was not woken for what was read before, that was not of this message; and if it is more than
            // the call was asked to send, a record of the thread's was lost.
            let is_another_length = match message.asked {
                AUX_UNKNOWN => false,
                asked if message.socket_type == STREAM => message.queued > asked,
                asked => message.queued != asked,
            };
            let is_contradicted = message.early || is_another_length;
            message.early = false;
            message.descriptors += u32::from(record.descriptors);
            packet.awaits_reader = !is_entangled;
            if is_contradicted {
                self.entangle(key);
            }
        } else if message.early {
            // It was read, in part or whole, before this.
            message.early = false;
        } else {
            message.unseen += 1;
            if !is_entangled {
                self.unseen(call.sk, key);
            }
        }
        if is_over {
            self.end(key, Some(Incomplete::TooMany));
        }
    }

    /// The `sk_buff` of a message is another's now.
    fn supersede(&mut self, owner: PacketKey) {
        let is_open = self.in_flight.get(owner).and_then(Packet::message).is_some_and(|it| it.is_open);
        if is_open {
            self.entangle(owner);
        } else {
            self.end(owner, Some(Incomplete::ReadNotSeen));
        }
    }

    /// The reader has taken an `sk_buff` of a message and not copied it yet. With two of them nobody can tell which is
    /// copied first.
    fn unseen(&mut self, sk: u64, key: PacketKey) {
        let Some(socket) = self.unix.sockets.get_mut(&sk) else { return };
        let before = socket.unseen.filter(|before| *before != key);
        if let Some(before) = before.filter(|before| self.in_flight.get(*before).is_some()) {
            socket.unseen = None;
            self.entangle(before);
            self.entangle(key);
        } else {
            socket.unseen = Some(key);
        }
    }

    /// A call that has queued all that it was asked to has come to its end.
    fn close_if_full(&mut self, tid: u32) {
        let Some(call) = self.unix.calls.get(&tid) else { return };
        let Some(packet) = self.in_flight.get(call.packet) else { return };
        let Some(message) = packet.message() else { return };
        let is_full = if message.socket_type != STREAM {
            // A datagram is one `sk_buff`.
            true
        } else if packet.doubt == Some(Incomplete::Entangled) {
            // What its wake-ups have seen may have been another one's.
            message.asked <= ONE_BUFFER
        } else {
            message.queued >= message.asked
        };
        if is_full {
            self.close_call(tid);
        }
    }

    /// The trace is over: nothing more is queued.
    pub(super) fn finish_calls(&mut self) {
        let mut calls: Vec<(u32, Call)> = self.unix.calls.iter().map(|(tid, call)| (*tid, *call)).collect();
        calls.sort_unstable_by_key(|(_, call)| call.packet);
        for (tid, call) in calls {
            let message = self.in_flight.get(call.packet).and_then(Packet::message);
            // If it was not said how much there is, what was read is all that can be waited for.
            if message.is_some_and(|message| message.buffers > 0 && message.asked == AUX_UNKNOWN) {
                self.close_call(tid);
            }
        }
    }
}

/// Whether a wake-up in the thread of a call is its doing. Behind a datagram may be that of another sender by now.
fn wakes(call: &Call, record: &UnixRecord, listens: bool) -> bool {
    if call.connects {
        return listens && (record.peer == call.sk || record.peer == 0);
    }
    !listens && (call.wakes == 0 || call.wakes == record.sk)
}

/// What was taken for a message's reads is not shown.
fn forget_reads(packet: &mut Packet) {
    packet.hops.retain(|hop| hop.point <= Point::SockDefReadable);
    packet.receiver = None;
    packet.awaits_reader = false;
    if let Some(message) = &mut packet.message {
        (message.read, message.reads, message.descriptors) = (None, 0, 0);
    }
}

/// Where a message on such a socket is read.
fn read_point(socket_type: u8) -> Point {
    if socket_type == STREAM { Point::UnixStreamRecvmsg } else { Point::UnixDgramRecvmsg }
}
