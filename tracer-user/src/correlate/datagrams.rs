//! The two ends of a datagram: the call that sends it, and its socket's queue.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tracer_common::event::{AUX_UNKNOWN, HopRecord, MARK_TO_PEER};

use super::{
    in_flight::{InFlight, Packet, PacketKey, Who},
    loss::LostUntil,
};
use crate::model::{Endpoint, Flow, Hop};

/// Threads whose last call is remembered.
const THREADS: usize = 4096;

/// Sockets whose queues are remembered.
const SOCKETS: usize = 4096;

/// Flows whose socket is remembered.
const READERS: usize = 65536;

/// Datagrams that are remembered beside those in flight.
const SLACK: usize = 1024;

/// A call sends its datagram before it comes back; emulated machines take milliseconds. ns.
const CALL_NS: u64 = 100_000_000;

/// A thread that has taken a datagram has copied it, and says so, within this time. ns.
const TAKEN_NS: u64 = 2_000_000_000;

/// No network has a smaller MTU: what is shorter is no fragment but the last, which has no header.
const SMALLEST_FRAGMENT: u32 = 500;

/// `HopRecord::aux` of a read on a socket that only wanted datagrams come to.
const NO_STRANGERS: u32 = 1;

/// A send call on a UDP socket.
#[derive(Clone, Copy, Debug)]
struct Call {
    sk: u64,
    len: u32,
    who: Option<Who>,
    to_peer: bool,
    hop: Hop,
}

impl Call {
    /// Whether a datagram, or its first fragment, may be what was sent.
    fn may_send(&self, packet: &Packet) -> bool {
        let is_fragment =
            || packet.len < self.len && packet.len >= SMALLEST_FRAGMENT && packet.len.is_multiple_of(8);
        self.len == AUX_UNKNOWN || self.len == packet.len || is_fragment()
    }
}

/// The datagrams of a socket, where a read does not name the one that it took.
#[derive(Debug, Default)]
struct Queue {
    /// Those that were seen in its queue, in order.
    queued: VecDeque<Queued>,
    /// Those that were received on flows that end in it, with the time, ns: on their way into the queue, or taken before
    /// they were seen in it.
    coming: Vec<(PacketKey, u64)>,
    /// Since when all that is in the queue is in `queued` or `coming`, as far as its flows are known, ns.
    known_ns: Option<u64>,
    /// The one that the next read takes, if that was said.
    head: Option<PacketKey>,
    /// The thread that reads.
    reader: Option<u32>,
    /// Several threads are known to read.
    is_shared: bool,
    /// How many datagrams were gone of which no thread has said that it has read them. Less than 0 if threads have read some that are
    /// still in `coming`.
    unreported: isize,
    /// When one was gone that nobody had said to have read, ns.
    unreported_ns: u64,
}

/// A datagram that was seen in a queue.
#[derive(Clone, Copy, Debug)]
struct Queued {
    key: PacketKey,
    /// When, ns.
    at_ns: u64,
    /// A read may have taken it that could not be told from others.
    is_suspect: bool,
}

impl Queue {
    /// How many of those that were seen in the queue are gone after a read.
    fn gone(&mut self, record: &HopRecord, head: Option<PacketKey>, in_flight: &InFlight) -> usize {
        if record.skb == 0 {
            self.known_ns = Some(record.time_ns);
            return self.queued.iter().take_while(|queued| queued.at_ns <= record.time_ns).count();
        }
        let next = in_flight.by_skb(record.skb);
        if let Some(place) = next.and_then(|next| self.queued.iter().position(|queued| queued.key == next)) {
            self.head = next;
            for queued in self.queued.iter_mut().skip(place) {
                queued.is_suspect = false;
            }
            return place;
        }
        // One that has not been seen in the queue is next: what was seen there before it came is gone.
        if let Some((_, received_ns)) = self.coming.iter().find(|(key, _)| Some(*key) == next) {
            return self.queued.iter().take_while(|queued| queued.at_ns <= *received_ns).count();
        }
        // Something else is next. It may lie before, between, or behind the others, but not before the head.
        let is_head = head.is_some() && self.queued.front().map(|first| first.key) == head;
        for queued in self.queued.iter_mut().skip(usize::from(is_head)) {
            queued.is_suspect = true;
        }
        usize::from(is_head)
    }

    /// So many more are gone, and a thread says that it has read one of all that are. Says whether that may be one that was gone
    /// before. `is_empty`: nothing is left in the queue.
    fn report(&mut self, gone: usize, is_empty: bool, time_ns: u64) -> bool {
        let is_over = self.is_shared && time_ns.saturating_sub(self.unreported_ns) > TAKEN_NS;
        let before = if is_over { 0 } else { self.unreported };
        let least = 0_isize.saturating_sub_unsigned(self.coming.len());
        self.unreported = before.saturating_add_unsigned(gone).saturating_sub(1).max(least);
        if is_empty && !self.is_shared && gone <= 1 {
            // It is the only one that takes any.
            self.unreported = 0;
        } else if gone > 0 {
            self.unreported_ns = time_ns;
        }
        before > 0
    }

    fn len(&self) -> usize {
        self.queued.len() + self.coming.len()
    }
}

/// In [`Datagrams::readers`], where several sockets have the same address and port.
const SEVERAL: u64 = 0;

/// Where the datagrams of a flow come to.
fn end(flow: Flow) -> (u32, Endpoint) {
    (flow.netns, flow.dst)
}

/// Calls and queues.
#[derive(Default)]
pub(super) struct Datagrams {
    calls: HashMap<u32, Call>,
    queues: HashMap<u64, Queue>,
    /// The socket that datagrams to an address and port in a namespace come to, 0 if there are several (`SO_REUSEPORT`).
    readers: HashMap<(u32, Endpoint), u64>,
    /// Datagrams in all queues.
    waiting: usize,
}

impl Datagrams {
    /// A process calls send on a UDP socket.
    pub(super) fn call(&mut self, record: &HopRecord, hop: Hop) {
        if self.calls.len() >= THREADS {
            self.calls.clear();
        }
        let to_peer = record.marks & MARK_TO_PEER != 0;
        let who = Who::thread(record.tgid, record.tid);
        let call = Call { sk: record.sk, len: record.len, who, to_peer, hop };
        self.calls.insert(record.tid, call);
    }

    /// Gives a datagram that its socket hands to the device layer the call that it comes from. Each call sends one, so it
    /// is used up: what the thread sends next without a call that was seen has none.
    pub(super) fn give(&mut self, record: &HopRecord, packet: &mut Packet) {
        if self.calls.is_empty() || record.sk == 0 {
            return;
        }
        let Some(call) = self.calls.get(&record.tid).copied().filter(|call| call.sk == record.sk) else {
            return;
        };
        self.calls.remove(&record.tid);
        let age = record.time_ns.checked_sub(call.hop.time_ns);
        if age.is_some_and(|age| age <= CALL_NS) && call.may_send(packet) {
            packet.sender = call.who;
            packet.to_peer = call.to_peer;
            packet.add(call.hop);
        }
    }

    /// Whether the datagrams of a flow are known to come to a socket.
    pub(super) fn are_read_by(&self, flow: Flow, sk: u64) -> bool {
        self.readers.get(&end(flow)) == Some(&sk)
    }

    /// A datagram of a flow has been received. If it is known whose flow that is, it comes into that socket's queue. Says
    /// whether it does.
    pub(super) fn received(&mut self, flow: Flow, packet: &Packet, key: PacketKey) -> bool {
        let queue = self.readers.get(&end(flow)).and_then(|sk| self.queues.get_mut(sk));
        if let Some(queue) = queue {
            queue.coming.push((key, packet.last_ns()));
            self.waiting += 1;
            return true;
        }
        false
    }

    /// A datagram of a flow is at the end of a socket's queue.
    pub(super) fn queued(
        &mut self,
        record: &HopRecord,
        flow: Option<Flow>,
        key: PacketKey,
        in_flight: &InFlight,
    ) {
        if self.queues.len() >= SOCKETS && !self.queues.contains_key(&record.sk)
            || self.waiting > 2 * in_flight.len() + SLACK
        {
            self.forget_ended(in_flight);
        }
        if let Some(flow) = flow {
            if self.readers.len() >= READERS {
                self.readers.clear();
            }
            let reader = self.readers.entry(end(flow)).or_insert(record.sk);
            if *reader != record.sk && self.queues.contains_key(reader) {
                *reader = SEVERAL;
            } else if *reader != SEVERAL {
                *reader = record.sk;
            }
        }
        let queue = self.queues.entry(record.sk).or_default();
        self.waiting -= queue.len();
        queue.coming.retain(|(other, _)| *other != key);
        queue.queued.push_back(Queued { key, at_ns: record.time_ns, is_suspect: false });
        self.waiting += queue.len();
    }

    /// A process has read from a socket, whose next datagram is `record.skb`: returns the one that it has read, if that can
    /// be told. Those that have gone without a read of theirs being seen go to `vanished`.
    ///
    /// A read takes the first datagram of the queue, so what it has taken is the one before the next. With none left, it is
    /// the only one that was there: what came after the read may have interrupted its record. Where two are gone at once,
    /// two threads have read, of which the other has not said so yet: its read may be said after one of a third datagram. If none that was seen in the queue is gone, it was taken before it was seen there: that may
    /// be the one that is coming, unless there are several, or the socket takes from others as well (`record.aux` is 0),
    /// or others may have come unseen, as records were lost.
    pub(super) fn read(
        &mut self,
        record: &HopRecord,
        vanished: &mut Vec<PacketKey>,
        in_flight: &InFlight,
        lost: LostUntil,
    ) -> Option<PacketKey> {
        let queue = self.queues.get_mut(&record.sk)?;
        let before = queue.len();
        queue.is_shared |= queue.reader.replace(record.tid).is_some_and(|reader| reader != record.tid);
        let was_known = queue.known_ns.is_some_and(|known_ns| !lost.is_after(known_ns));
        // Of what was lost threads may have taken some that they have not read yet.
        let may_lack =
            lost.is_after(record.time_ns.saturating_sub(TAKEN_NS).min(queue.known_ns.unwrap_or(0)));
        let head = queue.head.take();
        let gone = queue.gone(record, head, in_flight);
        let mut taken: Vec<Queued> = queue.queued.drain(..gone).collect();
        let was_there = |(_, received_ns): &(PacketKey, u64)| *received_ns <= record.time_ns;
        let may_be_coming = queue.coming.iter().any(was_there);
        if taken.is_empty() && was_known && record.aux == NO_STRANGERS {
            let coming = queue.coming.extract_if(.., |coming| was_there(coming));
            taken.extend(coming.map(|(key, at_ns)| Queued { key, at_ns, is_suspect: queue.is_shared }));
        } else if may_be_coming && queue.is_shared {
            for taken in &mut taken {
                taken.is_suspect = true;
            }
        }
        let is_empty = record.skb == 0;
        let may_be_earlier = queue.report(taken.len(), is_empty, record.time_ns);
        // A single reader has read what was in the queue before, and is not any more. Several may have taken it one after the other,
        // and where others come as well, it is not known which of them has read those.
        let is_unsure = may_be_earlier && (queue.is_shared || gone == 0);
        if is_unsure || queue.is_shared && (record.aux != NO_STRANGERS || may_lack) {
            for taken in &mut taken {
                taken.is_suspect = true;
            }
        }
        self.waiting -= before - queue.len();
        let is_its_length = |key| in_flight.get(key).is_none_or(|packet| record.seq == packet.len);
        match taken.as_slice() {
            [read] if !read.is_suspect && is_its_length(read.key) => Some(read.key),
            several => {
                vanished.extend(several.iter().map(|taken| taken.key));
                None
            }
        }
    }

    /// A datagram has ended otherwise, at about `now_ns`. `was_taken`: if it was not dropped, a thread has taken it, or will, and will
    /// say so.
    pub(super) fn forget(&mut self, flow: Option<Flow>, key: PacketKey, was_taken: bool, now_ns: u64) {
        let queue = flow.and_then(|flow| self.readers.get(&end(flow))).and_then(|sk| self.queues.get_mut(sk));
        let Some(queue) = queue else { return };
        let before = queue.len();
        queue.coming.retain(|(other, _)| *other != key);
        // What is given up is the oldest, what is dropped the newest.
        if queue.queued.front().is_some_and(|queued| queued.key == key) {
            queue.queued.pop_front();
        } else if let Some(at) = queue.queued.iter().rposition(|queued| queued.key == key) {
            queue.queued.remove(at);
        }
        let forgotten = before - queue.len();
        // What a read has shown to be gone is counted already.
        if was_taken && forgotten > 0 {
            queue.unreported = queue.unreported.saturating_add_unsigned(forgotten);
            queue.unreported_ns = queue.unreported_ns.max(now_ns);
        }
        self.waiting -= forgotten;
    }

    /// Forgets what has ended otherwise than by being read.
    fn forget_ended(&mut self, in_flight: &InFlight) {
        for queue in self.queues.values_mut() {
            queue.queued.retain(|queued| in_flight.get(queued.key).is_some());
            queue.coming.retain(|(key, _)| in_flight.get(*key).is_some());
        }
        // Of an empty one, that several threads read from it is worth knowing as long as there is room. (Another socket in the same
        // memory is taken for it, which only makes its datagrams doubtful.)
        self.queues.retain(|_, queue| queue.len() > 0 || queue.is_shared);
        if self.queues.len() >= SOCKETS / 2 {
            self.queues.retain(|_, queue| queue.len() > 0);
        }
        if self.queues.len() >= SOCKETS {
            self.queues.clear();
        }
        self.readers.retain(|_, sk| *sk == SEVERAL || self.queues.contains_key(sk));
        self.waiting = self.queues.values().map(Queue::len).sum();
    }

    /// The trace is over.
    pub(super) fn finish(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        let waiting = self.queues.values().map(Queue::len).sum::<usize>();
        assert_eq!(waiting, self.waiting);
        [self.calls.len(), self.queues.len(), waiting]
    }
}
