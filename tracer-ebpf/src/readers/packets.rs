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
    kread::{self, Address, Fields as _, Pointer, Raw, offset},
    packet::{NetworkHeader, Packet, TCP, UDP},
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

/// The packets that were wanted, where their headers alone do not say that they are: `Packet::fingerprint` by `sk_buff`,
/// as the memory is used again.
#[map]
static WANTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

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
    let forwarded = skb.field::<u32>(&offset::SK_BUFF_IIF) != 0;
    let sk = skb.pointer(&offset::SK_BUFF_SK).address();
    on_device(probe, skb, sk, if forwarded { MARK_FORWARDED } else { 0 }, NetworkHeader::Recorded);
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
    if !packet.read(skb, NetworkHeader::Recorded) {
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
    let head: Address = skb.field(&offset::SK_BUFF_HEAD);
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
        write(probe, skb, sk.address(), packet, filter::device(dev), first);
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
    recent::forget(skb);
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, NetworkHeader::Recorded) {
        return;
    }
    // With a constant 0 the verifier does not look at the argument that is not there.
    let aux = if DROPS_HAVE_REASONS.load() == 0 { AUX_UNKNOWN } else { args.arg(reason) as u32 };
    // `tcp_v4_rcv` clears `skb->dev`, and UDP lays other things over it, so the namespace is not to be had everywhere.
    // The packet is known by its memory.
    let skb = skb.address();
    if filter::packet_anywhere(&packet.key) && was_wanted(skb, packet) {
        let Packet { tcp_flags, seq, ack, len, .. } = packet;
        let sk = args.arg(location);
        let tcp_flags = *tcp_flags as u8;
        let hop = Hop { skb, sk, tcp_flags, seq: *seq, ack: *ack, len: *len, aux, ..EMPTY };
        record::hop(probe.now(), hop);
    }
}

/// Whether a packet that is freed now was wanted where it was last seen.
#[inline(always)]
fn was_wanted(skb: Address, packet: &Packet) -> bool {
    if !filter::needs_more_than_headers() && !sample::is_on() {
        return true;
    }
    let was = is_kept(skb, packet);
    let _ = WANTED.remove(skb);
    was
}

/// Whether the packet in this memory is one that was wanted.
#[inline(always)]
fn is_kept(skb: Address, packet: &Packet) -> bool {
    // SAFETY: an LRU map may hand this entry to another packet meanwhile, whose fingerprint is another one.
    unsafe { WANTED.get(skb) }.copied() == Some(packet.fingerprint())
}

/// Where a packet may be seen for the first time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// It was seen before, if it is one of those that are traced.
    Never,
    /// Its sender hands it to the loopback device, which is the only one that it passes.
    OnLoopback,
    /// Its sender hands it to another device, or that device's driver has it.
    Leaving,
    /// It comes from another device: from another machine, or another namespace of this one.
    Arriving,
}

/// Whether a wanted packet is one of those that are traced.
#[inline(always)]
fn is_in_sample(skb: impl Pointer, packet: &Packet, flow: u64, first: First) -> bool {
    if !sample::is_on() {
        return true;
    }
    let fingerprint = packet.fingerprint();
    let is_data = packet.key.protocol == TCP && packet.len != 0;
    if is_data && sample::has_part(packet, flow) {
        return true;
    }
    let is_drawn = match first {
        First::Never => return !is_data && is_kept(skb.address(), packet),
        First::OnLoopback => !is_data && sample::itself(skb, packet, true),
        First::Leaving => !is_data && sample::itself(skb, packet, false),
        First::Arriving => {
            let is_kept = is_kept(skb.address(), packet);
            let is_drawn = is_kept
                || !sample::has_left(skb.address(), fingerprint) && sample::itself(skb, packet, false);
            // In this namespace its flow has another number.
            if is_drawn && is_data {
                sample::carries(packet, flow);
            }
            is_drawn
        }
    };
    if is_drawn {
        let _ = WANTED.insert(skb.address(), fingerprint, 0);
    } else {
        // Whatever was in this memory before.
        let _ = WANTED.remove(skb.address());
        if first == First::Leaving {
            sample::leaves(skb.address(), fingerprint);
        }
    }
    is_drawn
}

#[inline(always)]
fn on_device(probe: Probe, skb: impl Pointer, sk: Address, marks: u16, header: NetworkHeader) {
    let dev = skb.pointer(&offset::SK_BUFF_DEV);
    let ifindex: u32 = dev.field(&offset::NET_DEVICE_IFINDEX);
    let netns = flow::namespace_of(dev);
    if ifindex == LOOPBACK {
        match recent::find(skb, probe.point, ifindex, netns) {
            Known::Nothing => {}
            Known::Unwanted => return,
            Known::Wanted(hop) => return record::hop(probe.now(), Hop { sk, marks, aux: ifindex, ..hop }),
        }
    }
    if sample::is_on()
        && ifindex == LOOPBACK
        && probe.point as u8 == Point::DevQueueXmit as u8
        && let Some(sender) = sender(skb)
        && sample::passes_by(skb, sender)
    {
        return recent::pass_by(skb, probe.point, ifindex, netns);
    }
    let on = On { probe, ifindex, netns, marks };
    match header {
        NetworkHeader::Recorded => first_on_device::<_, false>(&on, skb, dev, sk),
        NetworkHeader::Data => first_on_device::<_, true>(&on, skb, dev, sk),
    }
}

/// The socket that sends a packet, if one does.
#[inline(always)]
fn sender<P: Pointer>(skb: P) -> Option<P> {
    let sk = skb.pointer(&offset::SK_BUFF_SK);
    if sk.is_null() { None } else { Some(sk) }
}

/// Where a packet is.
struct On {
    probe: Probe,
    ifindex: u32,
    netns: u32,
    marks: u16,
}

/// [`on_device`] for a packet that nothing is known of yet. A frame of its own on the stack.
#[inline(never)]
fn first_on_device<P: Pointer, const IS_DATA: bool>(on: &On, skb: P, dev: P, sk: Address) {
    let On { probe, ifindex, netns, marks } = *on;
    let header = if IS_DATA { NetworkHeader::Data } else { NetworkHeader::Recorded };
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, header) {
        return recent::forget(skb);
    }
    packet.key.netns = netns;
    if !filter::packet(&packet.key) {
        return is_not_wanted(probe, skb, packet, ifindex);
    }
    let meta = probe.now();
    let is_sent_datagram = sk != 0 && packet.key.protocol == UDP;
    let mut seen = filter::device(dev);
    // A datagram that has a socket is sent in a call of the process that uses it.
    if is_sent_datagram {
        seen |= filter::process();
    }
    if ifindex != LOOPBACK && matches!(header, NetworkHeader::Data) {
        seen |= flow::arrives(&meta, skb.address(), packet);
    }
    let Some(flow) = flow::number_of(packet, seen | meta.marks()) else {
        return was_not_seen(skb.address());
    };
    let first = match (ifindex, probe.point as u8) {
        (LOOPBACK, point) if point == Point::DevQueueXmit as u8 => First::OnLoopback,
        (LOOPBACK, _) => First::Never,
        _ if IS_DATA => First::Arriving,
        _ => First::Leaving,
    };
    if !is_in_sample(skb, packet, flow, first) {
        if is_sent_datagram {
            sockets::forget_call();
        }
        return is_not_drawn(probe, skb, packet, ifindex);
    }
    if ifindex == LOOPBACK {
        recent::keep(skb, probe.point, packet, ifindex, flow);
    } else {
        flow::device(dev, netns, ifindex);
    }
    let mut marks = marks;
    if is_sent_datagram {
        if !filter::is_open() {
            sockets::release_call(&meta, sk);
        }
        // `skb_shinfo()`
        let head: Address = skb.field(&offset::SK_BUFF_HEAD);
        let shared = Raw(head.wrapping_add(u64::from(skb.field::<u32>(&offset::SK_BUFF_END))));
        if shared.field::<u16>(&offset::SHARED_INFO_GSO_SIZE) != 0 {
            marks |= MARK_SEVERAL;
        }
    }
    if filter::needs_more_than_headers() || sample::is_on() {
        let _ = WANTED.insert(skb.address(), packet.fingerprint(), 0);
    }
    if meta.is_at_driver() {
        flow::leaves(&meta, skb.address(), packet);
    }
    record(meta, skb.address(), sk, marks, packet, flow, ifindex);
}

#[inline(always)]
fn to_backlog(probe: Probe, skb: impl Pointer, cpu: u32) {
    let dev = skb.pointer(&offset::SK_BUFF_DEV);
    let ifindex: u32 = dev.field(&offset::NET_DEVICE_IFINDEX);
    let netns = flow::namespace_of(dev);
    if ifindex == LOOPBACK {
        match recent::find(skb, probe.point, ifindex, netns) {
            Known::Nothing => {}
            Known::Unwanted => return,
            Known::Wanted(hop) => {
                record::hop(probe.now(), Hop { aux: cpu, ..hop });
                return count_queued(cpu);
            }
        }
    }
    first_to_backlog(&On { probe, ifindex, netns, marks: 0 }, skb, dev, cpu);
}

/// [`to_backlog`] for a packet that nothing is known of yet.
#[inline(never)]
fn first_to_backlog<P: Pointer>(on: &On, skb: P, dev: P, cpu: u32) {
    let On { probe, ifindex, netns, .. } = *on;
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, NetworkHeader::Data) {
        return recent::forget(skb);
    }
    packet.key.netns = netns;
    if !filter::packet(&packet.key) {
        return is_not_wanted(probe, skb, packet, ifindex);
    }
    let meta = probe.now();
    let (mut seen, mut marks) = (0, 0);
    if ifindex != LOOPBACK {
        seen = flow::arrives(&meta, skb.address(), packet) | filter::device(dev);
        if filter::has_namespaces() {
            marks = MARK_ENTERS;
        }
    }
    let Some(flow) = flow::number_of(packet, seen | meta.marks()) else {
        return was_not_seen(skb.address());
    };
    let first = if ifindex == LOOPBACK { First::Never } else { First::Arriving };
    if !is_in_sample(skb, packet, flow, first) {
        return is_not_drawn(probe, skb, packet, ifindex);
    }
    if ifindex == LOOPBACK {
        recent::keep(skb, probe.point, packet, ifindex, flow);
    }
    record(meta, skb.address(), 0, marks, packet, flow, cpu);
    count_queued(cpu);
}

/// A traced packet is put on a CPU's backlog.
#[inline(always)]
fn count_queued(cpu: u32) {
    let marked = if cpu == AUX_UNKNOWN { record::cpu() } else { cpu };
    if let Some(queued) = QUEUED.get_ptr_mut(marked) {
        // SAFETY: an aligned element that lives as long as the map.
        unsafe { add(queued, 1) };
    }
}

/// The packet's headers say that it is not wanted.
#[inline(always)]
fn is_not_wanted(probe: Probe, skb: impl Pointer, packet: &Packet, ifindex: u32) {
    if ifindex == LOOPBACK && !filter::needs_more_than_headers() {
        recent::keep_unwanted(skb, probe.point, packet, ifindex);
    }
    was_not_seen(skb.address());
}

/// The packet is wanted, but not one of those that are traced.
#[inline(always)]
fn is_not_drawn(probe: Probe, skb: impl Pointer, packet: &Packet, ifindex: u32) {
    if ifindex == LOOPBACK {
        recent::keep_unwanted(skb, probe.point, packet, ifindex);
    }
}

/// A packet that is not wanted here may have been in another namespace: what becomes of it is not for those who asked for that
/// one.
#[inline(always)]
fn was_not_seen(skb: Address) {
    if filter::has_namespaces() {
        let _ = WANTED.remove(skb);
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
    if !is_in_sample(skb, packet, flow, first) {
        return None;
    }
    let skb = skb.address();
    record(meta, skb, sk, 0, packet, flow, AUX_UNKNOWN);
    Some(meta)
}

#[inline(always)]
fn record(meta: Meta, skb: Address, sk: Address, marks: u16, packet: &Packet, flow: u64, aux: u32) {
    let Packet { tcp_flags, seq, ack, len, .. } = packet;
    let tcp_flags = *tcp_flags as u8;
    record::hop(meta, Hop { skb, sk, flow, marks, tcp_flags, seq: *seq, ack: *ack, len: *len, aux });
}
