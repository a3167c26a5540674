//! The sockets, the calls under way by thread, and the `sk_buff`s in queues.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashMap;
use tracer_common::event::UnixNameRecord;

use super::super::in_flight::{InFlight, Message, PacketKey};
use super::STREAM;
use crate::model::Unix;

/// Dead entries that a list may hold before they are thrown out.
pub(super) const SLACK: usize = 1024;

/// A system call that has not queued all of its message yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) packet: PacketKey,
    pub(super) sk: u64,
    /// The socket that it will wake, if that is known.
    pub(super) wakes: u64,
    pub(super) connects: bool,
}

/// An `sk_buff` in a receiver's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    /// Whose it is; one that has ended if nobody's, so that it is not taken for anything else.
    pub(super) packet: PacketKey,
    /// The sender's socket.
    pub(super) sk: u64,
    /// Bytes of data.
    pub(super) len: u32,
}

/// What is known of a socket that has sent.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) name: Option<Arc<[u8]>>,
    pub(super) inode: u32,
    /// Its messages that have not been read, in the order in which they were sent. Those that have ended are skipped.
    pub(super) unread: VecDeque<PacketKey>,
    /// How many of them have not ended.
    pub(super) live: usize,
    /// Calls under way.
    pub(super) open: usize,
    /// The only call under way, if there is just one.
    pub(super) only: Option<PacketKey>,
    /// The message of which an `sk_buff` had been taken when its reader was woken, and has not been copied yet.
    pub(super) unseen: Option<PacketKey>,
    /// Its last `sk_buff` that was read to its end, and the bytes in it.
    pub(super) last_read: (u64, u32),
    /// Wake-ups for datagrams that had been taken, less the copies of datagrams that nobody had seen being queued: how many there are to
    /// come. Less than 0 while calls have not come to their wake-ups.
    pub(super) taken: isize,
    /// When nothing that it had sent waited to be read, ns.
    pub(super) empty_ns: u64,
    /// The receiver has read an `sk_buff` twice, so it peeks (`MSG_PEEK`): a copy does not say that the `sk_buff` is gone.
    pub(super) is_peeked: bool,
}

/// The sockets, the calls under way by thread, and the `sk_buff`s in queues.
pub(in crate::correlate) struct UnixSockets {
    pub(super) limit: usize,
    pub(super) sockets: HashMap<u64, Socket>,
    /// How many sockets there must be before those without messages are forgotten.
    pub(super) forget_at: usize,
    pub(super) calls: HashMap<u32, Call>,
    pub(super) buffers: HashMap<u64, Buffer>,
    /// How many buffers there must be before those of messages that have ended are forgotten.
    pub(super) prune_at: usize,
    /// Connections that wait to be accepted, by the socket that connects.
    pub(super) connecting: HashMap<u64, PacketKey>,
    /// When a datagram was last taken before its wake-up of which neither the call nor the sender's socket was seen, ns.
    pub(super) stranger_ns: u64,
}

impl UnixSockets {
    pub(in crate::correlate) fn new(limit: usize) -> Self {
        Self {
            limit,
            sockets: HashMap::new(),
            forget_at: limit,
            calls: HashMap::new(),
            buffers: HashMap::new(),
            prune_at: SLACK,
            connecting: HashMap::new(),
            stranger_ns: 0,
        }
    }

    /// Takes the name of a socket.
    pub(super) fn announce(&mut self, record: &UnixNameRecord) {
        let len = usize::from(record.len).min(record.path.len());
        let name = &record.path[..len];
        // A path ends at its NUL byte; an abstract name begins with one and may hold more.
        let end = match name.first() {
            Some(0) | None => name.len(),
            Some(_) => name.iter().position(|byte| *byte == 0).unwrap_or(name.len()),
        };
        let socket = self.socket(record.sk);
        socket.name = Some(Arc::from(&name[..end]));
        socket.inode = record.inode;
    }

    /// The message of a socket that has waited for longest to be read.
    pub(in crate::correlate) fn oldest_unread(&self, sk: u64) -> Option<PacketKey> {
        self.sockets.get(&sk).and_then(|socket| socket.unread.front()).copied()
    }

    /// What is known of a socket; makes room if there is none.
    pub(super) fn socket(&mut self, sk: u64) -> &mut Socket {
        if self.sockets.len() >= self.forget_at && !self.sockets.contains_key(&sk) {
            self.sockets.retain(|_, socket| socket.live != 0 || socket.taken > 0);
            if self.sockets.len() >= self.limit {
                self.sockets.retain(|_, socket| socket.live != 0);
            }
            // Each of the rest has a message that is on its way, of which there is a limit as well.
            self.forget_at = self.limit.max(2 * self.sockets.len());
        }
        self.sockets.entry(sk).or_default()
    }

    /// What a socket is called now.
    pub(super) fn name(&self, sk: u64) -> Option<Arc<[u8]>> {
        self.sockets.get(&sk).and_then(|socket| socket.name.clone())
    }

    /// What a message is called. A datagram's sender may have no name: then its receiver has.
    pub(in crate::correlate) fn describe(&self, message: &mut Message) -> Unix {
        let own = message.called.take();
        let socket = self.sockets.get(&message.sk);
        // The receiver of a stream is not looked up again: in its memory another socket may have been.
        let is_named = message.socket_type == STREAM || own.as_ref().is_some_and(|name| !name.is_empty());
        Unix {
            name: if is_named { own } else { self.name(message.to).or(own) },
            socket_type: message.socket_type,
            inode: socket.map_or(0, |socket| socket.inode),
            descriptors: message.descriptors,
            reads: message.reads,
        }
    }

    /// A call of a socket has come back, or will not be waited for.
    pub(super) fn comes_back(&mut self, sk: u64, key: PacketKey) {
        if let Some(socket) = self.sockets.get_mut(&sk) {
            socket.open = socket.open.saturating_sub(1);
            if socket.only == Some(key) {
                socket.only = None;
            }
            // Copies of what was there before the trace were of no call.
            socket.taken = socket.taken.max(0_isize.saturating_sub_unsigned(socket.open));
        }
    }

    /// A message has ended, and is not in flight any more.
    pub(in crate::correlate) fn ended(&mut self, message: &Message, key: PacketKey, in_flight: &InFlight) {
        if message.connects {
            if self.connecting.get(&message.sk) == Some(&key) {
                self.connecting.remove(&message.sk);
            }
            return;
        }
        if message.is_open {
            self.comes_back(message.sk, key);
        }
        let Some(socket) = self.sockets.get_mut(&message.sk) else { return };
        if socket.unseen == Some(key) {
            socket.unseen = None;
        }
        socket.live = socket.live.saturating_sub(1);
        while socket.unread.front().is_some_and(|key| in_flight.get(*key).is_none()) {
            socket.unread.pop_front();
        }
        if socket.unread.len() > 2 * socket.live + SLACK {
            socket.unread.retain(|key| in_flight.get(*key).is_some());
        }
    }

    /// Remembers whose an `sk_buff` in a queue is.
    pub(super) fn queue(&mut self, skb: u64, buffer: Buffer, in_flight: &InFlight) {
        if self.buffers.len() >= self.prune_at {
            self.buffers.retain(|_, buffer| in_flight.get(buffer.packet).is_some());
            self.prune_at = 2 * self.buffers.len() + SLACK;
        }
        self.buffers.insert(skb, buffer);
    }

    /// The trace is over.
    pub(in crate::correlate) fn finish(&mut self) {
        self.calls.clear();
        self.buffers.clear();
        self.connecting.clear();
    }

    #[cfg(test)]
    pub(in crate::correlate) fn sizes(&self) -> [usize; 4] {
        [self.calls.len(), self.sockets.len(), self.buffers.len(), self.connecting.len()]
    }

    /// Messages that are kept as unread of any socket, ended or not.
    #[cfg(test)]
    pub(in crate::correlate) fn unread(&self) -> usize {
        self.sockets.values().map(|socket| socket.unread.len()).sum()
    }
}
