//! A kernel that sends the records it is told to, one each microsecond.

use std::net::SocketAddr;

use tracer_common::{
    event::{
        AUX_UNKNOWN, COMM_LEN, DeviceRecord, FlowRecord, HopRecord, KIND_DEVICE, KIND_FLOW, KIND_HOP,
        KIND_LOSS, KIND_NAME, KIND_ROUTE, KIND_TASK, KIND_UNIX, KIND_UNIX_NAME, LossRecord, NAME_LEN,
        NO_FLOW, NameRecord, RouteRecord, TaskRecord, UNIX_PATH_LEN, UnixNameRecord, UnixRecord,
    },
    probes::{Backend, Point},
};

use crate::{
    correlate::{Correlator, Limits},
    decode::Record,
    model::{Attached, Coverage, Incomplete, Path, State},
};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Client to server, and back.
pub(super) const THERE: u64 = 1;
pub(super) const BACK: u64 = 2;

pub(super) const LO: u32 = 1;
pub(super) const ETH0: u32 = 2;
pub(super) const NETNS: u32 = 4_026_531_840;

pub(super) const CLIENT: &str = "127.0.0.1:51234";
pub(super) const SERVER: &str = "127.0.0.1:8888";

/// The thread on each CPU.
pub(super) const TID: u32 = 500;

/// All points, each by a backend.
pub(super) fn coverage(backend: impl Fn(Point) -> Option<Backend>) -> Coverage {
    let mut coverage = Coverage::default();
    for point in Point::ALL {
        if let Some(backend) = backend(*point) {
            coverage.set(*point, State::Attached(Attached { backend, function: point.row().hop.into() }));
        }
    }
    coverage
}

/// How a point is attached where kprobes are asked for.
fn kprobe_of(point: Point) -> Backend {
    if point.row().functions().is_ok() { Backend::Kprobe } else { Backend::Tracepoint }
}

pub(super) fn by_kprobes() -> Coverage {
    coverage(|point| Some(kprobe_of(point)))
}

pub(super) fn by_tracepoints() -> Coverage {
    coverage(|point| point.row().tracepoint().is_ok().then_some(Backend::Tracepoint))
}

/// All by kprobes, but these not at all.
pub(super) fn without(points: &[Point]) -> Coverage {
    coverage(|point| (!points.contains(&point)).then(|| kprobe_of(point)))
}

/// A packet in its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skb {
    pub(super) at: u64,
    pub(super) flow: u64,
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) len: u32,
    pub(super) ifindex: u32,
}

/// Data on [`THERE`].
pub(super) fn data(at: u64, seq: u32, len: u32) -> Skb {
    Skb { at, flow: THERE, flags: PSH | ACK, seq, ack: 1, len, ifindex: LO }
}

/// A segment without data on [`THERE`].
pub(super) fn control(at: u64, flags: u8) -> Skb {
    Skb { at, flow: THERE, flags, seq: 1000, ack: if flags & ACK == 0 { 0 } else { 77 }, len: 0, ifindex: LO }
}

/// A UDP datagram.
pub(super) fn datagram(at: u64, flow: u64, len: u32) -> Skb {
    Skb { at, flow, flags: 0, seq: 0, ack: 0, len, ifindex: LO }
}

impl Skb {
    pub(super) fn on(self, flow: u64) -> Self {
        Self { flow, ..self }
    }

    pub(super) fn over(self, ifindex: u32) -> Self {
        Self { ifindex, ..self }
    }

    pub(super) fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub(super) fn seq(self, seq: u32) -> Self {
        Self { seq, ..self }
    }

    /// The sequence number behind its data.
    pub(super) fn end(self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

/// A hop record with nothing in it.
pub(super) fn empty(point: Point, time_ns: u64) -> HopRecord {
    HopRecord {
        kind: KIND_HOP,
        point: point as u8,
        backend: Backend::Kprobe as u8,
        tcp_flags: 0,
        cpu: 0,
        marks: 0,
        time_ns,
        skb: 0,
        sk: 0,
        flow: NO_FLOW,
        tgid: 50,
        tid: TID,
        seq: 0,
        ack: 0,
        len: 0,
        aux: AUX_UNKNOWN,
    }
}

/// The record of a point that sees a packet.
pub(super) fn seen(point: Point, time_ns: u64, cpu: u16, skb: Skb) -> HopRecord {
    let Skb { at, flow, flags, seq, ack, len, ifindex } = skb;
    let aux = match point {
        Point::IpQueueXmit | Point::Ip6Xmit => AUX_UNKNOWN,
        Point::EnqueueToBacklog => cpu.into(),
        _ => ifindex,
    };
    HopRecord {
        cpu,
        skb: at,
        flow,
        tcp_flags: flags,
        seq,
        ack,
        len,
        aux,
        tid: TID + u32::from(cpu),
        ..empty(point, time_ns)
    }
}

/// A record of a UNIX socket with nothing in it.
pub(super) fn empty_unix(point: Point, time_ns: u64) -> UnixRecord {
    UnixRecord {
        kind: KIND_UNIX,
        point: point as u8,
        backend: Backend::Kprobe as u8,
        marks: 0,
        cpu: 0,
        socket_type: 1,
        descriptors: 0,
        time_ns,
        skb: 0,
        sk: 0,
        peer: 0,
        tgid: 50,
        tid: TID,
        len: 0,
        offset: 0,
        total: 0,
        pad: 0,
    }
}

/// The record of a UNIX socket's name.
pub(super) fn unix_name_record(sk: u64, name: &[u8]) -> UnixNameRecord {
    let mut path = [0; UNIX_PATH_LEN];
    path[..name.len()].copy_from_slice(name);
    let len = u8::try_from(name.len()).unwrap();
    UnixNameRecord { kind: KIND_UNIX_NAME, len, socket_type: 1, pad: 0, inode: 700, sk, path, pad2: 0 }
}

/// The answer of a routing table: local, by the loopback device, from nowhere in particular.
pub(super) fn route_record(flow: u64, table: u32, time_ns: u64) -> RouteRecord {
    RouteRecord {
        kind: KIND_ROUTE,
        point: Point::FibLookup as u8,
        backend: Backend::Tracepoint as u8,
        route_type: 2,
        cpu: 0,
        pad: 0,
        time_ns,
        flow,
        tid: TID,
        table,
        ifindex: LO,
        error: 0,
        source: [0; 16],
    }
}

/// Some were lost until then.
pub(super) fn loss_record(until_ns: u64) -> LossRecord {
    LossRecord { kind: KIND_LOSS, pad: 0, pad2: 0, pad3: 0, until_ns }
}

/// A flow's record: protocol, source, destination.
pub(super) fn flow_record(id: u64, protocol: u8, src: &str, dst: &str, netns: u32) -> FlowRecord {
    let address = |text: &str| {
        let address: SocketAddr = text.parse().unwrap();
        let mut bytes = [0; 16];
        match address {
            SocketAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.ip().octets()),
            SocketAddr::V6(v6) => bytes = v6.ip().octets(),
        }
        (bytes, address.port(), if address.is_ipv4() { 2 } else { 10 })
    };
    let ((saddr, sport, family), (daddr, dport, _)) = (address(src), address(dst));
    FlowRecord { kind: KIND_FLOW, protocol, family, pad: 0, netns, id, saddr, daddr, sport, dport, pad2: 0 }
}

/// A kernel and the correlator that it talks to.
pub(super) struct Kernel {
    pub(super) correlator: Correlator,
    pub(super) now_ns: u64,
    coverage: Coverage,
}

impl Kernel {
    /// With one connection, [`CLIENT`] to [`SERVER`].
    pub(super) fn new(coverage: Coverage) -> Self {
        Self::limited(coverage, Limits::default())
    }

    pub(super) fn limited(coverage: Coverage, limits: Limits) -> Self {
        let correlator = Correlator::new(coverage.clone(), limits);
        let mut kernel = Self { correlator, now_ns: 1_000_000_000, coverage };
        kernel.flow(THERE, CLIENT, SERVER);
        kernel.flow(BACK, SERVER, CLIENT);
        kernel
    }

    pub(super) fn flow(&mut self, id: u64, src: &str, dst: &str) {
        self.flow_in(id, 6, src, dst, NETNS);
    }

    pub(super) fn flow_in(&mut self, id: u64, protocol: u8, src: &str, dst: &str, netns: u32) {
        self.correlator.record(&Record::Flow(flow_record(id, protocol, src, dst, netns)));
    }

    pub(super) fn task(&mut self, tgid: u32, name: &[u8]) {
        let mut comm = [0; COMM_LEN];
        comm[..name.len()].copy_from_slice(name);
        self.correlator.record(&Record::Task(TaskRecord { kind: KIND_TASK, pad: 0, pad2: 0, tgid, comm }));
    }

    pub(super) fn device(&mut self, ifindex: u32, netns: u32, text: &str) {
        let mut name = [0; 16];
        name[..text.len()].copy_from_slice(text.as_bytes());
        let record = DeviceRecord { kind: KIND_DEVICE, pad: 0, pad3: 0, ifindex, netns, pad2: 0, name };
        self.correlator.record(&Record::Device(record));
    }

    pub(super) fn unix_name(&mut self, sk: u64, name: &[u8]) {
        self.correlator.record(&Record::UnixName(Box::new(unix_name_record(sk, name))));
    }

    /// What a number of the kernel's is called.
    pub(super) fn name(&mut self, of: u8, number: u64, text: &str) {
        let mut name = [0; NAME_LEN];
        name[..text.len()].copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).unwrap();
        let record = NameRecord { kind: KIND_NAME, of, len, pad: 0, pad2: 0, number, name };
        self.correlator.record(&Record::Name(Box::new(record)));
    }

    /// Time passes; how the point of a record is attached, if it is.
    fn tick(&mut self, point: u8) -> Option<u8> {
        self.now_ns += 1000;
        self.coverage.attached(Point::from_wire(point).unwrap()).map(|attached| attached.backend as u8)
    }

    /// Sends a record, if its point is attached, and returns its time.
    pub(super) fn hop(&mut self, record: HopRecord) -> u64 {
        if let Some(backend) = self.tick(record.point) {
            let record = HopRecord { time_ns: self.now_ns, backend, ..record };
            self.correlator.record(&Record::Hop(record));
        }
        self.now_ns
    }

    /// [`hop`](Self::hop) for a UNIX socket.
    pub(super) fn unix(&mut self, record: UnixRecord) -> u64 {
        if let Some(backend) = self.tick(record.point) {
            let record = UnixRecord { time_ns: self.now_ns, backend, ..record };
            self.correlator.record(&Record::Unix(record));
        }
        self.now_ns
    }

    /// [`hop`](Self::hop) for a routing table's answer.
    pub(super) fn route(&mut self, record: RouteRecord) -> u64 {
        if let Some(backend) = self.tick(record.point) {
            let record = RouteRecord { time_ns: self.now_ns, backend, ..record };
            self.correlator.record(&Record::Route(record));
        }
        self.now_ns
    }

    /// A point sees a packet.
    pub(super) fn at(&mut self, point: Point, cpu: u16, skb: Skb) -> u64 {
        self.hop(seen(point, 0, cpu, skb))
    }

    /// The packet is sent over a socket, into the backlog of the same CPU.
    pub(super) fn send(&mut self, cpu: u16, skb: Skb) {
        self.at(Point::IpQueueXmit, cpu, skb);
        self.send_from_device(cpu, skb);
    }

    /// The packet is sent without a socket.
    pub(super) fn send_from_device(&mut self, cpu: u16, skb: Skb) {
        self.at(Point::DevQueueXmit, cpu, skb);
        self.at(Point::LoopbackXmit, cpu, skb);
        self.at(Point::EnqueueToBacklog, cpu, skb);
    }

    pub(super) fn poll(&mut self, cpu: u16) -> u64 {
        self.hop(HopRecord { cpu, aux: cpu.into(), ..empty(Point::ProcessBacklog, 0) })
    }

    pub(super) fn receive(&mut self, cpu: u16, skb: Skb) {
        self.at(Point::NetifReceiveSkb, cpu, skb);
        self.at(Point::TcpV4Rcv, cpu, skb);
    }

    /// All the way up to the receiving socket.
    pub(super) fn transfer(&mut self, skb: Skb) {
        self.send(0, skb);
        self.poll(0);
        self.receive(0, skb);
    }

    pub(super) fn wake(&mut self, flow: u64, rcv_nxt: u32) -> u64 {
        self.hop(HopRecord { flow, seq: rcv_nxt, sk: 0x50, ..empty(Point::SockDefReadable, 0) })
    }

    pub(super) fn read(&mut self, flow: u64, copied_seq: u32) -> u64 {
        self.hop(HopRecord {
            flow,
            seq: copied_seq,
            sk: 0x50,
            tgid: 60,
            cpu: 1,
            ..empty(Point::TcpRecvmsg, 0)
        })
    }

    /// A thread asks a routing table.
    pub(super) fn ask(&mut self, flow: u64, table: u32) -> u64 {
        self.route(route_record(flow, table, 0))
    }

    /// Nothing happens for a while, and the correlator is told.
    pub(super) fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
        self.correlator.advance(self.now_ns);
    }

    /// The paths that have ended.
    pub(super) fn paths(&mut self) -> Vec<Path> {
        self.correlator.drain().collect()
    }

    /// The only path that has ended, or that ends when what was received settles.
    #[track_caller]
    pub(super) fn path(&mut self) -> Path {
        let paths = match self.paths() {
            none if none.is_empty() => self.all_settled(),
            paths => paths,
        };
        let [path] = &paths[..] else { panic!("one path: {paths:#?}") };
        path.clone()
    }

    /// The paths that have ended, or that end when what was received settles.
    pub(super) fn all_settled(&mut self) -> Vec<Path> {
        self.wait(10_000_000);
        self.paths()
    }

    /// All paths, when the trace is over.
    pub(super) fn finish(&mut self) -> Vec<Path> {
        self.correlator.finish();
        assert_eq!(self.correlator.unfinished(), 0);
        self.paths()
    }
}

/// The names of a path's hops.
pub(super) fn hops(path: &Path) -> Vec<&'static str> {
    path.hops.iter().map(|hop| hop.point.row().hop).collect()
}

/// What is not whole about each.
pub(super) fn reasons(paths: &[Path]) -> Vec<Option<Incomplete>> {
    paths.iter().map(|path| path.incomplete).collect()
}

/// The sequence numbers of each.
pub(super) fn seqs(paths: &[Path]) -> Vec<u32> {
    paths.iter().map(|path| path.tcp.unwrap().seq).collect()
}

/// The time at which a path passed a point.
pub(super) fn time_at(path: &Path, point: Point) -> Option<u64> {
    path.hops.iter().find(|hop| hop.point == point).map(|hop| hop.time_ns)
}

/// The way of a segment up to its socket, as kprobes see it.
pub(super) const WAY: [&str; 7] = [
    "ip_queue_xmit",
    "dev_queue_xmit",
    "loopback_xmit",
    "enqueue_to_backlog",
    "process_backlog",
    "netif_receive_skb",
    "tcp_v4_rcv",
];

/// [`WAY`] with more behind it.
pub(super) fn way_and(more: &[&'static str]) -> Vec<&'static str> {
    [&WAY[..], more].concat()
}
