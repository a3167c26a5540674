//! Random traffic of which the truth is known, as it is and damaged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::{collection::vec, prelude::*};
use tracer_common::{
    event::{FlowRecord, HopRecord},
    probes::{Backend, Point},
};

use super::kernel::{
    ACK, FIN, LO, NETNS, PSH, RST, SYN, Skb, TID, by_kprobes, empty, flow_record, hops, seen,
};
use crate::{
    correlate::{Correlator, Limits},
    decode::{Record, decode},
    model::{Hop, Path},
};

const CPUS: usize = 3;
const CONNECTIONS: usize = 3;
/// Numbers of connection `n`'s flows: `10 * n + 1` there, `+ 2` back, `+ 3` a question with open ends, `+ 4` and `+ 5`
/// questions with all ends.
fn number(connection: usize, kind: u64) -> u64 {
    10 * (connection as u64 + 1) + kind
}

/// A packet's way, as it truly was.
#[derive(Debug, Default)]
struct Truth {
    hops: Vec<(Point, u64)>,
    woken: bool,
    read: bool,
}

/// One direction of a connection.
#[derive(Debug)]
struct Direction {
    flow: u64,
    next_seq: u32,
    rcv_nxt: u32,
    copied: u32,
    /// Received beyond `rcv_nxt`.
    early: BTreeSet<(u32, u32)>,
    /// Packets received and not read: end of data, packet.
    unread: Vec<(u32, usize)>,
}

/// What a CPU still has to do, before anything else.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask {
        packet: usize,
        number: u64,
    },
    Pass {
        point: Point,
        packet: usize,
    },
    /// The device layer cuts a packet into segments.
    Cut {
        whole: usize,
    },
    Free {
        at: u64,
    },
    Queue {
        packet: usize,
    },
    Receive {
        packet: usize,
    },
    Transport {
        packet: usize,
    },
    Wake {
        connection: usize,
        back: bool,
    },
}

#[derive(Debug, Default)]
struct Cpu {
    steps: VecDeque<Step>,
    backlog: VecDeque<usize>,
    marked: bool,
    polling: bool,
    poll_ns: Option<u64>,
    steps_of_softirq: VecDeque<Step>,
}

/// A kernel in small: connections over loopback on a few CPUs, one thread on each, with memory that is used again as
/// soon as it is free.
#[derive(Debug)]
struct World {
    now_ns: u64,
    records: Vec<HopRecord>,
    truths: Vec<Truth>,
    skbs: Vec<Skb>,
    /// Packets that were cut into others.
    wholes: BTreeSet<usize>,
    connections: Vec<[Direction; 2]>,
    cpus: Vec<Cpu>,
    free: Vec<u64>,
    next_memory: u64,
    /// Whether segments are sent again with the same header.
    repeats: bool,
}

fn flows() -> Vec<FlowRecord> {
    let mut flows = Vec::new();
    for connection in 0..CONNECTIONS {
        let (client, server) = (format!("127.0.0.1:{}", 50_000 + connection), "127.0.0.1:8888");
        let open = "0.0.0.0:0";
        for (kind, src, dst, netns) in [
            (1, &*client, server, NETNS),
            (2, server, &*client, NETNS),
            (3, open, server, 0),
            (4, &*client, server, 0),
            (5, server, &*client, 0),
        ] {
            flows.push(flow_record(number(connection, kind), 6, src, dst, netns));
        }
    }
    flows
}

impl World {
    fn new(isn: u32, repeats: bool) -> Self {
        let direction = |flow| Direction {
            flow,
            next_seq: isn,
            rcv_nxt: isn,
            copied: isn,
            early: BTreeSet::new(),
            unread: Vec::new(),
        };
        Self {
            now_ns: 1_000_000_000,
            records: Vec::new(),
            truths: Vec::new(),
            skbs: Vec::new(),
            wholes: BTreeSet::new(),
            connections: (0..CONNECTIONS)
                .map(|at| [direction(number(at, 1)), direction(number(at, 2))])
                .collect(),
            cpus: (0..CPUS).map(|_| Cpu::default()).collect(),
            free: Vec::new(),
            next_memory: 0xffff_0000,
            repeats,
        }
    }

    /// Makes traffic out of numbers, and lets all of it arrive and be read.
    fn of(isn: u32, repeats: bool, choices: &[u16]) -> Self {
        let mut world = Self::new(isn, repeats);
        for connection in 0..CONNECTIONS {
            world.connect(0, connection);
            while world.step(0) || world.poll(0) {}
        }
        for choice in choices {
            world.act(*choice);
        }
        for cpu in 0..CPUS {
            while world.step(cpu) || world.poll(cpu) {}
        }
        for connection in 0..CONNECTIONS {
            for back in [false, true] {
                world.read(0, connection, back, u32::MAX);
            }
        }
        world
    }

    fn act(&mut self, choice: u16) {
        let [low, high] = choice.to_le_bytes();
        let cpu = usize::from(low) % CPUS;
        let connection = usize::from(low / 4) % CONNECTIONS;
        let back = low & 128 != 0;
        self.now_ns += 1 + u64::from(high);
        match high % 16 {
            0..=7 => {
                self.step(cpu);
            }
            // Memory and threads are such that only an idle CPU takes up something new.
            _ if !self.cpus[cpu].steps.is_empty() => {
                self.step(cpu);
            }
            8 | 9 => {
                self.poll(cpu);
            }
            10..=12 => self.send_data(cpu, connection, back, 1 + u32::from(high) * 7),
            13 => {
                let flags = [ACK, FIN | ACK, RST | ACK][usize::from(low / 64) % 3];
                self.send_control(cpu, connection, back, flags);
            }
            14 => self.connect(cpu, connection),
            _ => self.read(cpu, connection, back, 1 + u32::from(high) * 5),
        }
    }

    fn emit(&mut self, record: HopRecord) -> u64 {
        self.now_ns += 1;
        self.records.push(HopRecord { time_ns: self.now_ns, ..record });
        self.now_ns
    }

    fn memory(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.next_memory += 256;
            self.next_memory
        })
    }

    fn new_packet(&mut self, flow: u64, flags: u8, seq: u32, len: u32) -> usize {
        let at = self.memory();
        // The acknowledgement number makes each header unlike all others, unless it is to be the same.
        let ack = if self.repeats { 7 } else { u32::try_from(self.skbs.len()).unwrap() };
        self.skbs.push(Skb { at, flow, flags, seq, ack, len, ifindex: LO });
        self.truths.push(Truth::default());
        self.skbs.len() - 1
    }

    fn steps_of(packet: usize, with_socket: bool) -> impl Iterator<Item = Step> {
        let points = [Point::IpQueueXmit, Point::DevQueueXmit, Point::LoopbackXmit];
        points
            .into_iter()
            .skip(usize::from(!with_socket))
            .map(move |point| Step::Pass { point, packet })
            .chain([Step::Queue { packet }])
    }

    /// Whether a packet of the flow is being sent: its socket is locked.
    fn is_locked(&self, flow: u64) -> bool {
        self.cpus.iter().flat_map(|cpu| &cpu.steps).any(|step| match step {
            Step::Pass { packet, .. } | Step::Queue { packet } | Step::Cut { whole: packet } => {
                self.skbs[*packet].flow == flow
            }
            _ => false,
        })
    }

    fn send_data(&mut self, cpu: usize, connection: usize, back: bool, len: u32) {
        if self.is_locked(number(connection, 1 + u64::from(back))) {
            return;
        }
        let direction = &mut self.connections[connection][usize::from(back)];
        let again = self.repeats && len.is_multiple_of(5) && direction.next_seq != direction.copied;
        let (flow, seq) = (direction.flow, direction.next_seq);
        let (seq, len) = if again { (seq.wrapping_sub(1), 1) } else { (seq, len) };
        direction.next_seq = seq.wrapping_add(len);
        let packet = self.new_packet(flow, PSH | ACK, seq, len);
        self.cpus[cpu].steps.extend(Self::steps_of(packet, true));
        if len > 1000 {
            let steps = &mut self.cpus[cpu].steps;
            steps.truncate(steps.len() - 2);
            steps.push_back(Step::Cut { whole: packet });
        }
    }

    /// The segments of a packet, which has no memory any more and is no packet by itself.
    fn cut(&mut self, cpu: usize, whole: usize) {
        let Skb { at, flow, seq, ack, len, .. } = self.skbs[whole];
        self.wholes.insert(whole);
        let hops = self.truths[whole].hops.clone();
        let mut from = 0;
        let mut steps = Vec::new();
        while from < len {
            let part = (len - from).min(400 + len % 300);
            let flags = if from + part == len { PSH | ACK } else { ACK };
            let packet = self.new_packet(flow, flags, seq.wrapping_add(from), part);
            self.skbs[packet].ack = ack;
            self.truths[packet].hops.clone_from(&hops);
            steps.extend([Step::Pass { point: Point::LoopbackXmit, packet }, Step::Queue { packet }]);
            from += part;
        }
        // The memory belongs to a pair of which the other half waits for the acknowledgement.
        steps.push(Step::Free { at });
        for step in steps.into_iter().rev() {
            self.cpus[cpu].steps.push_front(step);
        }
    }

    fn send_control(&mut self, cpu: usize, connection: usize, back: bool, flags: u8) {
        let Direction { flow, next_seq, .. } = self.connections[connection][usize::from(back)];
        let packet = self.new_packet(flow, flags, next_seq, 0);
        let with_socket = flags & RST == 0;
        if !with_socket {
            let number = number(connection, if back { 5 } else { 4 });
            self.cpus[cpu].steps.push_back(Step::Ask { packet, number });
        }
        self.cpus[cpu].steps.extend(Self::steps_of(packet, with_socket));
    }

    /// A SYN with its questions. After the first it is one that is sent again: its number is always the same.
    fn connect(&mut self, cpu: usize, connection: usize) {
        let packet = self.new_packet(number(connection, 1), SYN, 5, 0);
        let questions = [number(connection, 3), number(connection, 4)];
        let questions = questions.into_iter().map(|number| Step::Ask { packet, number });
        self.cpus[cpu].steps.extend(questions.chain(Self::steps_of(packet, true)));
    }

    /// The softirq takes packets off a backlog.
    fn poll(&mut self, cpu: usize) -> bool {
        if self.cpus[cpu].polling || self.cpus[cpu].backlog.is_empty() {
            return false;
        }
        self.cpus[cpu].polling = true;
        if std::mem::take(&mut self.cpus[cpu].marked) {
            let number = u32::try_from(cpu).unwrap();
            let tid = TID + number;
            let record = HopRecord { cpu: number, aux: number, tid, ..empty(Point::ProcessBacklog, 0) };
            self.cpus[cpu].poll_ns = Some(self.emit(record));
        }
        true
    }

    /// The CPU does the next thing that it has to do; `false` if there is none. Softirqs run before all else.
    fn step(&mut self, cpu: usize) -> bool {
        let next = self.cpus[cpu].steps_of_softirq.pop_front();
        if let Some(step) = next {
            self.perform(cpu, step);
            return true;
        }
        if self.cpus[cpu].polling {
            if let Some(packet) = self.cpus[cpu].backlog.pop_front() {
                self.perform(cpu, Step::Receive { packet });
                self.cpus[cpu].steps_of_softirq.push_back(Step::Transport { packet });
                return true;
            }
            self.cpus[cpu].polling = false;
        }
        let next = self.cpus[cpu].steps.pop_front();
        next.map(|step| self.perform(cpu, step)).is_some()
    }

    fn pass(&mut self, cpu: usize, point: Point, packet: usize) -> u64 {
        let record = seen(point, 0, u32::try_from(cpu).unwrap(), self.skbs[packet]);
        let time = self.emit(record);
        self.truths[packet].hops.push((point, time));
        time
    }

    fn perform(&mut self, cpu: usize, step: Step) {
        let tid = TID + u32::try_from(cpu).unwrap();
        match step {
            Step::Ask { packet, number } => {
                let cpu = u32::try_from(cpu).unwrap();
                let record = HopRecord { flow: number, aux: 255, tid, cpu, ..empty(Point::FibLookup, 0) };
                let time = self.emit(record);
                self.truths[packet].hops.push((Point::FibLookup, time));
            }
            Step::Pass { point, packet } => {
                self.pass(cpu, point, packet);
            }
            Step::Cut { whole } => self.cut(cpu, whole),
            Step::Free { at } => self.free.push(at),
            Step::Queue { packet } => {
                self.pass(cpu, Point::EnqueueToBacklog, packet);
                self.cpus[cpu].backlog.push_back(packet);
                self.cpus[cpu].marked = true;
            }
            Step::Receive { packet } => {
                let queued = self.truths[packet].hops.last().unwrap().1;
                if let Some(polled) = self.cpus[cpu].poll_ns.filter(|polled| *polled > queued) {
                    self.truths[packet].hops.push((Point::ProcessBacklog, polled));
                }
                self.pass(cpu, Point::NetifReceiveSkb, packet);
            }
            Step::Transport { packet } => {
                self.pass(cpu, Point::TcpV4Rcv, packet);
                self.arrive(cpu, packet);
            }
            Step::Wake { connection, back } => self.wake(cpu, connection, back),
        }
    }

    fn arrive(&mut self, cpu: usize, packet: usize) {
        let skb = self.skbs[packet];
        let connection = usize::try_from(skb.flow / 10 - 1).unwrap();
        let back = skb.flow % 10 == 2;
        self.free.push(skb.at);
        if skb.flags == SYN {
            // Answered at once, in the softirq.
            let answer = self.new_packet(number(connection, 2), SYN | ACK, 6, 0);
            let steps = &mut self.cpus[cpu].steps_of_softirq;
            steps.push_back(Step::Ask { packet: answer, number: number(connection, 5) });
            steps.extend(Self::steps_of(answer, false));
        }
        if skb.len == 0 {
            return;
        }
        let direction = &mut self.connections[connection][usize::from(back)];
        let end = skb.end();
        if end.wrapping_sub(direction.copied).cast_signed() <= 0 {
            return;
        }
        direction.unread.push((end, packet));
        direction.early.insert((skb.seq, end));
        let before = direction.rcv_nxt;
        while let Some(next) = direction
            .early
            .iter()
            .find(|(seq, end)| {
                seq.wrapping_sub(direction.rcv_nxt).cast_signed() <= 0
                    && end.wrapping_sub(direction.rcv_nxt).cast_signed() > 0
            })
            .copied()
        {
            direction.rcv_nxt = next.1;
        }
        if direction.rcv_nxt != before {
            self.cpus[cpu].steps_of_softirq.push_back(Step::Wake { connection, back });
        }
    }

    fn wake(&mut self, cpu: usize, connection: usize, back: bool) {
        let Direction { flow, rcv_nxt, .. } = self.connections[connection][usize::from(back)];
        let cpu = u32::try_from(cpu).unwrap();
        let time = self.emit(HopRecord { flow, seq: rcv_nxt, cpu, ..empty(Point::SockDefReadable, 0) });
        // The newest first; what lies before one that was woken for was woken for, or came again.
        let mut unread = self.connections[connection][usize::from(back)].unread.clone();
        unread.sort_by(|a, b| a.0.wrapping_sub(b.0).cast_signed().cmp(&0));
        for (end, packet) in unread.into_iter().rev() {
            if self.truths[packet].woken {
                break;
            }
            if end.wrapping_sub(rcv_nxt).cast_signed() <= 0 {
                self.truths[packet].woken = true;
                self.truths[packet].hops.push((Point::SockDefReadable, time));
            }
        }
    }

    fn read(&mut self, cpu: usize, connection: usize, back: bool, most: u32) {
        let direction = &mut self.connections[connection][usize::from(back)];
        let there = direction.rcv_nxt.wrapping_sub(direction.copied);
        if there == 0 {
            return;
        }
        direction.copied = direction.copied.wrapping_add(there.min(most));
        let (flow, seq) = (direction.flow, direction.copied);
        let (read, unread) = std::mem::take(&mut direction.unread)
            .into_iter()
            .partition(|(end, _)| end.wrapping_sub(seq).cast_signed() <= 0);
        direction.unread = unread;
        let cpu = u32::try_from(cpu).unwrap();
        let time = self.emit(HopRecord { flow, seq, cpu, ..empty(Point::TcpRecvmsg, 0) });
        let read: Vec<(u32, usize)> = read;
        for (_, packet) in read {
            self.truths[packet].read = true;
            self.truths[packet].hops.push((Point::TcpRecvmsg, time));
        }
    }
}

fn correlate(flows: &[FlowRecord], records: &[HopRecord]) -> Vec<Path> {
    let mut correlator = Correlator::new(by_kprobes(), Limits::default());
    for flow in flows {
        correlator.record(&Record::Flow(*flow));
    }
    for record in records {
        correlator.record(&Record::Hop(*record));
    }
    correlator.finish();
    assert_eq!(correlator.unfinished(), 0);
    correlator.drain().collect()
}

fn is_own(point: Point) -> bool {
    !matches!(point, Point::ProcessBacklog | Point::SockDefReadable | Point::TcpRecvmsg)
}

/// Which packets have a hop of their own at a time: one, or all that were cut from one.
fn owners(world: &World) -> BTreeMap<u64, BTreeSet<usize>> {
    let mut owners: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (packet, truth) in world.truths.iter().enumerate() {
        for (_, time) in truth.hops.iter().filter(|(point, _)| is_own(*point)) {
            owners.entry(*time).or_default().insert(packet);
        }
    }
    owners
}

/// No path has hops of two packets or hops that nobody saw, times go forward, and no packet is missing.
fn assert_nothing_joined_or_lost(world: &World, records: &[HopRecord], paths: &[Path]) {
    let owners = owners(world);
    let sent: BTreeSet<(u8, u64)> = records.iter().map(|record| (record.point, record.time_ns)).collect();
    let asks_open = |record: &&HopRecord| record.point == Point::FibLookup as u8 && record.flow % 10 == 3;
    let open: BTreeSet<u64> = world.records.iter().filter(asks_open).map(|record| record.time_ns).collect();
    let mut shown: BTreeSet<u64> = BTreeSet::new();
    for path in paths {
        assert!(!path.hops.is_empty());
        assert!(path.hops.is_sorted_by_key(|hop| hop.time_ns), "{path:#?}");
        for hop in &path.hops {
            assert!(sent.contains(&(hop.point as u8, hop.time_ns)), "nobody saw {hop:?}");
            shown.insert(hop.time_ns);
        }
        let (questions, own): (Vec<&Hop>, Vec<&Hop>) =
            path.hops.iter().filter(|hop| is_own(hop.point)).partition(|hop| hop.point == Point::FibLookup);
        // Garbage has no owner.
        let none = BTreeSet::new();
        let of = own
            .iter()
            .map(|hop| owners.get(&hop.time_ns).unwrap_or(&none).clone())
            .reduce(|some, others| if some == others { some } else { &some & &others });
        let is_garbage = own.iter().all(|hop| !owners.contains_key(&hop.time_ns));
        let of = of.unwrap_or_default();
        assert!(is_garbage || !of.is_empty(), "hops of several packets: {path:#?}");
        // Where the records of a packet and of a later one's question are lost, the question is taken for the later
        // one's: it was asked by the same thread for the same flow, or for any to the same place.
        for (packet, question) in
            of.first().into_iter().flat_map(|packet| questions.iter().map(move |q| (packet, q)))
        {
            let Some(asker) = owners.get(&question.time_ns).and_then(|owners| owners.first()) else {
                continue;
            };
            let (asker, flow) = (world.skbs[*asker].flow, world.skbs[*packet].flow);
            assert!(asker == flow || open.contains(&question.time_ns) && flow % 10 == 1, "{path:#?}");
        }
    }
    for record in records.iter().filter(|record| record.skb != 0 && owners.contains_key(&record.time_ns)) {
        assert!(shown.contains(&record.time_ns), "not shown: {record:#?}");
    }
    assert!(paths.len() <= records.len());
}

/// What can happen to a stream of records.
#[derive(Clone, Debug)]
enum Damage {
    Drop,
    Repeat,
    /// It comes before the one before it, if that is of another CPU.
    Early,
    /// The number of its flow is gone.
    WithoutFlow,
    Garbage(Box<HopRecord>),
}

fn any_record() -> impl Strategy<Value = HopRecord> {
    let small = |range: std::ops::Range<u64>| prop_oneof![3 => range, 1 => any::<u64>()];
    let what = (0u8..20, 0u8..5, any::<u8>(), prop_oneof![3 => 0u32..4, 1 => any::<u32>()]);
    let who = (
        small(0..4).prop_map(|at| at.wrapping_mul(256).wrapping_add(0xffff_0000)),
        any::<u64>(),
        small(0..36),
    );
    let when = prop_oneof![4 => 1_000_000_000u64..1_000_100_000, 1 => any::<u64>()];
    (what, who, when, any::<[u32; 5]>(), prop_oneof![0u32..4, any::<u32>()]).prop_map(
        |((point, backend, tcp_flags, cpu), (skb, sk, flow), time_ns, [tgid, tid, seq, ack, len], aux)| {
            HopRecord {
                kind: 1,
                point,
                backend,
                tcp_flags,
                cpu,
                time_ns,
                skb,
                sk,
                flow,
                tgid,
                tid: if tid % 2 == 0 { TID + tid % 3 } else { tid },
                seq,
                ack,
                len,
                aux,
            }
        },
    )
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => Just(Damage::Drop),
        2 => Just(Damage::Repeat),
        2 => Just(Damage::Early),
        1 => Just(Damage::WithoutFlow),
        2 => any_record().prop_map(|record| Damage::Garbage(Box::new(record))),
    ]
}

/// Damages records at random places; garbage takes no time that a true record has.
fn damaged(records: &[HopRecord], damages: &[(prop::sample::Index, Damage)]) -> Vec<HopRecord> {
    let times: BTreeSet<u64> = records.iter().map(|record| record.time_ns).collect();
    let mut records = records.to_vec();
    for (place, damage) in damages {
        if records.is_empty() {
            break;
        }
        let at = place.index(records.len());
        match damage {
            Damage::Drop => {
                records.remove(at);
            }
            Damage::Repeat => records.insert(at, records[at]),
            Damage::Early if at > 0 && records[at - 1].cpu != records[at].cpu => records.swap(at - 1, at),
            Damage::Early => {}
            Damage::WithoutFlow => records[at].flow = 0,
            Damage::Garbage(garbage) if times.contains(&garbage.time_ns) => {}
            Damage::Garbage(garbage) => records.insert(at, **garbage),
        }
    }
    records
}

proptest! {
    #[test]
    fn every_packet_has_its_path(
        isn in prop_oneof![Just(1u32), Just(u32::MAX - 3000), any::<u32>()],
        repeats: bool,
        choices in vec(any::<u16>(), 0..400),
    ) {
        let world = World::of(isn, repeats, &choices);
        let paths = correlate(&flows(), &world.records);
        prop_assert_eq!(paths.len(), world.truths.len() - world.wholes.len());
        // By the last hop of its own, as segments share the first.
        let own_end = |hops: &[(Point, u64)]| hops.iter().filter(|(point, _)| is_own(*point)).map(|(_, time)| *time).max();
        let mut by_end: BTreeMap<Option<u64>, &Path> = BTreeMap::new();
        for path in &paths {
            prop_assert_eq!(path.incomplete, None, "{:?}", hops(path));
            let seen: Vec<_> = path.hops.iter().map(|hop| (hop.point, hop.time_ns)).collect();
            by_end.insert(own_end(&seen), path);
        }
        for (at, (truth, skb)) in world.truths.iter().zip(&world.skbs).enumerate() {
            if world.wholes.contains(&at) {
                continue;
            }
            let mut expected = truth.hops.clone();
            expected.sort_by_key(|(_, time)| *time);
            let path = by_end.get(&own_end(&expected)).unwrap();
            let seen: Vec<_> = path.hops.iter().map(|hop| (hop.point, hop.time_ns)).collect();
            prop_assert_eq!(&seen, &expected, "{:?}", skb);
            let tcp = path.tcp.unwrap();
            prop_assert_eq!((tcp.flags, tcp.seq, path.len), (skb.flags, skb.seq, skb.len));
            prop_assert!(truth.read || skb.len == 0 || !hops(path).contains(&"tcp_recvmsg"));
        }
    }

    #[test]
    fn damage_joins_and_hides_nothing(
        choices in vec(any::<u16>(), 0..300),
        damages in vec((any::<prop::sample::Index>(), damage()), 0..60),
        flows_lost in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let world = World::of(1, false, &choices);
        let mut flows = flows();
        for lost in flows_lost {
            flows.remove(lost.index(flows.len()));
        }
        let records = damaged(&world.records, &damages);
        let paths = correlate(&flows, &records);
        assert_nothing_joined_or_lost(&world, &records, &paths);
    }

    #[test]
    fn a_stretch_of_loss_joins_and_hides_nothing(
        choices in vec(any::<u16>(), 100..400),
        from in any::<prop::sample::Index>(),
        len in 1usize..200,
    ) {
        let world = World::of(1, false, &choices);
        let mut records = world.records.clone();
        if !records.is_empty() {
            let from = from.index(records.len());
            records.drain(from..(from + len).min(records.len()));
        }
        let paths = correlate(&flows(), &records);
        assert_nothing_joined_or_lost(&world, &records, &paths);
    }

    #[test]
    fn any_bytes_do_no_harm(
        records in vec((0u8..7, vec(any::<u8>(), 160)), 0..300),
        hops in vec(any_record(), 0..300),
        in_flight in 0usize..8,
        known in 0usize..8,
    ) {
        let limits = Limits { in_flight, known, patience_ns: 1000 };
        let mut correlator = Correlator::new(by_kprobes(), limits);
        let mut sent = 0;
        for (kind, mut bytes) in records {
            bytes[0] = kind;
            bytes.truncate(match kind { 1 => 64, 2 => 56, 3 => 24, 4 => 32, _ => 128 });
            if let Ok(record) = decode(&bytes) {
                sent += 1;
                correlator.record(&record);
            }
        }
        for hop in hops {
            sent += 1;
            correlator.record(&Record::Hop(hop));
            prop_assert!(correlator.unfinished() <= in_flight.max(1));
            prop_assert!(correlator.flows.sizes().iter().all(|size| *size <= 2 * known.max(1) + in_flight + 2));
        }
        correlator.advance(u64::MAX);
        correlator.finish();
        prop_assert_eq!(correlator.unfinished(), 0);
        prop_assert!(correlator.drain().count() <= sent);
    }

    #[test]
    fn the_same_records_give_the_same_paths(choices in vec(any::<u16>(), 0..200)) {
        let world = World::of(1, true, &choices);
        prop_assert_eq!(correlate(&flows(), &world.records), correlate(&flows(), &world.records));
    }
}

#[test]
fn the_small_kernel_makes_all_kinds_of_packets() {
    let choices: Vec<u16> = (0..3000u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 16) as u16).collect();
    let world = World::of(1, true, &choices);
    let count = |is: &dyn Fn(&Skb) -> bool| world.skbs.iter().filter(|skb| is(skb)).count();
    assert!(count(&|skb| skb.len > 0) > 50);
    assert!(count(&|skb| skb.flags == SYN | ACK) > 20);
    assert!(world.wholes.len() > 20);
    assert!(world.truths.iter().any(|truth| truth.hops.len() == 9));
    assert!(
        world.truths.iter().any(|truth| truth.hops.iter().all(|(point, _)| *point != Point::ProcessBacklog))
    );
    assert!(world.skbs.len() > 2 * world.skbs.iter().map(|skb| skb.at).collect::<BTreeSet<_>>().len());
    assert!(world.records.iter().all(|record| record.backend == Backend::Kprobe as u8));
}
