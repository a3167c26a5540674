//! Records as kernel 6.18 sends them, made up: the same hops in the same order on four CPUs, for as many connections and as
//! long as one likes. `tests/recordings.rs` has the real ones.

use std::collections::VecDeque;

use pathtrace::model::{Attached, Coverage, State};
use plain::Plain;
use tracer_common::{
    event::{
        AUX_UNKNOWN, FlowRecord, HopRecord, KIND_FLOW, KIND_HOP, KIND_TASK, KIND_UNIX, KIND_UNIX_NAME,
        MARK_NOTHING_QUEUED, NO_FLOW, TaskRecord, UNIX_PATH_LEN, UnixNameRecord, UnixRecord,
    },
    probes::{Backend, Point},
};

const CPUS: usize = 4;
/// Between two records, ns: about as fast as four busy CPUs send them.
const STEP_NS: u64 = 250;
/// `IPPROTO_TCP` and `AF_INET`.
const TCP: u8 = 6;
const AF_INET: u8 = 2;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const PUSH_ACK: u8 = 0x18;
/// Where a connection of [`Kind::TcpChurn`] ends.
const SHORT_LIFE: u32 = 8;
/// Messages that all readers of a slow stream together are behind.
const BEHIND: usize = 20_000;
/// The process that serves all connections, each in a thread, and those that make them.
const SERVER: u32 = 500;
const CLIENT: u32 = 600;
const CLIENTS: usize = 16;
/// Bytes of a message.
const LEN: u32 = 100;

/// What the traffic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ping-pong over TCP, seen by tracepoints.
    Tcp,
    /// The same, seen by functions.
    TcpFentry,
    /// The same by connections that live shortly.
    TcpChurn,
    /// One way over TCP, to readers that are far behind.
    TcpSlow,
    /// Ping-pong over UNIX sockets.
    Unix,
    /// One way over UNIX sockets, to readers that are far behind.
    UnixSlow,
    /// Half of the connections over TCP, half over UNIX sockets.
    Mix,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Tcp, Self::TcpFentry, Self::TcpChurn, Self::TcpSlow, Self::Unix, Self::UnixSlow, Self::Mix];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::TcpFentry => "tcp-fentry",
            Self::TcpChurn => "tcp-churn",
            Self::TcpSlow => "tcp-slow",
            Self::Unix => "unix",
            Self::UnixSlow => "unix-slow",
            Self::Mix => "mix",
        }
    }

    fn is_slow(self) -> bool {
        matches!(self, Self::TcpSlow | Self::UnixSlow)
    }

    fn backend(self, point: Point) -> Option<Backend> {
        if self == Self::TcpFentry && point.row().functions().is_ok() {
            return Some(Backend::Fentry);
        }
        point.row().tracepoint().is_ok().then_some(Backend::Tracepoint)
    }

    /// Where the run that records the stream is attached.
    pub(super) fn coverage(self) -> Coverage {
        let mut coverage = Coverage::default();
        for point in Point::ALL {
            if let Some(backend) = self.backend(*point) {
                let function = match backend {
                    Backend::Tracepoint => point.row().tracepoint().unwrap().full_name,
                    _ => point.row().functions().unwrap().names[0],
                };
                coverage.set(*point, State::Attached(Attached { backend, function: function.to_owned() }));
            }
        }
        coverage
    }
}

/// Records one behind the other, as the ring buffer holds them: the length of each before its bytes.
#[derive(Default)]
pub(super) struct Batch(Vec<u8>);

impl Batch {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, record: &[u8]) {
        self.0.extend_from_slice(&(record.len() as u64).to_ne_bytes());
        self.0.extend_from_slice(record);
    }

    /// The bytes of each record.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (len, behind) = rest.split_first_chunk()?;
            let (record, behind) = behind.split_at(usize::try_from(u64::from_ne_bytes(*len)).unwrap());
            rest = behind;
            Some(record)
        })
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    sk: u64,
    tid: u32,
    tgid: u32,
    /// The number of the flow that it sends on.
    flow: u64,
    /// The sequence number of what it sends next.
    seq: u32,
}

#[derive(Debug)]
struct Connection {
    is_unix: bool,
    /// Client and server.
    ends: [End; 2],
    is_announced: bool,
    /// Messages since it began.
    sent: u32,
    /// The end that runs next.
    turn: usize,
    /// What was sent and not read, oldest first.
    unread: VecDeque<Unread>,
}

#[derive(Clone, Copy, Debug)]
struct Unread {
    skb: u64,
    /// The sequence number behind it.
    end: u32,
}

/// What a CPU has yet to do.
enum Task {
    Hop(HopRecord),
    Unix(UnixRecord),
    /// A record of another kind.
    Announce(Vec<u8>),
    /// Nothing more for this connection: its other end may run.
    Yield(usize),
}

/// A source of records.
pub(super) struct Stream {
    kind: Kind,
    connections: Vec<Connection>,
    /// Connections of which an end waits for a CPU.
    ready: VecDeque<usize>,
    cpus: [VecDeque<Task>; CPUS],
    /// Memory that is free; what was freed last is used first.
    free: Vec<u64>,
    memory: u64,
    flows: u64,
    time_ns: u64,
    random: u64,
    /// How many messages a reader leaves unread.
    behind: usize,
}

impl Stream {
    /// Of so many connections at a time.
    pub(super) fn new(kind: Kind, connections: usize) -> Self {
        let connection = |at: usize| {
            let end = |side: u64| End {
                sk: 0xffff_8880_0000_0000 + (2 * at as u64 + side) * 0x8c0,
                tid: u32::try_from(1000 + 2 * at as u64 + side).unwrap(),
                tgid: if side == 1 { SERVER } else { CLIENT + u32::try_from(at % CLIENTS).unwrap() },
                ..End::default()
            };
            let is_unix = match kind {
                Kind::Unix | Kind::UnixSlow => true,
                Kind::Mix => at % 2 == 1,
                _ => false,
            };
            let ends = [end(0), end(1)];
            let unread = VecDeque::new();
            Connection { is_unix, ends, is_announced: false, sent: 0, turn: 0, unread }
        };
        Self {
            kind,
            connections: (0..connections).map(connection).collect(),
            ready: (0..connections).collect(),
            cpus: Default::default(),
            free: Vec::new(),
            memory: 0xffff_8881_0000_0000,
            flows: 0,
            time_ns: 1_000_000_000,
            random: 0x9e37_79b9_7f4a_7c15,
            behind: if kind.is_slow() { BEHIND / connections } else { 0 },
        }
    }

    /// Adds records to a batch until so many more of them are hops.
    pub(super) fn fill(&mut self, batch: &mut Batch, hops: u64) {
        let mut filled = 0;
        while filled < hops {
            let cpu = self.any_cpu();
            let Some(task) = self.cpus[cpu].pop_front() else {
                if let Some(at) = self.ready.pop_front() {
                    self.run(at, cpu);
                }
                continue;
            };
            self.time_ns += STEP_NS;
            let time_ns = self.time_ns;
            match task {
                Task::Hop(hop) => batch.push(bytes_of(&HopRecord { time_ns, ..hop })),
                Task::Unix(unix) => batch.push(bytes_of(&UnixRecord { time_ns, ..unix })),
                Task::Announce(record) => {
                    batch.push(&record);
                    continue;
                }
                Task::Yield(at) => {
                    self.ready.push_back(at);
                    continue;
                }
            }
            filled += 1;
        }
    }

    /// Which CPU works next is left to chance (xorshift).
    fn any_cpu(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 32).unwrap() % CPUS
    }

    /// An end of a connection gets a CPU: it reads what has come, and sends.
    fn run(&mut self, at: usize, cpu: usize) {
        let connection = &self.connections[at];
        let reader = if self.kind.is_slow() { 1 } else { connection.turn };
        if connection.unread.len() > self.behind {
            self.read(at, reader, cpu);
        }
        let connection = &mut self.connections[at];
        if self.kind == Kind::TcpChurn && connection.sent == SHORT_LIFE {
            (connection.is_announced, connection.sent) = (false, 0);
        }
        if !connection.is_announced {
            self.announce(at, cpu);
        }
        let sender = if self.kind.is_slow() { 0 } else { reader };
        self.send(at, sender, cpu);
        let connection = &mut self.connections[at];
        connection.turn = 1 - sender;
        connection.sent += 1;
        self.cpus[cpu].push_back(Task::Yield(at));
    }

    /// A connection begins.
    fn announce(&mut self, at: usize, cpu: usize) {
        let connection = &mut self.connections[at];
        connection.is_announced = true;
        let name = if connection.is_unix { b"unix-peer" } else { b"ping-pong" };
        for end in connection.ends {
            let mut task = TaskRecord { kind: KIND_TASK, pad: 0, pad2: 0, tgid: end.tgid, comm: [0; 16] };
            task.comm[..name.len()].copy_from_slice(name);
            announce(&mut self.cpus[cpu], &task);
        }
        if connection.is_unix {
            for end in connection.ends {
                let mut path = [0; UNIX_PATH_LEN];
                path[..8].copy_from_slice(b"/run/app");
                announce(
                    &mut self.cpus[cpu],
                    &UnixNameRecord {
                        kind: KIND_UNIX_NAME,
                        len: 8,
                        socket_type: 1,
                        pad: 0,
                        inode: end.tid,
                        sk: end.sk,
                        path,
                        pad2: 0,
                    },
                );
            }
            return;
        }
        let client = u16::try_from(1024 + self.flows / 2 % 60_000).unwrap();
        for side in 0..2 {
            self.flows += 1;
            let ports = [client, 8888];
            let mut record = FlowRecord {
                kind: KIND_FLOW,
                protocol: TCP,
                family: AF_INET,
                pad: 0,
                netns: 4_026_531_840,
                id: self.flows,
                saddr: [0; 16],
                daddr: [0; 16],
                sport: ports[side],
                dport: ports[1 - side],
                pad2: 0,
            };
            record.saddr[..4].copy_from_slice(&[127, 0, 0, 1]);
            record.daddr[..4].copy_from_slice(&[127, 0, 0, 1]);
            announce(&mut self.cpus[cpu], &record);
            let end = &mut connection.ends[side];
            (end.flow, end.seq) = (self.flows, u32::try_from(self.flows % 1000).unwrap() * 1_000_003);
        }
        let [client, server] = connection.ends;
        for (from, to, flags) in [(client, server, SYN), (server, client, SYN | ACK), (client, server, ACK)] {
            let skb = self.allocate();
            self.packet(cpu, skb, from, to.seq, flags);
            self.free.push(skb);
        }
        for end in &mut self.connections[at].ends {
            end.seq += 1;
        }
    }

    fn allocate(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.memory += 256;
            self.memory
        })
    }

    /// The reader, which was woken, gets a CPU and takes the oldest message.
    fn read(&mut self, at: usize, reader: usize, cpu: usize) {
        let connection = &mut self.connections[at];
        let Some(unread) = connection.unread.pop_front() else { return };
        let (own, peer, is_unix) = (connection.ends[reader], connection.ends[1 - reader], connection.is_unix);
        self.hop(cpu, HopRecord { sk: own.sk, tid: own.tid, ..hop(Point::SchedSwitch) });
        if is_unix {
            let read = unix(Point::UnixStreamRecvmsg, own);
            let read = UnixRecord { skb: unread.skb, sk: peer.sk, len: LEN, total: LEN, ..read };
            self.unix(cpu, read);
        } else {
            let (flow, seq) = (peer.flow, unread.end);
            self.hop(
                cpu,
                HopRecord { sk: own.sk, tid: own.tid, tgid: own.tgid, flow, seq, ..hop(Point::TcpRecvmsg) },
            );
        }
        self.free.push(unread.skb);
    }

    /// An end sends a message; it is received on the same CPU, and its reader woken.
    fn send(&mut self, at: usize, sender: usize, cpu: usize) {
        let skb = self.allocate();
        let connection = &mut self.connections[at];
        let (own, peer, is_unix) = (connection.ends[sender], connection.ends[1 - sender], connection.is_unix);
        let end = own.seq.wrapping_add(LEN);
        connection.ends[sender].seq = end;
        let is_first = connection.unread.is_empty();
        connection.unread.push_back(Unread { skb, end });
        if is_unix {
            let call = unix(Point::UnixStreamSendmsg, own);
            let marks = if is_first { MARK_NOTHING_QUEUED } else { 0 };
            self.unix(cpu, UnixRecord { sk: own.sk, peer: peer.sk, len: LEN, marks, ..call });
            let wakes = UnixRecord { tgid: 0, ..unix(Point::SockDefReadable, own) };
            self.unix(cpu, UnixRecord { skb, sk: peer.sk, peer: own.sk, len: LEN, ..wakes });
        } else {
            let tid = own.tid;
            let call = HopRecord { sk: own.sk, flow: own.flow, seq: own.seq, ..hop(Point::TcpSendmsg) };
            self.hop(cpu, HopRecord { tid, tgid: own.tgid, len: LEN, ..call });
            self.packet(cpu, skb, own, peer.seq, PUSH_ACK);
            let woken =
                HopRecord { sk: peer.sk, tid, flow: own.flow, seq: end, ..hop(Point::SockDefReadable) };
            self.hop(cpu, woken);
        }
        if is_first {
            self.hop(cpu, HopRecord { sk: peer.sk, tid: peer.tid, ..hop(Point::SchedWaking) });
        }
    }

    /// A segment passes the loopback device.
    fn packet(&mut self, cpu: usize, skb: u64, from: End, ack: u32, tcp_flags: u8) {
        let (is_data, is_first) = (tcp_flags == PUSH_ACK, tcp_flags == SYN);
        let len = if is_data { LEN } else { 0 };
        let ack = if is_first { 0 } else { ack };
        let segment =
            HopRecord { skb, flow: from.flow, tid: from.tid, tcp_flags, ack, len, ..hop(Point::IpQueueXmit) };
        for point in [
            Point::IpQueueXmit,
            Point::DevQueueXmit,
            Point::LoopbackXmit,
            Point::EnqueueToBacklog,
            Point::ProcessBacklog,
            Point::NetifReceiveSkb,
            Point::TcpV4Rcv,
        ] {
            let by_functions = self.kind == Kind::TcpFentry;
            let record = HopRecord { point: point as u8, seq: from.seq, ..segment };
            let (sk, aux) = (from.sk, 1);
            let record = match point {
                // No tracepoint stands there; SYN-ACK leaves past it.
                Point::IpQueueXmit if !by_functions || tcp_flags == SYN | ACK => continue,
                Point::ProcessBacklog if !by_functions => continue,
                Point::IpQueueXmit => HopRecord { sk, ..record },
                Point::DevQueueXmit => HopRecord { sk, aux, ..record },
                Point::ProcessBacklog => HopRecord { tid: from.tid, ..hop(point) },
                Point::EnqueueToBacklog if by_functions => {
                    HopRecord { aux: u32::try_from(cpu).unwrap(), ..record }
                }
                // tcp:tcp_probe sees established connections only.
                Point::TcpV4Rcv if !is_data && !by_functions => continue,
                Point::EnqueueToBacklog | Point::TcpV4Rcv => record,
                _ => HopRecord { aux, ..record },
            };
            self.hop(cpu, record);
        }
    }

    fn hop(&mut self, cpu: usize, record: HopRecord) {
        let backend =
            Point::from_wire(record.point).and_then(|point| self.kind.backend(point)).unwrap() as u8;
        let on = u16::try_from(cpu).unwrap();
        self.cpus[cpu].push_back(Task::Hop(HopRecord { backend, cpu: on, ..record }));
    }

    fn unix(&mut self, cpu: usize, record: UnixRecord) {
        let on = u16::try_from(cpu).unwrap();
        self.cpus[cpu].push_back(Task::Unix(UnixRecord { cpu: on, ..record }));
    }
}

fn announce(tasks: &mut VecDeque<Task>, record: &impl Plain) {
    tasks.push_back(Task::Announce(bytes_of(record).to_owned()));
}

fn bytes_of(record: &impl Plain) -> &[u8] {
    // SAFETY: only records come here, and they have no padding (`tracer_common::event` says so where it makes them `Plain`).
    unsafe { plain::as_bytes(record) }
}

/// A record of a hop with nothing in it.
fn hop(point: Point) -> HopRecord {
    HopRecord {
        kind: KIND_HOP,
        point: point as u8,
        backend: 0,
        tcp_flags: 0,
        cpu: 0,
        marks: 0,
        time_ns: 0,
        skb: 0,
        sk: 0,
        flow: NO_FLOW,
        tgid: 0,
        tid: 0,
        seq: 0,
        ack: 0,
        len: 0,
        aux: AUX_UNKNOWN,
    }
}

/// The same of a UNIX stream.
fn unix(point: Point, End { tid, tgid, .. }: End) -> UnixRecord {
    UnixRecord {
        kind: KIND_UNIX,
        point: point as u8,
        backend: Backend::Tracepoint as u8,
        marks: 0,
        cpu: 0,
        socket_type: 1,
        descriptors: 0,
        time_ns: 0,
        skb: 0,
        sk: 0,
        peer: 0,
        tgid,
        tid,
        len: 0,
        offset: 0,
        total: 0,
        pad: 0,
    }
}
