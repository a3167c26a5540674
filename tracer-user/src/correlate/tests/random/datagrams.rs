//! UDP sockets in small: senders, queues, readers, whose truth is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{collection::vec, prelude::*};
use tracer_common::{
    event::HopRecord,
    probes::{Backend, Point},
};

use super::{
    super::kernel::{NETNS, Skb, by_kprobes, by_tracepoints, empty, flow_record, seen},
    packets::{assert_nothing_left, stretches, with_losses},
};
use crate::{
    correlate::{Correlator, Limits},
    decode::Record,
    model::Path,
};

/// Of the flow to receiver `n`: `FLOW + n`.
const FLOW: u64 = 40;
const RECEIVERS: usize = 2;
const SENDERS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Sender {
    Called { to: usize, datagram: usize },
    Queued { to: usize },
}

#[derive(Debug, Default)]
struct Receiver {
    /// Datagrams, `None` for those that are not wanted.
    queue: VecDeque<(u64, Option<usize>)>,
    /// What each reader has taken.
    readers: [Option<(u64, Option<usize>)>; 2],
}

/// What happens in a world.
#[derive(Clone, Debug)]
struct Setting {
    /// Reads do not name their datagram.
    is_traced: bool,
    /// Datagrams come that are not wanted.
    strangers: bool,
    /// Threads that read, for each socket.
    readers: usize,
    choices: Vec<u16>,
}

prop_compose! {
    fn settings()(
        is_traced: bool,
        strangers: bool,
        readers in 1usize..3,
        choices in vec(any::<u16>(), 0..300),
    ) -> Setting {
        Setting { is_traced, strangers, readers, choices }
    }
}

#[derive(Debug)]
struct World {
    is_traced: bool,
    strangers: bool,
    /// How many datagrams until there is one as long as the first.
    lengths: usize,
    now_ns: u64,
    records: Vec<HopRecord>,
    /// How many of them are of the readers' first reads.
    introduction: usize,
    /// The times of each datagram's hops, the last one that of its read.
    truths: Vec<Vec<u64>>,
    /// The times of wake-ups for a datagram that was woken for before.
    woken_again: BTreeSet<u64>,
    skbs: Vec<Skb>,
    senders: [Option<Sender>; SENDERS],
    receivers: Vec<Receiver>,
    free: Vec<u64>,
    next_memory: u64,
}

impl World {
    fn of(setting: &Setting) -> Self {
        // Each is unlike all others.
        Self::with_lengths(usize::MAX, setting)
    }

    fn with_lengths(lengths: usize, setting: &Setting) -> Self {
        let &Setting { is_traced, strangers, readers, ref choices } = setting;
        let mut world = Self {
            is_traced,
            strangers,
            lengths,
            now_ns: 1_000_000_000,
            records: Vec::new(),
            introduction: 0,
            truths: Vec::new(),
            woken_again: BTreeSet::new(),
            skbs: Vec::new(),
            senders: [None; SENDERS],
            receivers: (0..RECEIVERS).map(|_| Receiver::default()).collect(),
            free: Vec::new(),
            next_memory: 0x1000,
        };
        // Before a second reader is seen to read, what it takes may be taken for what the first reads. So each reads one by itself.
        for to in 0..if readers > 1 && lengths < usize::MAX { RECEIVERS } else { 0 } {
            for reader in 0..readers {
                world.send(0, to, 1);
                world.send(0, to, 1);
                world.read(to, reader);
                world.read(to, reader);
            }
        }
        world.introduction = world.records.len();
        for choice in choices {
            let [low, high] = choice.to_le_bytes();
            let to = usize::from(low) % RECEIVERS;
            match high % 4 {
                0 | 1 => world.send(usize::from(low / 2) % SENDERS, to, high),
                _ => world.read(to, usize::from(low / 2) % readers),
            }
        }
        for sender in 0..SENDERS {
            while world.senders[sender].is_some() {
                world.send(sender, 0, 1);
            }
        }
        for to in 0..RECEIVERS {
            for _ in 0..1000 {
                for reader in 0..readers {
                    world.read(to, reader);
                }
            }
        }
        world
    }

    fn emit(&mut self, record: HopRecord) -> u64 {
        self.now_ns += 1;
        let backend = if self.is_traced { Backend::Tracepoint } else { Backend::Kprobe };
        self.records.push(HopRecord { time_ns: self.now_ns, backend: backend as u8, ..record });
        self.now_ns
    }

    fn memory(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.next_memory += 256;
            self.next_memory
        })
    }

    fn send(&mut self, sender: usize, to: usize, choice: u8) {
        let tid = 100 + u32::try_from(sender).unwrap();
        let sk = 0x5000 + sender as u64;
        self.senders[sender] = match self.senders[sender] {
            None if self.strangers && choice.is_multiple_of(8) => {
                let at = self.memory();
                self.receivers[to].queue.push_back((at, None));
                None
            }
            None => {
                let datagram = self.truths.len();
                let len = 10 + u32::try_from(datagram % self.lengths).unwrap();
                let time = self.emit(HopRecord { sk, tid, len, ..empty(Point::UdpSendmsg, 0) });
                self.truths.push(vec![time]);
                self.skbs.push(Skb { len, ..super::super::kernel::datagram(0, FLOW + to as u64, len) });
                Some(Sender::Called { to, datagram })
            }
            Some(Sender::Called { to, datagram }) => {
                self.skbs[datagram].at = self.memory();
                let skb = self.skbs[datagram];
                let cpu = u16::try_from(sender).unwrap();
                for point in [
                    Point::DevQueueXmit,
                    Point::LoopbackXmit,
                    Point::EnqueueToBacklog,
                    Point::NetifReceiveSkb,
                ] {
                    let time = self.emit(HopRecord { sk, tid, ..seen(point, 0, cpu, skb) });
                    self.truths[datagram].push(time);
                }
                if !self.is_traced {
                    let time = self.emit(seen(Point::UdpRcv, 0, cpu, skb));
                    self.truths[datagram].push(time);
                }
                self.receivers[to].queue.push_back((skb.at, Some(datagram)));
                // Others come between but rarely.
                if choice.is_multiple_of(16) {
                    Some(Sender::Queued { to })
                } else {
                    self.wake(sender, to);
                    None
                }
            }
            Some(Sender::Queued { to }) => {
                self.wake(sender, to);
                None
            }
        };
    }

    /// The last one in the queue is seen, whosever it is; nothing of what is not wanted.
    fn wake(&mut self, sender: usize, to: usize) {
        let Receiver { queue, .. } = &self.receivers[to];
        if let Some((_, Some(last))) = queue.back().copied() {
            let cpu = u16::try_from(sender).unwrap();
            let record = seen(Point::SockDefReadable, 0, cpu, self.skbs[last]);
            let time = self.emit(HopRecord { sk: 0x6000 + to as u64, ..record });
            let received = if self.is_traced { 5 } else { 6 };
            if self.truths[last].len() > received {
                self.woken_again.insert(time);
            }
            self.truths[last].push(time);
        }
    }

    fn read(&mut self, to: usize, reader: usize) {
        let sk = 0x6000 + to as u64;
        let tid = 200 + u32::try_from(10 * to + reader).unwrap();
        let aux = u32::from(!self.strangers);
        let base = HopRecord { sk, tid, aux, ..empty(Point::UdpRecvmsg, 0) };
        if let Some((_, datagram)) = self.receivers[to].readers[reader].take() {
            if self.is_traced {
                let len = datagram.map_or(5, |datagram| self.skbs[datagram].len);
                let next = self.receivers[to].queue.front().map_or(0, |(at, _)| *at);
                let time = self.emit(HopRecord { skb: next, seq: len, ..base });
                if let Some(datagram) = datagram {
                    self.truths[datagram].push(time);
                }
            }
            return;
        }
        let Some((at, datagram)) = self.receivers[to].queue.pop_front() else { return };
        if let Some(datagram) = datagram.filter(|_| !self.is_traced) {
            let record = seen(Point::UdpRecvmsg, 0, 2, self.skbs[datagram]);
            let time = self.emit(HopRecord { sk, tid, ..record });
            self.truths[datagram].push(time);
        }
        self.free.push(at);
        self.receivers[to].readers[reader] = Some((at, datagram));
    }
}

fn correlate(is_traced: bool, hops: &[HopRecord]) -> Vec<Path> {
    correlate_records(is_traced, &hops.iter().copied().map(Record::Hop).collect::<Vec<_>>())
}

fn correlate_records(is_traced: bool, records: &[Record]) -> Vec<Path> {
    let coverage = if is_traced { by_tracepoints() } else { by_kprobes() };
    let mut correlator = Correlator::new(coverage, Limits::default());
    for to in 0..RECEIVERS {
        let server = format!("127.0.0.1:{}", 9000 + to);
        let flow = flow_record(FLOW + to as u64, 17, "127.0.0.1:40000", &server, NETNS);
        correlator.record(&Record::Flow(flow));
    }
    for record in records {
        correlator.record(record);
    }
    correlator.finish();
    assert_nothing_left(&correlator);
    correlator.drain().collect()
}

fn owners(world: &World) -> BTreeMap<u64, usize> {
    let of = |(datagram, times): (usize, &Vec<u64>)| {
        times.iter().map(move |time| (*time, datagram)).collect::<Vec<_>>()
    };
    world.truths.iter().enumerate().flat_map(of).collect()
}

fn assert_nothing_joined(world: &World, paths: &[Path]) {
    let owners = owners(world);
    for path in paths {
        assert!(path.hops.is_sorted_by_key(|hop| hop.time_ns));
        let of: BTreeSet<usize> = path.hops.iter().map(|hop| owners[&hop.time_ns]).collect();
        assert_eq!(of.len(), 1, "hops of several datagrams: {path:#?}");
    }
}

proptest! {
    #[test]
    fn every_datagram_has_its_path(setting in settings()) {
        let setting = Setting { readers: 1, strangers: false, ..setting };
        let is_traced = setting.is_traced;
        let world = World::of(&setting);
        let paths = correlate(is_traced, &world.records);
        assert_nothing_joined(&world, &paths);
        prop_assert_eq!(paths.len(), world.truths.len());
        let owners = owners(&world);
        for path in &paths {
            let truth = &world.truths[owners[&path.hops[0].time_ns]];
            prop_assert_eq!(path.hops[0].time_ns, truth[0], "its call");
            if !is_traced {
                prop_assert_eq!(path.incomplete, None);
                prop_assert_eq!(path.hops.last().unwrap().time_ns, *truth.iter().max().unwrap());
            }
        }
    }

    #[test]
    fn datagrams_of_one_length_are_told_apart(setting in settings()) {
        let world = World::with_lengths(1, &setting);
        assert_nothing_joined(&world, &correlate(setting.is_traced, &world.records));
    }

    #[test]
    fn where_losses_are_said_what_is_whole_is_true(
        setting in settings(),
        stretches in stretches(),
        batch in 1usize..40,
        lengths in 1usize..3,
    ) {
        // Whose datagrams the readers take nobody knows then.
        let lengths = if setting.strangers && setting.readers > 1 { usize::MAX } else { lengths };
        let world = World::with_lengths(lengths, &setting);
        let mut records: Vec<Record> = world.records.iter().copied().map(Record::Hop).collect();
        let rest = records.split_off(world.introduction);
        records.extend(with_losses(&rest, &stretches, batch));
        let paths = correlate_records(setting.is_traced, &records);
        let mut truths = world.truths.clone();
        for times in &mut truths {
            times.retain(|time| !world.woken_again.contains(time));
            times.sort_unstable();
        }
        for path in paths.iter().filter(|path| path.incomplete.is_none()) {
            let times: Vec<u64> = path.hops.iter().map(|hop| hop.time_ns).collect();
            let truth = truths.iter().find(|truth| truth.contains(&times[0]));
            prop_assert_eq!(Some(&times), truth);
        }
    }

    #[test]
    fn readers_strangers_and_losses_join_and_hide_nothing(
        setting in settings(),
        lost in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        // What is lost and not said is told by lengths.
        let world = World::of(&setting);
        let mut records = world.records.clone();
        for lost in lost {
            if !records.is_empty() {
                records.remove(lost.index(records.len()));
            }
        }
        let paths = correlate(setting.is_traced, &records);
        assert_nothing_joined(&world, &paths);
        let owners = owners(&world);
        let shown: BTreeSet<usize> = paths.iter().map(|path| owners[&path.hops[0].time_ns]).collect();
        for record in records.iter().filter(|record| record.point == Point::DevQueueXmit as u8) {
            prop_assert!(shown.contains(&owners[&record.time_ns]), "not shown: {record:#?}");
        }
    }
}

#[test]
fn most_datagrams_are_followed_to_their_read() {
    let choices: Vec<u16> = (0..3000u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 16) as u16).collect();
    for is_traced in [false, true] {
        let setting = Setting { is_traced, strangers: false, readers: 1, choices: choices.clone() };
        let world = World::of(&setting);
        let paths = correlate(is_traced, &world.records);
        let whole = paths.iter().filter(|path| path.incomplete.is_none()).count();
        assert!(
            paths.len() > 200 && whole * 10 >= paths.len() * 8,
            "{whole} of {} {:?}",
            paths.len(),
            paths.iter().filter_map(|path| path.incomplete).fold(
                BTreeMap::new(),
                |mut all: BTreeMap<_, usize>, why| {
                    *all.entry(why).or_default() += 1;
                    all
                }
            )
        );
    }
}
