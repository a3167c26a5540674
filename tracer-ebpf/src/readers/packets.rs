//! Points that have an `sk_buff` of IP in hand.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracer_common::{
    event::{AUX_UNKNOWN, MARK_FORWARDED},
    probes::Point,
};

use super::{
    EMPTY, STREAM,
    drawn::{First, is_drawn},
    first::{self, On},
    wanted,
};
use crate::{
    context::Args,
    counter::add,
    filter,
    flow::{self, AF_INET6, Direction, LOOPBACK},
    kread::{self, Address, Fields as _, Pointer, Raw, offset},
    packet::{Network, NetworkHeader, Packet, TCP},
    recent::{self, Known},
    record::{self, Hop, Meta, Probe},
    sample,
};

/// How many CPUs the backlog marks cover; a CPU beyond them polls unseen.
const MAX_CPUS: u32 = 4096;

/// How many traced packets were put on each CPU's backlog; any CPU counts.
#[map]
static QUEUED: Array<u64> = Array::with_max_entries(MAX_CPUS, 0);

/// This CPU's count at its last poll, and at the one before.
#[map]
static POLLED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// A packet whose headers are complete. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn packet(args: &impl Args, probe: Probe, skb: usize) {
    on_device(probe, args.pointer(skb), 0, 0, NetworkHeader::Recorded);
}

/// [`packet`], if the queue had one. Of several taken at once only the first is seen.
#[inline(always)]
pub(crate) fn dequeued(args: &impl Args, probe: Probe, skb: usize) {
    let skb = args.number(skb);
    if skb != 0 {
        on_device(probe, Raw(skb), 0, 0, NetworkHeader::Recorded);
    }
}

/// [`packet`] on its way out. `sk`: the socket that sends it, if one does; a packet that has come in before is marked.
#[inline(always)]
pub(crate) fn outgoing(args: &impl Args, probe: Probe, skb: usize) {
    let skb = args.pointer(skb);
    // `__netif_receive_skb_core` sets it; a packet that is made here has none.
    let is_forwarded = skb.field::<u32>(&offset::SK_BUFF_IIF) != 0;
    let sk = skb.pointer(&offset::SK_BUFF_SK).address();
    on_device(probe, skb, sk, if is_forwarded { MARK_FORWARDED } else { 0 }, NetworkHeader::Recorded);
}

/// [`packet`] at the driver of its device, the loopback device or another one.
#[inline(always)]
pub(crate) fn packet_to_device(args: &impl Args, probe: Probe, skb: usize, dev: usize) {
    let skb = args.pointer(skb);
    if args.pointer(dev).field::<u32>(&offset::NET_DEVICE_IFINDEX) == LOOPBACK {
        if let Some(probe) = probe.at(Point::LoopbackXmit) {
            on_device(probe, skb, 0, 0, NetworkHeader::Recorded);
        }
    } else if let Some(probe) = probe.at(Point::DevHardStartXmit) {
        on_device(probe, skb, 0, 0, NetworkHeader::Recorded);
    }
}

/// A segment on an established socket. Its device and namespace are those of the socket: `tcp_v4_rcv` may have cleared
/// `skb->dev`.
#[inline(always)]
pub(crate) fn established(args: &impl Args, probe: Probe, sk: usize, skb: usize) {
    let (sk, skb) = (args.pointer(sk), args.pointer(skb));
    let (known, is_v6) = recent::find_received(skb);
    match known {
        Known::Unwanted => return,
        Known::Wanted(hop) => {
            if let Some(probe) = probe.at(if is_v6 { Point::TcpV6Rcv } else { Point::TcpV4Rcv }) {
                record::hop(probe.now(), Hop { sk: sk.address(), ..hop });
            }
            return;
        }
        Known::Nothing => {}
    }
    first_received(probe, skb, sk);
}

/// [`established`] for a segment that nothing is known of yet.
#[inline(never)]
fn first_received<P: Pointer>(probe: Probe, skb: P, sk: P) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(Network::of(skb, NetworkHeader::Recorded)) {
        return;
    }
    let point = if packet.key.family == AF_INET6 { Point::TcpV6Rcv } else { Point::TcpV4Rcv };
    if let Some(probe) = probe.at(point) {
        packet.key.netns = flow::inode_of(sk.pointer(&offset::SOCK_NET));
        write(probe, skb, sk.address(), packet, 0, First::Never);
    }
}

/// A packet on its way from a device to its protocol. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn received(args: &impl Args, probe: Probe, skb: usize) {
    on_device(probe, args.pointer(skb), 0, 0, NetworkHeader::Data);
}

/// A packet that is put on a CPU's backlog. `aux`: that CPU.
#[inline(always)]
pub(crate) fn queued(args: &impl Args, probe: Probe, skb: usize, cpu: usize) {
    to_backlog(probe, args.pointer(skb), args.arg(cpu) as u32);
}

/// [`queued`] where the CPU is not said. `aux`: [`AUX_UNKNOWN`].
#[inline(always)]
pub(crate) fn queued_here(args: &impl Args, probe: Probe, skb: usize) {
    to_backlog(probe, args.pointer(skb), AUX_UNKNOWN);
}

/// A poll of this CPU's backlog begins. Says nothing of packets, so it is only written where a traced packet may wait:
/// for the two polls after each was queued, as the packet is counted before it is in the queue, and a poll that begins
/// in between leaves it to the next. `aux`: this CPU.
#[inline(always)]
pub(crate) fn poll(_args: &impl Args, probe: Probe, _napi: usize) {
    let cpu = record::cpu();
    let (Some(queued), Some(polled)) = (QUEUED.get_ptr(cpu), POLLED.get_ptr_mut(0)) else { return };
    // SAFETY: aligned elements that live as long as the maps; `QUEUED` is written by other CPUs, whole, hence volatile,
    // `POLLED` by this CPU's polls only, which do not interrupt each other.
    let (queued, before_last) = unsafe {
        let queued = queued.read_volatile();
        let [last, before_last] = *polled;
        *polled = [queued, last];
        (queued, before_last)
    };
    if queued != before_last {
        record::hop(probe.now(), Hop { aux: cpu, ..EMPTY });
    }
}

/// A TCP segment before its IP header is written: addresses from the socket, ports from the TCP header.
#[inline(always)]
pub(crate) fn from_socket(args: &impl Args, probe: Probe, sk: usize, skb: usize) {
    let (sk, skb) = (args.pointer(sk), args.pointer(skb));
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !flow::of_socket(sk, Direction::Out, &mut packet.key) || packet.key.protocol != TCP {
        return;
    }
    let head = skb.address_in(&offset::SK_BUFF_HEAD);
    let transport = head.wrapping_add(u64::from(skb.field::<u16>(&offset::SK_BUFF_TRANSPORT_HEADER)));
    if packet.read_transport(transport, skb.field(&offset::SK_BUFF_LEN)) {
        // The route that the socket keeps, from `connect` on.
        let route = sk.pointer(&offset::SOCK_DST_CACHE);
        if route.is_null() {
            return;
        }
        let dev = route.pointer(&offset::DST_DEV);
        let is_loopback = dev.field::<u32>(&offset::NET_DEVICE_IFINDEX) == LOOPBACK;
        let first = if is_loopback { First::OnLoopback } else { First::Leaving };
        write(probe, skb, sk.address(), packet, filter::device(|| dev), first);
    }
}

/// Whether `kfree_skb` has an argument for the reason (5.17 and later).
#[unsafe(no_mangle)]
static DROPS_HAVE_REASONS: Global<u32> = Global::new(0);

/// The kernel drops a packet. `sk`: the address in the kernel that does; `aux`: the reason (`enum skb_drop_reason`),
/// [`AUX_UNKNOWN`] on kernels without.
#[inline(always)]
pub(crate) fn dropped(args: &impl Args, probe: Probe, skb: usize, location: usize, reason: usize) {
    let skb = args.pointer(skb);
    recent::forget(skb.address());
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(Network::of(skb, NetworkHeader::Recorded)) {
        return;
    }
    // With a constant 0 the verifier does not look at the argument that is not there.
    let aux = if DROPS_HAVE_REASONS.load() == 0 { AUX_UNKNOWN } else { args.arg(reason) as u32 };
    // `tcp_v4_rcv` clears `skb->dev`, and UDP lays other things over it, so the namespace is not to be had everywhere.
    // The packet is known by its memory.
    let skb = skb.address();
    if filter::packet_anywhere(&packet.key) && wanted::was_wanted(skb, packet) {
        let Packet { tcp_flags, seq, ack, len, .. } = packet;
        let sk = args.arg(location);
        let tcp_flags = *tcp_flags as u8;
        let hop = Hop { skb, sk, tcp_flags, seq: *seq, ack: *ack, len: *len, aux, ..EMPTY };
        record::hop(probe.now(), hop);
    }
}

#[inline(always)]
fn on_device(probe: Probe, skb: impl Pointer, sk: Address, marks: u16, header: NetworkHeader) {
    let dev = skb.pointer(&offset::SK_BUFF_DEV);
    let ifindex: u32 = dev.field(&offset::NET_DEVICE_IFINDEX);
    // What is kept of a packet begins with that hop.
    if ifindex == LOOPBACK && probe.point as u8 != Point::DevQueueXmit as u8 {
        match recent::find(skb, probe.point, dev.address()) {
            Known::Nothing => {}
            Known::Unwanted => return,
            Known::Wanted(hop) => return record::hop(probe.now(), Hop { sk, marks, aux: ifindex, ..hop }),
        }
    }
    if ifindex == LOOPBACK
        && probe.point as u8 == Point::DevQueueXmit as u8
        && (sample::is_on() || filter::ports_may_suffice())
    {
        let transport = transport(skb);
        // A look first, where it costs little: most packets that are wanted are spared what else tells those that are not.
        let looks = kread::memory_is_loaded();
        let first = if looks { u64::from_be(kread::read(transport, 0)) } else { 0 };
        if sample::is_on() || !looks || has_other_ports(first) {
            let numbers = passes_by(skb, transport, first);
            if numbers != IS_READ {
                return recent::pass_by(skb, probe.point, dev.address(), numbers);
            }
        }
    }
    let on = On { probe, ifindex, marks, is_to_backlog: false };
    first::hop(&on, dev, skb, sk, header);
}

/// `enum tcp_state` of those that are no whole sockets: `TCP_TIME_WAIT`, `TCP_NEW_SYN_RECV`.
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;

/// What [`passes_by`] says of a packet that is to be read. The one segment of 2^64 that has these numbers is read, too.
const IS_READ: u64 = u64::MAX;

/// Where a segment's header is: `__tcp_transmit_skb()` has set it.
#[inline(always)]
fn transport(skb: impl Pointer) -> Address {
    let transport = u64::from(skb.field::<u16>(&offset::SK_BUFF_TRANSPORT_HEADER));
    skb.address_in(&offset::SK_BUFF_HEAD).wrapping_add(transport)
}

/// Whether the ports that a segment's header begins with are not wanted. They are read there, as translation of addresses may have changed
/// them.
#[inline(always)]
fn has_other_ports(first: u64) -> bool {
    filter::ports_may_suffice() && !filter::wants_ports((first >> 48) as u16, (first >> 32) as u16)
}

/// If a packet that is handed to the loopback device need not be read, its sequence number and that which it acknowledges above: a socket
/// of TCP has made it, and its ports, or that its call was not drawn, say that it is not wanted. `transport`: where its header is, if it
/// has one, and `first`, that header's first word, if [`kread::memory_is_loaded`]. A frame of its own on the stack.
#[inline(never)]
fn passes_by(skb: impl Pointer, transport: Address, first: u64) -> u64 {
    let sk = skb.pointer(&offset::SK_BUFF_SK);
    if sk.is_null() {
        return IS_READ;
    }
    let state: u8 = sk.field(&offset::SOCK_STATE);
    // What a raw socket of TCP's sends may be anything.
    let is_segment = state != TIME_WAIT
        && state != NEW_SYN_RECV
        && sk.field::<u16>(&offset::SOCK_PROTOCOL) == u16::from(TCP)
        && sk.field::<u16>(&offset::SOCK_TYPE) == STREAM;
    if !is_segment {
        return IS_READ;
    }
    let (first, second) = if kread::memory_is_loaded() {
        (first, u64::from_be(kread::read(transport, 8)))
    } else {
        let [first, second]: [u64; 2] = kread::read(transport, 0);
        (u64::from_be(first), u64::from_be(second))
    };
    if has_other_ports(first) || sample::passes_by(skb, sk.address()) {
        first & u64::from(u32::MAX) | second & !u64::from(u32::MAX)
    } else {
        IS_READ
    }
}

#[inline(always)]
fn to_backlog(probe: Probe, skb: impl Pointer, cpu: u32) {
    let dev = skb.pointer(&offset::SK_BUFF_DEV);
    let ifindex: u32 = dev.field(&offset::NET_DEVICE_IFINDEX);
    if ifindex == LOOPBACK {
        match recent::find(skb, probe.point, dev.address()) {
            Known::Nothing => {}
            Known::Unwanted => return,
            Known::Wanted(hop) => {
                record::hop(probe.now(), Hop { aux: cpu, ..hop });
                return count_queued(cpu);
            }
        }
    }
    let on = On { probe, ifindex, marks: 0, is_to_backlog: true };
    if first::hop(&on, dev, skb, u64::from(cpu), NetworkHeader::Data) {
        count_queued(cpu);
    }
}

/// A traced packet is put on a CPU's backlog, whose polls may be seen.
#[inline(always)]
fn count_queued(cpu: u32) {
    if !record::is_asked(Point::ProcessBacklog) {
        return;
    }
    let marked = if cpu == AUX_UNKNOWN { record::cpu() } else { cpu };
    if let Some(queued) = QUEUED.get_ptr_mut(marked) {
        // SAFETY: an aligned element that lives as long as the map.
        unsafe { add(queued, 1) };
    }
}

/// A datagram that its protocol has: see [`write`].
#[inline(always)]
pub(super) fn write_received(
    probe: Probe,
    skb: impl Pointer,
    sk: Address,
    packet: &Packet,
    seen: u32,
) -> Option<Meta> {
    write(probe, skb, sk, packet, seen, First::Never)
}

/// Writes the record of a packet, if the filter wants it; gives the moment then.
#[inline(always)]
fn write(
    probe: Probe,
    skb: impl Pointer,
    sk: Address,
    packet: &Packet,
    seen: u32,
    first: First,
) -> Option<Meta> {
    if !filter::packet(&packet.key) {
        return None;
    }
    let meta = probe.now();
    let flow = flow::number_of(packet, seen | meta.marks())?;
    let skb = skb.address();
    if !is_drawn(skb, packet, first) {
        return None;
    }
    first::record(meta, skb, sk, 0, packet, flow, AUX_UNKNOWN);
    Some(meta)
}
