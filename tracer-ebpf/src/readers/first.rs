//! The hop of a packet on a device of which nothing is known yet: its headers are read.

use core::mem::MaybeUninit;

use tracer_common::{
    event::{MARK_ENTERS, MARK_SEVERAL},
    probes::Point,
};

use super::{
    drawn::{First, is_drawn},
    sockets, wanted,
};
use crate::{
    filter,
    flow::{self, LOOPBACK},
    kread::{self, Address, Fields as _, Pointer, Raw, offset},
    packet::{Network, NetworkHeader, Packet, UDP},
    recent,
    record::{self, Hop, Meta, Probe},
    words::mask_if_zero,
};

/// Where a packet is.
#[derive(Clone, Copy)]
pub(super) struct On {
    pub(super) probe: Probe,
    pub(super) ifindex: u32,
    /// `MARK_*`.
    pub(super) marks: u16,
    /// It is put on a CPU's backlog.
    pub(super) is_to_backlog: bool,
}

impl On {
    /// As a number: [`Probe::bits`], the version of IP, whether the packet comes from a device, whether it is put on a backlog,
    /// marks, the device's index.
    #[inline(always)]
    fn bits(&self, version: u8, header: NetworkHeader) -> u64 {
        let is_from_device = u64::from(matches!(header, NetworkHeader::Data));
        self.probe.bits()
            | u64::from(version) << 8
            | is_from_device << 12
            | u64::from(self.is_to_backlog) << 13
            | u64::from(self.marks) << 16
            | u64::from(self.ifindex) << 32
    }
}

/// Writes the record of a packet that is seen for the first time, if the filter wants it, and keeps what was read for its next
/// hops; says whether it was written. `sk_or_cpu`: the socket that sends it, 0 if none does; at the backlog, the CPU.
#[inline(always)]
pub(super) fn hop(
    on: &On,
    dev: impl Pointer,
    skb: impl Pointer,
    sk_or_cpu: u64,
    header: NetworkHeader,
) -> bool {
    let network = Network::of(skb, header);
    let sizes = u64::from(network.len) | u64::from(flow::namespace_of(dev)) << 32;
    let is_written =
        packet_on_device(skb.address(), sk_or_cpu, network.at, sizes, on.bits(network.version, header));
    if on.ifindex == LOOPBACK {
        recent::seal(skb, on.probe.point, dev.address());
    }
    is_written != 0
}

/// [`hop`]. The verifier looks at it once for each program, however often it is called, as it has numbers for arguments and a
/// name of its own (`BTF_FUNC_GLOBAL`); following each way to it would take several times as long, and for the same reason it has
/// few branches. `network`: address of the network header; `sizes`: bytes from there to the packet's end, and above that the
/// namespace; `bits`: [`On::bits`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn packet_on_device(skb: u64, sk_or_cpu: u64, network: u64, sizes: u64, bits: u64) -> u64 {
    let (netns, ifindex) = ((sizes >> 32) as u32, (bits >> 32) as u32);
    let probe = Probe::of_bits(bits);
    let (is_from_device, is_to_backlog) = ((bits >> 12 & 1).wrapping_neg(), (bits >> 13 & 1).wrapping_neg());
    let is_loopback = mask_if_zero(u64::from(ifindex ^ LOOPBACK));
    let sk = sk_or_cpu & !is_to_backlog;
    let aux = u64::from(ifindex) & !is_to_backlog | sk_or_cpu & is_to_backlog;
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(Network { at: network, len: sizes as u32, version: (bits >> 8) as u8 & 0xf }) {
        recent::forget(skb);
        return 0;
    }
    packet.key.netns = netns;
    if !filter::packet(&packet.key) {
        is_not_wanted(skb, packet, is_loopback != 0);
        return 0;
    }
    let meta = probe.now();
    // Read where it is needed only: before 6.18 that takes a helper's call.
    let dev = || Raw(skb).pointer(&offset::SK_BUFF_DEV);
    let is_sent_datagram = mask_if_zero(u64::from(packet.key.protocol ^ UDP)) & !mask_if_zero(sk) != 0;
    let mut marks = (bits >> 16) as u16;
    let mut seen = filter::device(dev);
    // A datagram that has a socket is sent in a call of the process that uses it.
    if filter::needed_of_flow() != 0 && is_sent_datagram {
        seen |= filter::process();
    }
    let has_arrived = is_from_device & !is_loopback;
    if filter::needed_of_flow() != 0 && has_arrived != 0 {
        seen |= flow::arrives(&meta, skb, packet);
    }
    if filter::has_namespaces() {
        marks |= MARK_ENTERS & (has_arrived & is_to_backlog) as u16;
    }
    let Some(flow) = flow::number_of(packet, seen | meta.marks()) else {
        was_not_seen(skb);
        return 0;
    };
    let first = match (ifindex, probe.point as u8) {
        (LOOPBACK, point) if point == Point::DevQueueXmit as u8 => First::OnLoopback,
        (LOOPBACK, _) => First::Never,
        _ if is_from_device != 0 => First::Arriving,
        _ => First::Leaving,
    };
    if !is_drawn(skb, packet, first) {
        if is_sent_datagram {
            sockets::forget_call();
        }
        is_not_drawn(skb, packet, is_loopback != 0);
        return 0;
    }
    if is_loopback != 0 {
        recent::keep(skb, packet, flow);
    } else if is_to_backlog == 0 {
        device_is_named(dev().address(), netns.into(), ifindex.into());
    }
    if is_sent_datagram {
        if !filter::is_open() {
            sockets::release_call(&meta, sk);
        }
        // `skb_shinfo()`
        let skb = Raw(skb);
        let head = skb.address_in(&offset::SK_BUFF_HEAD);
        let shared = Raw(head.wrapping_add(u64::from(skb.field::<u32>(&offset::SK_BUFF_END))));
        let is_whole = mask_if_zero(shared.field::<u16>(&offset::SHARED_INFO_GSO_SIZE).into());
        marks |= MARK_SEVERAL & !is_whole as u16;
    }
    if wanted::are_kept() && is_to_backlog == 0 {
        wanted::keep(skb, packet.fingerprint());
    }
    if filter::needed_of_flow() != 0 && meta.is_at_driver() {
        flow::leaves(&meta, skb, packet);
    }
    record(meta, skb, sk, marks, packet, flow, aux as u32);
    1
}

/// Announces the name of a device, if that is not known. Verified by itself, as [`packet_on_device`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn device_is_named(dev: u64, netns: u64, ifindex: u64) -> u64 {
    flow::device(Raw(dev), netns as u32, ifindex as u32);
    0
}

/// The packet's headers say that it is not wanted.
#[inline(always)]
fn is_not_wanted(skb: Address, packet: &Packet, is_loopback: bool) {
    was_not_seen(skb);
    if !filter::needs_more_than_headers() {
        is_not_drawn(skb, packet, is_loopback);
    }
}

/// The packet is wanted, but not one of those that are traced.
#[inline(always)]
fn is_not_drawn(skb: Address, packet: &Packet, is_loopback: bool) {
    if is_loopback {
        recent::keep_unwanted(skb, packet);
    }
}

/// A packet that is not wanted here may have been in another namespace: what becomes of it is not for those who asked for that
/// one.
#[inline(always)]
fn was_not_seen(skb: Address) {
    if filter::has_namespaces() {
        wanted::forget(skb);
    }
}

/// Writes the record of a packet.
#[inline(always)]
pub(super) fn record(
    meta: Meta,
    skb: Address,
    sk: Address,
    marks: u16,
    packet: &Packet,
    flow: u64,
    aux: u32,
) {
    let Packet { tcp_flags, seq, ack, len, .. } = packet;
    let tcp_flags = *tcp_flags as u8;
    record::hop(meta, Hop { skb, sk, flow, marks, tcp_flags, seq: *seq, ack: *ack, len: *len, aux });
}
