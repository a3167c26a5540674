//! TCP over loopback in small: traffic of which the truth is known.

use std::collections::{BTreeSet, VecDeque};

use tracer_common::{
    event::{FlowRecord, HopRecord, NO_FLOW, RouteRecord},
    probes::Point,
};

use super::super::kernel::{ACK, LO, NETNS, PSH, RST, SYN, Skb, TID, empty, flow_record, route_record, seen};
use crate::decode::Record;

const CPUS: usize = 3;
const CONNECTIONS: usize = 3;
/// Numbers of connection `n`'s flows: `10 * n + 1` there, `+ 2` back, `+ 3` a question with open ends, `+ 4` and `+ 5`
/// questions with all ends.
pub(super) fn number(connection: usize, kind: u64) -> u64 {
    10 * (connection as u64 + 1) + kind
}

/// A packet's way, as it truly was.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) hops: Vec<(Point, u64)>,
    woken: bool,
    pub(super) read: bool,
    /// The kernel has dropped it.
    pub(super) dropped: bool,
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
    Call {
        packet: usize,
    },
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
pub(super) struct World {
    now_ns: u64,
    pub(super) records: Vec<Record>,
    pub(super) truths: Vec<Truth>,
    pub(super) skbs: Vec<Skb>,
    /// Packets that were cut into others.
    pub(super) wholes: BTreeSet<usize>,
    connections: Vec<[Direction; 2]>,
    cpus: Vec<Cpu>,
    free: Vec<u64>,
    next_memory: u64,
    /// Whether segments are sent again with the same header.
    repeats: bool,
    /// Whether SYNs are sent again at any time.
    connects_again: bool,
}

pub(super) fn flows() -> Vec<FlowRecord> {
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
            connects_again: true,
        }
    }

    /// Makes traffic out of numbers, and lets all of it arrive and be read.
    pub(super) fn of(isn: u32, repeats: bool, choices: &[u16]) -> Self {
        Self::new(isn, repeats).with(choices)
    }

    /// The same, but that no SYN is sent again once there is a connection.
    pub(super) fn of_lasting_connections(isn: u32, repeats: bool, choices: &[u16]) -> Self {
        Self { connects_again: false, ..Self::new(isn, repeats) }.with(choices)
    }

    fn with(self, choices: &[u16]) -> Self {
        let mut world = self;
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
                // No FIN: the connections go on.
                let flags = [ACK, PSH | ACK, RST | ACK][usize::from(low / 64) % 3];
                self.send_control(cpu, connection, back, flags);
            }
            14 if self.connects_again => self.connect(cpu, connection),
            _ => self.read(cpu, connection, back, 1 + u32::from(high) * 5),
        }
    }

    fn emit(&mut self, record: HopRecord) -> u64 {
        self.now_ns += 1;
        self.records.push(Record::Hop(HopRecord { time_ns: self.now_ns, ..record }));
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
            Step::Call { packet }
            | Step::Pass { packet, .. }
            | Step::Queue { packet }
            | Step::Cut { whole: packet } => self.skbs[*packet].flow == flow,
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
        if !again {
            self.cpus[cpu].steps.push_back(Step::Call { packet });
        }
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
            let number = u16::try_from(cpu).unwrap();
            let tid = TID + u32::from(number);
            let record =
                HopRecord { cpu: number, aux: number.into(), tid, ..empty(Point::ProcessBacklog, 0) };
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
        let record = seen(point, 0, u16::try_from(cpu).unwrap(), self.skbs[packet]);
        let time = self.emit(record);
        self.truths[packet].hops.push((point, time));
        time
    }

    fn perform(&mut self, cpu: usize, step: Step) {
        let tid = TID + u32::try_from(cpu).unwrap();
        match step {
            Step::Call { packet } => {
                let Skb { flow, seq, len, .. } = self.skbs[packet];
                let cpu = u16::try_from(cpu).unwrap();
                let time = self.emit(HopRecord { flow, seq, len, tid, cpu, ..empty(Point::TcpSendmsg, 0) });
                self.truths[packet].hops.push((Point::TcpSendmsg, time));
            }
            Step::Ask { packet, number } => {
                let cpu = u16::try_from(cpu).unwrap();
                self.now_ns += 1;
                let time = self.now_ns;
                self.records.push(Record::Route(RouteRecord { tid, cpu, ..route_record(number, 255, time) }));
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
                if self.drops_at(packet, 3) {
                    return self.drop(cpu, packet);
                }
                self.pass(cpu, Point::TcpV4Rcv, packet);
                if self.drops_at(packet, 5) {
                    return self.drop(cpu, packet);
                }
                self.arrive(cpu, packet);
            }
            Step::Wake { connection, back } => self.wake(cpu, connection, back),
        }
    }

    /// Whether the kernel drops the packet at one of its places. A SYN always arrives, and so does data, as there is nobody
    /// here to send it again.
    fn drops_at(&self, packet: usize, place: usize) -> bool {
        self.skbs[packet].flags & SYN == 0 && self.skbs[packet].len == 0 && packet % 5 == place % 5
    }

    fn drop(&mut self, cpu: usize, packet: usize) {
        let record = seen(Point::KfreeSkb, 0, u16::try_from(cpu).unwrap(), self.skbs[packet]);
        // The reason is a netfilter rule.
        let time = self.emit(HopRecord { aux: 8, sk: 0xffff_8000, flow: NO_FLOW, ..record });
        self.truths[packet].hops.push((Point::KfreeSkb, time));
        self.truths[packet].dropped = true;
        self.free.push(self.skbs[packet].at);
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
        let cpu = u16::try_from(cpu).unwrap();
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
        let cpu = u16::try_from(cpu).unwrap();
        let time = self.emit(HopRecord { flow, seq, cpu, ..empty(Point::TcpRecvmsg, 0) });
        let read: Vec<(u32, usize)> = read;
        for (_, packet) in read {
            self.truths[packet].read = true;
            self.truths[packet].hops.push((Point::TcpRecvmsg, time));
        }
    }
}
