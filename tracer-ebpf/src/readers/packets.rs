//! Points that have an `sk_buff` of IP in hand.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};
use tracer_common::{
    event::{AUX_UNKNOWN, MARK_ENTERS, MARK_FORWARDED, MARK_SEVERAL},
    probes::Point,
};

use super::{EMPTY, sockets};
use crate::{
    context::Args,
    counter::add,
    filter,
    flow::{self, AF_INET6, Direction, LOOPBACK},
    kread::{self, Address, offset},
    packet::{NetworkHeader, Packet, TCP, UDP},
    record::{self, Hop, Meta},
};

/// How many CPUs the backlog marks cover; a CPU beyond them polls unseen.
const MAX_CPUS: u32 = 4096;

/// How many traced packets were put on each CPU's backlog; any CPU counts.
#[map]
static QUEUED: Array<u64> = Array::with_max_entries(MAX_CPUS, 0);

/// This CPU's count at its last poll, and at the one before.
#[map]
static POLLED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// The packets that were wanted, where their headers alone do not say that they are: `Packet::fingerprint` by `sk_buff`,
/// as the memory is used again.
#[map]
static WANTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// A packet whose headers are complete. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn packet(args: &impl Args, meta: Meta, skb: usize) {
    on_device(meta, args.arg(skb), 0, 0, NetworkHeader::Recorded);
}

/// [`packet`], if the queue had one. Of several taken at once only the first is seen.
#[inline(always)]
pub(crate) fn dequeued(args: &impl Args, meta: Meta, skb: usize) {
    let skb = args.number(skb);
    if skb != 0 {
        on_device(meta, skb, 0, 0, NetworkHeader::Recorded);
    }
}

/// [`packet`] on its way out. `sk`: the socket that sends it, if one does; a packet that has come in before is marked.
#[inline(always)]
pub(crate) fn outgoing(args: &impl Args, meta: Meta, skb: usize) {
    let skb = args.arg(skb);
    // `__netif_receive_skb_core` sets it; a packet that is made here has none.
    let forwarded = kread::u32_field(skb, &offset::SK_BUFF_IIF) != 0;
    let sk = kread::u64_field(skb, &offset::SK_BUFF_SK);
    on_device(meta, skb, sk, if forwarded { MARK_FORWARDED } else { 0 }, NetworkHeader::Recorded);
}

/// [`packet`] at the driver of its device, the loopback device or another one.
#[inline(always)]
pub(crate) fn packet_to_device(args: &impl Args, meta: Meta, skb: usize, dev: usize) {
    let skb = args.arg(skb);
    if kread::u32_field(args.arg(dev), &offset::NET_DEVICE_IFINDEX) == LOOPBACK {
        if let Some(meta) = meta.at(Point::LoopbackXmit) {
            on_device(meta, skb, 0, 0, NetworkHeader::Recorded);
        }
    } else if let Some(meta) = meta.at(Point::DevHardStartXmit) {
        on_device(meta, skb, 0, 0, NetworkHeader::Recorded);
    }
}

/// A segment on an established socket. Its device and namespace are those of the socket: `tcp_v4_rcv` may have cleared
/// `skb->dev`.
#[inline(always)]
pub(crate) fn established(args: &impl Args, meta: Meta, sk: usize, skb: usize) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(args.arg(skb), NetworkHeader::Recorded) {
        return;
    }
    let point = if packet.key.family == AF_INET6 { Point::TcpV6Rcv } else { Point::TcpV4Rcv };
    if let Some(meta) = meta.at(point) {
        packet.key.net = kread::u64_field(args.arg(sk), &offset::SOCK_NET);
        write(meta, args.arg(skb), args.arg(sk), 0, packet, 0, AUX_UNKNOWN);
    }
}

/// A packet on its way from a device to its protocol. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn received(args: &impl Args, meta: Meta, skb: usize) {
    on_device(meta, args.arg(skb), 0, 0, NetworkHeader::Data);
}

/// A packet that is put on a CPU's backlog. `aux`: that CPU.
#[inline(always)]
pub(crate) fn queued(args: &impl Args, meta: Meta, skb: usize, cpu: usize) {
    to_backlog(meta, args.arg(skb), args.arg(cpu) as u32);
}

/// [`queued`] where the CPU is not said. `aux`: [`AUX_UNKNOWN`].
#[inline(always)]
pub(crate) fn queued_here(args: &impl Args, meta: Meta, skb: usize) {
    to_backlog(meta, args.arg(skb), AUX_UNKNOWN);
}

/// A poll of this CPU's backlog begins. Says nothing of packets, so it is only written where a traced packet may wait:
/// for the two polls after each was queued, as the packet is counted before it is in the queue, and a poll that begins
/// in between leaves it to the next. `aux`: this CPU.
#[inline(always)]
pub(crate) fn poll(_args: &impl Args, meta: Meta, _napi: usize) {
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
        record::hop(meta, Hop { aux: cpu, ..EMPTY });
    }
}

/// A TCP segment before its IP header is written: addresses from the socket, ports from the TCP header.
#[inline(always)]
pub(crate) fn from_socket(args: &impl Args, meta: Meta, sk: usize, skb: usize) {
    let (sk, skb) = (args.arg(sk), args.arg(skb));
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !flow::of_socket(sk, Direction::Out, &mut packet.key) || packet.key.protocol != TCP {
        return;
    }
    let head = kread::u64_field(skb, &offset::SK_BUFF_HEAD);
    let transport = head.wrapping_add(u64::from(kread::u16_field(skb, &offset::SK_BUFF_TRANSPORT_HEADER)));
    let len = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    if packet.read_transport(transport, len) {
        // The route that the socket keeps, from `connect` on.
        let route = kread::u64_field(sk, &offset::SOCK_DST_CACHE);
        let seen = filter::device(kread::u64_field(route, &offset::DST_DEV));
        write(meta, skb, sk, 0, packet, seen, AUX_UNKNOWN);
    }
}

/// Whether `kfree_skb` has an argument for the reason (5.17 and later).
#[unsafe(no_mangle)]
static DROPS_HAVE_REASONS: Global<u32> = Global::new(0);

/// The kernel drops a packet. `sk`: the address in the kernel that does; `aux`: the reason (`enum skb_drop_reason`),
/// [`AUX_UNKNOWN`] on kernels without.
#[inline(always)]
pub(crate) fn dropped(args: &impl Args, meta: Meta, skb: usize, location: usize, reason: usize) {
    let skb = args.arg(skb);
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, NetworkHeader::Recorded) {
        return;
    }
    // With a constant 0 the verifier does not look at the argument that is not there.
    let aux = if DROPS_HAVE_REASONS.load() == 0 { AUX_UNKNOWN } else { args.arg(reason) as u32 };
    // `tcp_v4_rcv` clears `skb->dev`, and UDP lays other things over it, so the namespace is not to be had everywhere.
    // The packet is known by its memory.
    if filter::packet_anywhere(&packet.key) && was_wanted(skb, packet) {
        let Packet { tcp_flags, seq, ack, len, .. } = packet;
        let (sk, tcp_flags) = (args.arg(location), *tcp_flags as u8);
        record::hop(meta, Hop { skb, sk, tcp_flags, seq: *seq, ack: *ack, len: *len, aux, ..EMPTY });
    }
}

/// Whether a packet that is freed now was wanted where it was last seen.
#[inline(always)]
fn was_wanted(skb: Address, packet: &Packet) -> bool {
    if !filter::needs_more_than_headers() {
        return true;
    }
    // SAFETY: an LRU map may hand this entry to another packet meanwhile, whose fingerprint is another one.
    let Some(fingerprint) = unsafe { WANTED.get(skb) }.copied() else { return false };
    let _ = WANTED.remove(skb);
    fingerprint == packet.fingerprint()
}

/// A packet is seen that is not wanted here. It may have been in another namespace: what becomes of it is not for those who
/// asked for that one.
#[inline(always)]
fn is_not_wanted(skb: Address) {
    if filter::has_namespaces() {
        let _ = WANTED.remove(skb);
    }
}

#[inline(always)]
fn on_device(meta: Meta, skb: Address, sk: Address, marks: u16, header: NetworkHeader) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, header) {
        return;
    }
    let dev = kread::u64_field(skb, &offset::SK_BUFF_DEV);
    let ifindex = kread::u32_field(dev, &offset::NET_DEVICE_IFINDEX);
    packet.key.net = kread::u64_field(dev, &offset::NET_DEVICE_NET);
    let mut seen = filter::device(dev);
    // A datagram that has a socket is sent in a call of the process that uses it.
    if sk != 0 && packet.key.protocol == UDP {
        seen |= filter::process();
    }
    if ifindex != LOOPBACK && matches!(header, NetworkHeader::Data) {
        seen |= flow::arrives(&meta, skb, packet);
    }
    let Some(flow) = flow::wanted_packet(packet, seen | meta.marks()) else {
        return is_not_wanted(skb);
    };
    if ifindex != LOOPBACK {
        flow::device(dev, packet.key.net, ifindex);
    }
    let mut marks = marks;
    if sk != 0 && packet.key.protocol == UDP {
        if !filter::is_open() {
            sockets::release_call(&meta, sk);
        }
        // `skb_shinfo()`
        let shared = kread::u64_field(skb, &offset::SK_BUFF_HEAD)
            .wrapping_add(u64::from(kread::u32_field(skb, &offset::SK_BUFF_END)));
        if kread::u16_field(shared, &offset::SHARED_INFO_GSO_SIZE) != 0 {
            marks |= MARK_SEVERAL;
        }
    }
    if filter::needs_more_than_headers() {
        let _ = WANTED.insert(skb, packet.fingerprint(), 0);
    }
    if meta.is_at_driver() {
        flow::leaves(&meta, skb, packet);
    }
    record(meta, skb, sk, marks, packet, flow, ifindex);
}

#[inline(always)]
fn to_backlog(meta: Meta, skb: Address, cpu: u32) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, NetworkHeader::Data) {
        return;
    }
    let dev = kread::u64_field(skb, &offset::SK_BUFF_DEV);
    packet.key.net = kread::u64_field(dev, &offset::NET_DEVICE_NET);
    let (mut seen, mut marks) = (0, 0);
    if kread::u32_field(dev, &offset::NET_DEVICE_IFINDEX) != LOOPBACK {
        seen = flow::arrives(&meta, skb, packet) | filter::device(dev);
        if filter::has_namespaces() {
            marks = MARK_ENTERS;
        }
    }
    if write(meta, skb, 0, marks, packet, seen, cpu) {
        let marked = if cpu == AUX_UNKNOWN { record::cpu() } else { cpu };
        if let Some(queued) = QUEUED.get_ptr_mut(marked) {
            // SAFETY: an aligned element that lives as long as the map.
            unsafe { add(queued, 1) };
        }
    } else {
        is_not_wanted(skb);
    }
}

/// Says whether the filter wants the packet, and writes its record then.
#[inline(always)]
pub(super) fn write(
    meta: Meta,
    skb: Address,
    sk: Address,
    marks: u16,
    packet: &Packet,
    seen: u32,
    aux: u32,
) -> bool {
    let Some(flow) = flow::wanted_packet(packet, seen | meta.marks()) else { return false };
    record(meta, skb, sk, marks, packet, flow, aux);
    true
}

#[inline(always)]
fn record(meta: Meta, skb: Address, sk: Address, marks: u16, packet: &Packet, flow: u64, aux: u32) {
    let Packet { tcp_flags, seq, ack, len, .. } = packet;
    let tcp_flags = *tcp_flags as u8;
    record::hop(meta, Hop { skb, sk, flow, marks, tcp_flags, seq: *seq, ack: *ack, len: *len, aux });
}
