//! Records in, paths out. Pure: no clock, no I/O, and the same records always give the same paths.
//!
//! What makes two hops hops of one packet:
//! * the address of its `sk_buff`, as long as the hops come in the order of the path and the headers stay the same; a
//!   hop that is not further along the path begins a new packet in the same memory (`packets`);
//! * for a segment that the device layer cut off a larger packet, the flow and the sequence numbers
//!   (`segments`);
//! * for a routing question, the thread that asked and the flow it asked for (`routes`);
//! * for the poll that took it off a backlog, the CPU that the packet was received on (`packets`);
//! * for the send call, the flow, the socket and the sequence numbers (`sends`), or the thread and the socket (`datagrams`);
//! * for the wake-up and the read, the flow and the sequence numbers (`delivery`);
//! * for the scheduler's part, the socket that a thread was woken for and the thread that reads (`wakes`);
//! * on UNIX sockets, the thread that sends, and the `sk_buff`s that it queues and the reader copies (`unix`).
//!
//! The records of one packet arrive in the order in which they happened, whatever CPUs they come from: room in the
//! ring buffer is taken in one order, and each hop happens after the one before it. When in doubt a path is
//! incomplete: two packets are never joined. Where records were lost, any path that was under way is in doubt (`loss`).

mod ahead;
mod datagrams;
mod delivery;
mod drops;
mod flows;
mod in_flight;
mod loss;
mod names;
mod packets;
mod queue;
mod receiving;
mod routes;
mod segments;
mod sends;
mod unix;
mod wakes;

#[cfg(test)]
mod tests;

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::{Backend, Point},
};

pub(crate) use self::ahead::GROUP;
use self::{
    ahead::Recent,
    datagrams::Datagrams,
    flows::{FlowState, Flows},
    in_flight::{InFlight, Packet, PacketKey, UNNUMBERED, Who},
    loss::LostUntil,
    names::Names,
    receiving::{Receiving, SETTLE_NS},
    routes::Routes,
    segments::AtDevice,
    unix::UnixSockets,
    wakes::Wakes,
};
use crate::{
    decode::Record,
    model::{Coverage, Devices, Hop, Incomplete, Path, Route, Routing, Tcp},
};

/// Bounds on what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets on their way, or received and not read.
    pub in_flight: usize,
    /// Flows, UNIX sockets, process names and devices, of each.
    pub known: usize,
    /// How long a packet may be between two hops before it is given up, ns.
    pub patience_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Four times the kernel's table of flows, of which fewer are known: `flows` says how many.
        Self { in_flight: 1 << 18, known: 1 << 18, patience_ns: 2_000_000_000 }
    }
}

/// Builds paths from records.
pub struct Correlator {
    limits: Limits,
    coverage: Coverage,
    flows: Flows,
    names: Names,
    in_flight: InFlight,
    at_device: AtDevice,
    receiving: Receiving,
    routes: Routes,
    unix: UnixSockets,
    datagrams: Datagrams,
    wakes: Wakes,
    /// `CLOCK_MONOTONIC`, ns, after which no path begins.
    closes_at_ns: Option<u64>,
    lost: LostUntil,
    /// The time of the latest record, or the latest time given.
    now_ns: u64,
    /// When there can be something that has waited too long.
    settle_at_ns: u64,
    /// When a packet on its way can have been idle for too long.
    lose_at_ns: u64,
    next_id: u64,
    ready: Vec<Path>,
    /// Room for the packets that one read ends; empty between records.
    read_now: Vec<PacketKey>,
    recent: Recent,
    malformed: u64,
}

impl Correlator {
    /// A correlator for a run that sees `coverage`.
    pub fn new(coverage: Coverage, limits: Limits) -> Self {
        Self {
            flows: Flows::new(limits.known),
            names: Names::new(limits.known),
            unix: UnixSockets::new(limits.known),
            datagrams: Datagrams::default(),
            wakes: Wakes::default(),
            limits,
            coverage,
            in_flight: InFlight::default(),
            at_device: AtDevice::default(),
            receiving: Receiving::default(),
            routes: Routes::default(),
            closes_at_ns: None,
            lost: LostUntil::default(),
            now_ns: 0,
            settle_at_ns: 0,
            lose_at_ns: 0,
            next_id: 1,
            ready: Vec::new(),
            read_now: Vec::new(),
            recent: Recent::default(),
            malformed: 0,
        }
    }

    /// Takes one record.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Hop(hop) => self.hop(hop),
            Record::Flow(flow) => self.flows.announce(flow),
            Record::Task(task) => self.names.announce_task(task),
            Record::Device(device) => self.names.announce_device(device),
            Record::UnixName(name) => self.unix_name(name),
            Record::Unix(unix) => self.unix_hop(unix),
            Record::Route(route) => self.route(route),
            Record::Name(name) => self.names.announce_name(name),
            Record::Loss(loss) => self.loss(loss),
        }
    }

    /// The paths that have come to an end since the last call, in the order in which they ended.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Path> {
        self.ready.drain(..)
    }

    /// Shows the same paths, whose memory then serves the next ones. After an error the rest is not shown.
    pub fn show<E>(&mut self, to: impl FnMut(&Path) -> Result<(), E>) -> Result<(), E> {
        let shown = self.ready.iter().try_for_each(to);
        for path in self.ready.drain(..) {
            self.in_flight.reuse(path.hops);
        }
        shown
    }

    /// Packets on their way, or received and not read.
    pub fn unfinished(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether packets were sent, were seen at `since_ns` (`CLOCK_MONOTONIC`) or later, and have not been received; those
    /// that a driver has may have left for good.
    pub fn has_packets_under_way(&self, since_ns: u64) -> bool {
        self.in_flight.has_packets_under_way(since_ns)
    }

    /// Hop records that name no probe point.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// From now on no path begins; those that have begun may end. `time_ns`: `CLOCK_MONOTONIC`.
    pub fn close(&mut self, time_ns: u64) {
        self.closes_at_ns = Some(time_ns);
    }

    /// Ends what has waited too long. `now_ns`: `CLOCK_MONOTONIC`, at or after the last record. The times of records
    /// do the same, so that a recording ends as the live run did; but while nothing happens, no record says so.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.settle_received(now_ns);
        self.settle_at_ns = now_ns.saturating_add(SETTLE_NS);
        let patience = self.limits.patience_ns;
        if now_ns < self.lose_at_ns && self.lose_at_ns - now_ns <= patience.saturating_add(1) {
            return;
        }
        // What a driver has either comes back at once, or has left.
        let with_driver = patience.min(WITH_DRIVER_NS);
        let (idle, next) = self
            .in_flight
            .idle(now_ns, |packet| if packet.is_with_driver() { with_driver } else { patience });
        for key in idle {
            self.lose_track(key);
        }
        // Whatever begins from now on has the shorter patience at least.
        let soonest = now_ns.saturating_add(with_driver);
        self.lose_at_ns = next.unwrap_or(soonest).min(soonest).max(now_ns).saturating_add(1);
    }

    /// Ends everything: the trace is over.
    pub fn finish(&mut self) {
        self.advance(self.now_ns);
        self.settle_received(u64::MAX);
        self.finish_calls();
        for key in self.in_flight.oldest_first() {
            let reason = match self.in_flight.get(key) {
                Some(packet) if packet.message().is_some_and(|message| message.is_open) => {
                    Some(if packet.awaits_reader { Incomplete::TraceEnded } else { Incomplete::CallFailed })
                }
                Some(packet) if packet.awaits_reader => {
                    let reset =
                        packet.read_on().and_then(|flow| self.flows.get(flow)).is_some_and(|flow| flow.reset);
                    Some(if reset { Incomplete::NeverRead } else { Incomplete::NotRead })
                }
                Some(packet) => gone(packet, Incomplete::TraceEnded),
                None => continue,
            };
            self.end(key, reason);
        }
        self.unix.finish();
        self.datagrams.finish();
        self.receiving.finish();
        (self.routes, self.wakes) = (Routes::default(), Wakes::default());
    }

    fn hop(&mut self, record: &HopRecord) {
        let Some(mut hop) = self.hop_of(record.point, record.backend, record.cpu, record.time_ns) else {
            return;
        };
        hop.aux = record.aux;
        let flow = self.flows.find(record.flow);
        hop.netns = flow.and_then(|flow| self.flows.get(flow)).map_or(0, FlowState::netns);
        match hop.point {
            Point::ProcessBacklog => self.receiving.poll(hop),
            Point::TcpSendmsg => {
                if let Some(flow) = flow {
                    self.tcp_send(flow, record, hop);
                }
            }
            Point::UdpSendmsg | Point::Udpv6Sendmsg => self.datagrams.call(record, hop),
            Point::TcpRecvmsg => {
                if let Some(flow) = flow {
                    self.read(flow, record, hop);
                }
            }
            Point::UdpRecvmsg => self.datagram_read(flow, record, hop),
            Point::SockDefReadable if record.skb != 0 => self.datagram_readable(flow, record, hop),
            Point::SockDefReadable => {
                if let Some(flow) = flow {
                    self.readable(flow, record, hop);
                }
            }
            Point::SchedWaking => self.wakes.waking(record, hop),
            Point::SchedSwitch => self.wakes.switched(record, hop),
            Point::KfreeSkb => self.dropped(record, hop),
            Point::IpQueueXmit
            | Point::Ip6Xmit
            | Point::DevQueueXmit
            | Point::QdiscEnqueue
            | Point::QdiscDequeue
            | Point::DevHardStartXmit
            | Point::LoopbackXmit
            | Point::EnqueueToBacklog
            | Point::NetifReceiveSkb
            | Point::TcpV4Rcv
            | Point::TcpV6Rcv
            | Point::UdpRcv
            | Point::Udpv6Rcv => self.packet(flow, record, hop),
            // These come in records of their own kinds.
            Point::FibLookup
            | Point::Fib6Lookup
            | Point::UnixStreamConnect
            | Point::UnixStreamSendmsg
            | Point::UnixDgramSendmsg
            | Point::UnixAccept
            | Point::UnixStreamRecvmsg
            | Point::UnixDgramRecvmsg => self.malformed += 1,
        }
    }

    /// What every kind of hop record says, and the time that has come; `None` if it names no probe point.
    fn hop_of(&mut self, point: u8, backend: u8, cpu: u16, time_ns: u64) -> Option<Hop> {
        let (Some(point), Some(backend)) = (Point::from_wire(point), Backend::from_wire(backend)) else {
            self.malformed += 1;
            return None;
        };
        self.now_ns = self.now_ns.max(time_ns);
        // The second half: a time that makes no sense must not stop the clock.
        if time_ns >= self.settle_at_ns || self.settle_at_ns - time_ns > 2 * SETTLE_NS {
            self.advance(time_ns);
        }
        Some(Hop { point, backend, cpu: cpu.into(), time_ns, aux: AUX_UNKNOWN, netns: 0 })
    }

    /// The next number of a path.
    fn number(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Keeps a packet that has begun its way; makes room if there is none.
    #[inline]
    fn keep(&mut self, packet: Packet) -> PacketKey {
        if self.in_flight.len() >= self.limits.in_flight
            && let Some(oldest) = self.in_flight.oldest()
        {
            self.end(oldest, Some(Incomplete::TooMany));
        }
        self.in_flight.insert(packet)
    }

    /// Gives a packet up that was not seen for too long.
    fn lose_track(&mut self, key: PacketKey) {
        let Some(packet) = self.in_flight.get(key) else { return };
        let reason = gone(packet, Incomplete::LostTrack);
        self.end(key, reason);
    }

    /// Ends a path. A reason that the packet has had since its start wins.
    fn end(&mut self, key: PacketKey, incomplete: Option<Incomplete>) {
        let Some(packet) = self.in_flight.get(key) else { return };
        let (awaited, waits_on) = (packet.awaits_reader, packet.read_on());
        if awaited {
            self.waits_no_more(waits_on, key);
        }
        let Some(mut packet) = self.in_flight.remove(key) else { return };
        packet.doubt = self.doubt(&packet);
        if packet.doubt == Some(Incomplete::EventsLost) {
            loss::forget_what_was_joined(&mut packet);
        }
        self.at_device.remove(packet.at_device, key);
        let id = if packet.id == UNNUMBERED { self.number() } else { packet.id };
        let reads = waits_on.and_then(|flow| self.flows.get(flow)).and_then(|state| state.receiver);
        let flow = packet.flow.and_then(|flow| self.flows.get(flow));
        let is_one = |state: &&FlowState| !state.several_send && !state.is_called_on_another(packet.sent_by);
        let sends = flow.filter(is_one).and_then(|state| state.sender);
        // Where it was not seen who did it with this packet, it is known which process does it on the flow.
        let task = |seen: Option<Who>, on_flow: Option<u32>| {
            seen.or(on_flow.map(Who::process)).map(|who| self.names.task(who))
        };
        let devices: Devices =
            packet.on_devices.iter().map(|(netns, ifindex)| self.names.device(*netns, *ifindex)).collect();
        if awaited && !packet.is_tcp && (incomplete.is_some() || packet.dropped.is_some()) {
            let flow = waits_on.and_then(|flow| self.flows.get(flow)).map(FlowState::flow);
            let was_taken = packet.dropped.is_none();
            self.datagrams.forget(flow, key, was_taken, self.now_ns.max(packet.last_ns()));
        }
        let icmp = flow.and_then(|state| packet.header.icmp(state.protocol()));
        let path = Path {
            id,
            flow: flow.map(FlowState::flow),
            unix: packet.message.as_deref_mut().map(|message| self.unix.describe(message)),
            tcp: packet.tcp(),
            icmp,
            retransmitted: packet.retransmitted,
            len: packet.len,
            devices,
            routing: self.routing(&packet),
            sender: task(packet.sender, sends),
            receiver: task(packet.receiver, reads),
            hops: packet.hops,
            dropped: packet.dropped.as_deref().map(|dropped| self.names.dropped(*dropped)),
            incomplete: packet.doubt.or(incomplete),
        };
        self.ready.push(path);
        if let Some(flow) = waits_on.filter(|_| awaited) {
            self.flows.idle(flow);
        }
        if let Some(message) = packet.message {
            self.unix.ended(&message, key, &self.in_flight);
            self.in_flight.reuse_message(message);
        }
    }

    /// How a packet came to its route.
    fn routing(&self, packet: &Packet) -> Routing {
        if !packet.routes.is_empty() {
            let device = |route: &in_flight::Route| {
                (route.ifindex != 0).then(|| self.names.device(route.netns, route.ifindex))
            };
            let routes = packet.routes.iter().map(|route| Route {
                time_ns: route.time_ns,
                table: route.table,
                route_type: route.route_type,
                device: device(route),
                source: route.source,
                error: route.error,
            });
            return Routing::Asked(routes.collect());
        }
        // Questions are joined from the first hop on; a path that begins behind them cannot tell.
        let first = packet.hops.first().map(|hop| hop.point);
        let asks = match first {
            Some(Point::IpQueueXmit) => Point::FibLookup,
            Some(Point::Ip6Xmit) => Point::Fib6Lookup,
            Some(Point::TcpSendmsg | Point::UdpSendmsg | Point::Udpv6Sendmsg) => {
                let is_v6 = packet.flow.and_then(|flow| self.flows.get(flow)).is_some_and(FlowState::is_ipv6);
                if is_v6 { Point::Fib6Lookup } else { Point::FibLookup }
            }
            _ => return Routing::Unknown,
        };
        // `udp_sendmsg` asks for each datagram that names an address: it was not seen.
        if !packet.is_tcp && !packet.to_peer {
            return Routing::Unknown;
        }
        // Whoever connects has asked, only it was not seen.
        if packet.tcp().is_some_and(|tcp| tcp.flags & Tcp::SYN != 0) && !packet.retransmitted {
            return Routing::Unknown;
        }
        let is_whole = packet.doubt.is_none() && packet.passed(Point::DevQueueXmit);
        if is_whole && self.coverage.sees(asks) { Routing::Cached } else { Routing::Unknown }
    }
}

/// How long a packet that the driver of a device has may take to come out of another one, ns. Emulated machines take
/// milliseconds.
const WITH_DRIVER_NS: u64 = 100_000_000;

/// Why a packet that nobody is known to have ended its way, if it is not seen any more; `otherwise` if nothing is known.
fn gone(packet: &Packet, otherwise: Incomplete) -> Option<Incomplete> {
    match packet.message() {
        // Its reader has taken it.
        Some(message) if message.unseen > 0 => Some(Incomplete::ReadNotSeen),
        Some(_) => Some(Incomplete::CallFailed),
        // That a packet leaves the machine is an end like any other.
        None if packet.is_with_driver() => None,
        None if packet.left_by_device() => Some(Incomplete::LeftByDevice),
        None => Some(otherwise),
    }
}

/// The process in whose name the kernel ran, if it did.
fn process(record: &HopRecord) -> Option<u32> {
    (record.tgid != 0).then_some(record.tgid)
}
