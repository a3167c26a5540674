//! UNIX sockets in small: threads that send and read at once, whose truth is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{collection::vec, prelude::*};
use tracer_common::{
    event::{MARK_NOTHING_QUEUED, MARK_TAKEN, UnixRecord},
    probes::Point,
};

use super::{
    super::kernel::{by_kprobes, empty_unix},
    packets::{assert_nothing_left, stretches, with_losses},
};
use crate::{
    correlate::{Correlator, Limits},
    decode::Record,
    model::{Incomplete, Path},
};

const STREAM: u8 = 1;
const DGRAM: u8 = 2;

/// What may happen beside sends and reads by one thread each.
#[allow(clippy::struct_excessive_bools, reason = "each may or may not happen")]
#[derive(Clone, Copy, Debug, Default)]
struct Odd {
    /// Several threads send on one socket, and several read datagrams.
    threads: bool,
    /// Calls come back without having sent anything.
    fails: bool,
    /// Readers peek.
    peeks: bool,
    /// Readers use splice.
    splices: bool,
    /// All `sk_buff`s have the same length.
    alike: bool,
    /// It cannot be told whether readers of streams peek (before 5.15).
    is_old: bool,
}

/// A message, as it truly was.
#[derive(Debug, Default)]
struct Truth {
    called: u64,
    len: u32,
    woken: Vec<u64>,
    copied: Vec<u64>,
    queued: bool,
}

#[derive(Clone, Copy, Debug)]
struct Skb {
    at: u64,
    message: usize,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
enum Sender {
    Queue { message: usize, skbs: u32 },
    Wake { message: usize, skbs: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Reader {
    /// Copies what it has taken off the queue.
    Copy(Skb),
    /// Takes what it has copied off the queue.
    Unlink,
    Free(Skb),
}

/// One sending socket, and what is at the other end of it.
#[derive(Debug, Default)]
struct Socket {
    kind: u8,
    queue: VecDeque<Skb>,
    /// `sk_buff`s that are anywhere.
    allocated: usize,
    /// Bytes of the first one that were read.
    consumed: u32,
    senders: [Option<Sender>; 2],
    readers: [Option<Reader>; 2],
}

#[derive(Debug)]
struct World {
    odd: Odd,
    now_ns: u64,
    records: Vec<Record>,
    truths: Vec<Truth>,
    sockets: Vec<Socket>,
    free: Vec<u64>,
    next_memory: u64,
}

impl World {
    fn of(odd: Odd, choices: &[u16]) -> Self {
        let socket = |kind| Socket { kind, ..Socket::default() };
        let mut world = Self {
            odd,
            now_ns: 1_000_000_000,
            records: Vec::new(),
            truths: Vec::new(),
            sockets: vec![socket(STREAM), socket(STREAM), socket(DGRAM)],
            free: Vec::new(),
            next_memory: 0x1000,
        };
        for choice in choices {
            let [low, high] = choice.to_le_bytes();
            let at = usize::from(low) % world.sockets.len();
            let thread = usize::from(low / 4) % 2;
            match high % 8 {
                0..=3 => world.send(at, thread, high),
                _ => world.read(at, thread, high),
            }
        }
        for at in 0..world.sockets.len() {
            for _ in 0..2000 {
                for thread in 0..2 {
                    if world.sockets[at].senders[thread].is_some() {
                        world.send(at, thread, 0);
                    }
                    world.read(at, thread, 0xf8);
                }
            }
        }
        world
    }

    fn emit(&mut self, record: UnixRecord) -> u64 {
        self.now_ns += 1;
        self.records.push(Record::Unix(UnixRecord { time_ns: self.now_ns, ..record }));
        self.now_ns
    }

    /// Bytes of each `sk_buff` of a message.
    fn len_of(&self, message: usize) -> u32 {
        3000 + if self.odd.alike { 0 } else { u32::try_from(message).unwrap() * 7 }
    }

    fn sk(at: usize) -> u64 {
        0x100 * (at as u64 + 1)
    }

    fn tid(at: usize, thread: usize, reads: bool) -> u32 {
        u32::try_from(100 * (at + 1) + 10 * usize::from(reads) + thread).unwrap()
    }

    /// The next step of a sending thread.
    fn send(&mut self, at: usize, thread: usize, choice: u8) {
        let thread = if self.odd.threads { thread } else { 0 };
        let tid = Self::tid(at, thread, false);
        let (sk, peer) = (Self::sk(at), Self::sk(at) + 1);
        let Socket { kind: socket_type, .. } = self.sockets[at];
        let base = UnixRecord { sk, peer, tid, socket_type, cpu: 0, ..empty_unix(Point::SockDefReadable, 0) };
        self.sockets[at].senders[thread] = match self.sockets[at].senders[thread] {
            None => {
                let message = self.truths.len();
                let skbs = if socket_type == STREAM { 1 + u32::from(choice / 8) % 3 } else { 1 };
                let len = skbs * self.len_of(message);
                let point =
                    if socket_type == STREAM { Point::UnixStreamSendmsg } else { Point::UnixDgramSendmsg };
                let marks = if self.sockets[at].allocated == 0 { MARK_NOTHING_QUEUED } else { 0 };
                let called = self.emit(UnixRecord { point: point as u8, len, marks, ..base });
                self.truths.push(Truth { called, len, ..Truth::default() });
                let fails = self.odd.fails && choice.is_multiple_of(3);
                (!fails).then_some(Sender::Queue { message, skbs })
            }
            Some(Sender::Queue { message, skbs }) => {
                let len = self.len_of(message);
                let memory = self.free.pop().unwrap_or_else(|| {
                    self.next_memory += 256;
                    self.next_memory
                });
                self.sockets[at].queue.push_back(Skb { at: memory, message, len });
                self.sockets[at].allocated += 1;
                self.truths[message].queued = true;
                Some(Sender::Wake { message, skbs })
            }
            Some(Sender::Wake { message, skbs }) => {
                let last = self.sockets[at].queue.back().copied();
                let woken = self.emit(UnixRecord {
                    sk: peer,
                    peer: last.map_or(0, |_| sk),
                    skb: last.map_or(0, |skb| skb.at),
                    len: last.map_or(0, |skb| skb.len),
                    tgid: 0,
                    ..base
                });
                self.truths[message].woken.push(woken);
                (skbs > 1).then_some(Sender::Queue { message, skbs: skbs - 1 })
            }
        };
    }

    fn copy(&mut self, at: usize, thread: usize, skb: Skb, (offset, len): (u32, u32)) {
        let socket_type = self.sockets[at].kind;
        let point = if socket_type == STREAM { Point::UnixStreamRecvmsg } else { Point::UnixDgramRecvmsg };
        let marks = if socket_type == STREAM && self.odd.is_old { 0 } else { MARK_TAKEN };
        let copied = self.emit(UnixRecord {
            marks,
            sk: Self::sk(at),
            skb: skb.at,
            offset,
            len,
            total: skb.len,
            socket_type,
            tid: Self::tid(at, thread, true),
            cpu: 1,
            ..empty_unix(point, 0)
        });
        self.truths[skb.message].copied.push(copied);
    }

    /// The next step of a reading thread.
    fn read(&mut self, at: usize, thread: usize, choice: u8) {
        let is_stream = self.sockets[at].kind == STREAM;
        // A lock keeps readers of a stream apart.
        let thread = if self.odd.threads && !is_stream { thread } else { 0 };
        let first = self.sockets[at].queue.front().copied();
        let peeks = self.odd.peeks && choice.is_multiple_of(5);
        let splices = self.odd.splices && choice.is_multiple_of(7);
        self.sockets[at].readers[thread] = match (self.sockets[at].readers[thread], first) {
            (None, None) => None,
            (None, Some(skb)) if splices && is_stream => {
                self.sockets[at].queue.pop_front();
                self.sockets[at].consumed = 0;
                Some(Reader::Free(skb))
            }
            (None, Some(_)) if is_stream && peeks && !self.odd.is_old => None,
            (None, Some(skb)) if is_stream => {
                let from = self.sockets[at].consumed;
                let part = if choice & 0x80 == 0 { (skb.len - from).min(1700) } else { skb.len - from };
                self.copy(at, thread, skb, (from, part));
                if peeks {
                    return;
                }
                self.sockets[at].consumed += part;
                (from + part == skb.len).then_some(Reader::Unlink)
            }
            // The kernel side sees that the datagram is still in its queue, and writes nothing.
            (None, Some(_)) if peeks => None,
            (None, Some(skb)) => {
                self.sockets[at].queue.pop_front();
                Some(Reader::Copy(skb))
            }
            (Some(Reader::Copy(skb)), _) => {
                self.copy(at, thread, skb, (0, skb.len));
                Some(Reader::Free(skb))
            }
            (Some(Reader::Unlink), _) => {
                self.sockets[at].consumed = 0;
                self.sockets[at].queue.pop_front().map(Reader::Free)
            }
            (Some(Reader::Free(skb)), _) => {
                self.free.push(skb.at);
                self.sockets[at].allocated -= 1;
                None
            }
        };
    }
}

fn correlate(records: &[Record]) -> Vec<Path> {
    let mut correlator = Correlator::new(by_kprobes(), Limits::default());
    for record in records {
        correlator.record(record);
    }
    correlator.finish();
    assert_nothing_left(&correlator);
    correlator.drain().collect()
}

/// Whose a hop is, by its time.
fn owners(world: &World) -> BTreeMap<u64, usize> {
    let mut owners = BTreeMap::new();
    for (message, truth) in world.truths.iter().enumerate() {
        for time in [truth.called].iter().chain(&truth.woken).chain(&truth.copied) {
            owners.insert(*time, message);
        }
    }
    owners
}

/// Each path is of one message, and each message has at most one path.
fn assert_nothing_joined(world: &World, paths: &[Path]) {
    let owners = owners(world);
    let mut shown = BTreeSet::new();
    for path in paths {
        assert!(path.hops.is_sorted_by_key(|hop| hop.time_ns));
        let of: BTreeSet<usize> = path.hops.iter().map(|hop| owners[&hop.time_ns]).collect();
        assert_eq!(of.len(), 1, "hops of several messages: {path:#?}");
        let message = *of.first().unwrap();
        assert_eq!(path.hops[0].time_ns, world.truths[message].called);
        assert!(shown.insert(message), "two paths: {path:#?}");
    }
}

proptest! {
    #[test]
    fn every_message_has_its_path(
        choices in vec(any::<u16>(), 0..400),
        fails: bool,
        (alike, is_old) in prop_oneof![Just((false, false)), Just((false, true)), Just((true, false))],
    ) {
        let world = World::of(Odd { fails, alike, is_old, ..Odd::default() }, &choices);
        let paths = correlate(&world.records);
        assert_nothing_joined(&world, &paths);
        let owners = owners(&world);
        let mut queued = 0;
        for path in &paths {
            let truth = &world.truths[owners[&path.hops[0].time_ns]];
            if !truth.queued {
                // Nobody has seen yet that the call has come back, or what was read may have been its data.
                let reason = path.incomplete;
                prop_assert!(matches!(reason, Some(Incomplete::CallFailed | Incomplete::Entangled)), "{:?}", reason);
                continue;
            }
            queued += 1;
            // What is read before its wake-up, where something else was read a moment ago.
            if path.incomplete == Some(Incomplete::Entangled) {
                continue;
            }
            let mut times = vec![truth.called, truth.woken[0], *truth.copied.last().unwrap()];
            times.sort_unstable();
            prop_assert_eq!(path.incomplete, None);
            prop_assert!(path.hops.iter().map(|hop| hop.time_ns).eq(times), "{:#?} {:#?}", path, truth);
            prop_assert_eq!(path.len, truth.len);
        }
        prop_assert_eq!(queued, world.truths.iter().filter(|truth| truth.queued).count());
    }

    #[test]
    fn nothing_odd_joins_messages(
        choices in vec(any::<u16>(), 0..400),
        (threads, fails, peeks, splices) in any::<(bool, bool, bool, bool)>(),
        (alike, is_old) in any::<(bool, bool)>(),
    ) {
        // Splice is not seen, so what lies in the memory of what was read by it, and is as long, is taken for that.
        let alike = alike && !splices;
        let world = World::of(Odd { threads, fails, peeks, splices, alike, is_old }, &choices);
        let paths = correlate(&world.records);
        assert_nothing_joined(&world, &paths);
        // None that was queued is missing.
        prop_assert!(paths.len() >= world.truths.iter().filter(|truth| truth.queued).count());
    }

    #[test]
    fn where_losses_are_said_what_is_whole_is_true(
        choices in vec(any::<u16>(), 0..400),
        (fails, alike, is_old) in any::<(bool, bool, bool)>(),
        stretches in stretches(),
        batch in 1usize..40,
    ) {
        let world = World::of(Odd { fails, alike, is_old, ..Odd::default() }, &choices);
        let paths = correlate(&with_losses(&world.records, &stretches, batch));
        let owners = owners(&world);
        for path in paths.iter().filter(|path| path.incomplete.is_none()) {
            let truth = &world.truths[owners[&path.hops[0].time_ns]];
            let mut times = vec![truth.called, truth.woken[0], *truth.copied.last().unwrap()];
            times.sort_unstable();
            prop_assert!(path.hops.iter().map(|hop| hop.time_ns).eq(times), "{:#?} {:#?}", path, truth);
            prop_assert_eq!(path.len, truth.len);
        }
    }

    #[test]
    fn a_lost_record_joins_and_hides_nothing(
        choices in vec(any::<u16>(), 0..300),
        lost in any::<prop::sample::Index>(),
        repeated in vec(any::<prop::sample::Index>(), 0..5),
        (threads, peeks, is_old) in any::<(bool, bool, bool)>(),
    ) {
        // A call that fails, and one that is lost, look like one; and so do a call that is lost and one of another thread
        // at the same time, on a stream; and so do a part of a message of which the rest was read by splice, and another
        // one whose wake-up is lost.
        let world = World::of(Odd { threads, peeks, is_old, ..Odd::default() }, &choices);
        let mut records = world.records.clone();
        let mut without = None;
        if !records.is_empty() {
            let at = lost.index(records.len());
            let Record::Unix(record) = records[at] else { unreachable!() };
            if !threads || record.point != Point::UnixStreamSendmsg as u8 {
                records.remove(at);
                without = owners(&world).get(&record.time_ns).copied();
            }
        }
        for repeated in repeated {
            if !records.is_empty() {
                let at = repeated.index(records.len());
                records.insert(at, records[at].clone());
            }
        }
        let paths = correlate(&records);
        let owners = owners(&world);
        let shown: BTreeSet<usize> = paths.iter().map(|path| owners[&path.hops[0].time_ns]).collect();
        for (message, truth) in world.truths.iter().enumerate() {
            prop_assert!(!truth.queued || shown.contains(&message) || without == Some(message));
        }
        for path in &paths {
            let of: BTreeSet<usize> = path.hops.iter().map(|hop| owners[&hop.time_ns]).collect();
            prop_assert_eq!(of.len(), 1, "hops of several messages: {:#?}", path);
        }
    }
}

#[test]
fn most_messages_are_followed_to_their_read() {
    let choices: Vec<u16> = (0..5000u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 16) as u16).collect();
    let world = World::of(Odd::default(), &choices);
    let paths = correlate(&world.records);
    let whole = paths.iter().filter(|path| path.incomplete.is_none()).count();
    assert!(paths.len() > 200 && whole * 10 >= paths.len() * 8, "{whole} of {}", paths.len());
}
