//! Whether a packet that the filter wants is one of those that are traced (`--sample`).

use super::wanted;
use crate::{
    kread::{Address, Raw},
    packet::{Packet, TCP},
    sample,
    words::mix,
};

/// Where a packet may be seen for the first time.
#[derive(Clone, Copy)]
pub(super) enum First {
    /// It was seen before, if it is one of those that are traced.
    Never,
    /// Its sender hands it to the loopback device, which is the only one that it passes.
    OnLoopback,
    /// Its sender hands it to another device, or that device's driver has it.
    Leaving,
    /// It comes from another device: from another machine, or another namespace of this one.
    Arriving,
}

/// The packet is one of TCP.
const IS_TCP: u64 = 1 << 8;

/// Whether a wanted packet is one of those that are traced.
#[inline(always)]
pub(super) fn is_drawn(skb: Address, packet: &Packet, first: First) -> bool {
    if !sample::is_on() {
        return true;
    }
    let fingerprint = packet.fingerprint();
    let is_tcp = if packet.key.protocol == TCP { IS_TCP } else { 0 };
    // Where it may be seen for the first time more than once, what decides is what it says.
    let number = mix(fingerprint, packet.first_bytes) >> 32;
    let range = sample::range(packet.seq, packet.len);
    let bits = first as u64 | is_tcp | number << 32;
    packet_is_drawn(skb, sample::flow_name(&packet.key), fingerprint, range, bits) != 0
}

/// [`is_drawn`]. Verified by itself, as `packet_on_device` in `first`. `flow`: its name; `fingerprint`, `range`: the packet's; `bits`:
/// [`First`], [`IS_TCP`], and above that the number by which it is drawn where it may be seen for the first time more than once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn packet_is_drawn(skb: u64, flow: u64, fingerprint: u64, range: u64, bits: u64) -> u64 {
    const NEVER: u64 = First::Never as u64;
    const ON_LOOPBACK: u64 = First::OnLoopback as u64;
    const LEAVING: u64 = First::Leaving as u64;
    let (is_tcp, first, number) = (bits & IS_TCP != 0, bits & 0xff, (bits >> 32) as u32);
    let is_data = is_tcp && !sample::is_empty(range);
    if is_data && sample::has_part(flow, range) {
        return 1;
    }
    if first == NEVER {
        return (!is_data && wanted::is_kept(skb, fingerprint)).into();
    }
    let is_drawn = if first == ON_LOOPBACK {
        !is_data && sample::itself(Raw(skb), is_tcp)
    } else if first == LEAVING {
        !is_data && sample::is_multiple(number)
    } else {
        let is_drawn = wanted::is_kept(skb, fingerprint)
            || !sample::has_left(skb, fingerprint) && sample::is_multiple(number);
        // In this namespace its flow has another name.
        if is_drawn && is_data {
            sample::carries(flow, range);
        }
        is_drawn
    };
    if is_drawn {
        wanted::keep(skb, fingerprint);
    } else {
        // Whatever was in this memory before.
        wanted::forget(skb);
        if first == LEAVING {
            sample::leaves(skb, fingerprint);
        }
    }
    is_drawn.into()
}
