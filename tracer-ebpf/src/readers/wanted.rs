//! The packets that were wanted, where their headers alone do not say that they are.

use aya_ebpf::{macros::map, maps::LruHashMap};

use crate::{filter, kread::Address, packet::Packet, sample};

/// `Packet::fingerprint` by `sk_buff`, as the memory is used again.
#[map]
static WANTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16384, 0);

/// Whether the packet in this memory is one that was wanted.
#[inline(always)]
pub(super) fn is_kept(skb: Address, fingerprint: u64) -> bool {
    // SAFETY: an LRU map may hand this entry to another packet meanwhile, whose fingerprint is another one.
    unsafe { WANTED.get(skb) }.copied() == Some(fingerprint)
}

/// The packet in this memory, which has this `Packet::fingerprint`, is wanted.
#[inline(always)]
pub(super) fn keep(skb: Address, fingerprint: u64) {
    let _ = WANTED.insert(skb, fingerprint, 0);
}

/// That in this memory is not, or not any more.
#[inline(always)]
pub(super) fn forget(skb: Address) {
    let _ = WANTED.remove(skb);
}

/// Whether it is kept which packets are wanted: a constant for the verifier.
#[inline(always)]
pub(super) fn are_kept() -> bool {
    filter::needs_more_than_headers() || sample::is_on()
}

/// Whether a packet that is freed now was wanted where it was last seen.
#[inline(always)]
pub(super) fn was_wanted(skb: Address, packet: &Packet) -> bool {
    if !are_kept() {
        return true;
    }
    let was = is_kept(skb, packet.fingerprint());
    forget(skb);
    was
}
