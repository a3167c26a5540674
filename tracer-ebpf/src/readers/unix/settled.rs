//! The sockets that were looked up last, and of which nothing was to be found out then: a short-cut to the table of all sockets.
//!
//! An answer holds until anything changes that an answer is made from, which a number tells: it is read before the table is, and
//! added to after the table was changed, so whatever was read before the change is known to be old.
//!
//! Several CPUs write the same places without a lock. What they leave may be mixed of two sockets, which the sum over all
//! words tells.

use aya_ebpf::{macros::map, maps::Array};

use crate::{
    counter::add,
    kread::Address,
    words::{mix, weigh},
};

/// How many places there are, a power of two. Sockets that share one take turns.
const PLACES: u32 = 2048;

/// The socket, its inode and what was seen of it, its peer, the number of changes, and the sum of all of them.
type Entry = [u64; 5];

#[map]
static SETTLED: Array<Entry> = Array::with_max_entries(PLACES, 0);

/// How often a socket became wanted, or ceased to be, or got the memory of another one.
#[map]
static CHANGES: Array<u64> = Array::with_max_entries(1, 0);

/// What was found out of a socket.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    /// Number of its inode.
    pub(super) inode: u32,
    /// As in `known`.
    pub(super) seen: u32,
    /// Where its data goes, 0 if that is not known.
    pub(super) peer: Address,
}

/// The number of changes up to now.
#[inline(always)]
pub(super) fn changes() -> u64 {
    // SAFETY: an aligned element that lives as long as the map; volatile, as others write it.
    CHANGES.get_ptr(0).map_or(0, |count| unsafe { count.read_volatile() })
}

/// All that was found out is to be found out again; nothing is if `mask` is 0.
#[inline(always)]
pub(super) fn change_if(mask: u64) {
    if let Some(count) = CHANGES.get_ptr_mut(0) {
        // SAFETY: as above, and atomic.
        unsafe { add(count, mask & 1) };
    }
}

/// What was found out of the socket in this memory, if it still holds.
#[inline(always)]
pub(super) fn find(sk: Address) -> Option<Settled> {
    let entry = SETTLED.get_ptr(place(sk))?;
    // SAFETY: within an aligned element that lives as long as the map; volatile, as others write it.
    let word = |at| unsafe { entry.cast::<u64>().add(at).read_volatile() };
    let (inode_and_seen, peer, at) = (word(1), word(2), word(3));
    let is_it = word(0) == sk && word(4) == sum(sk, inode_and_seen, peer, at) && at == changes();
    is_it.then_some(Settled { inode: inode_and_seen as u32, seen: (inode_and_seen >> 32) as u32, peer })
}

/// Keeps what was found out when there were so many `changes`.
#[inline(always)]
pub(super) fn keep(sk: Address, settled: Settled, changes: u64) {
    let Settled { inode, seen, peer } = settled;
    let inode_and_seen = u64::from(seen) << 32 | u64::from(inode);
    if let Some(entry) = SETTLED.get_ptr_mut(place(sk)) {
        let words = [sk, inode_and_seen, peer, changes, sum(sk, inode_and_seen, peer, changes)];
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { entry.cast::<u64>().add(at).write_volatile(word) };
        }
    }
}

#[inline(always)]
fn place(sk: Address) -> u32 {
    (mix(0, sk) >> 40) as u32 & (PLACES - 1)
}

#[inline(always)]
fn sum(sk: Address, inode_and_seen: u64, peer: Address, changes: u64) -> u64 {
    let mut sum = 0u64;
    for (at, word) in [sk, inode_and_seen, peer, changes].into_iter().enumerate() {
        sum = sum.wrapping_add(weigh(word, at));
    }
    sum
}
