//! The numbers of the flows that were seen last: a short-cut to the table of all flows, whose look-up hashes the whole key and
//! costs as much as all else that a program does.
//!
//! Several CPUs, and programs that interrupt each other, write the same places without a lock. What they leave may be mixed of
//! two flows; the sum over all words tells, and the flow is looked up in the table then.

use aya_ebpf::{macros::map, maps::Array};
use tracer_common::event::NO_FLOW;

use crate::{
    flow::FlowKey,
    words::{mix, weigh},
};

/// How many places there are, a power of two. Flows that share one take turns.
const PLACES: u32 = 2048;

/// The key, as words.
const WORDS: usize = size_of::<FlowKey>() / size_of::<u64>();

/// The words of a key, the number, and the [`sum`] of both.
type Entry = [u64; WORDS + 2];

#[map]
static NUMBERS: Array<Entry> = Array::with_max_entries(PLACES, 0);

/// The number of a flow, [`NO_FLOW`] if it is not here.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> u64 {
    let key = words(key);
    let Some(entry) = NUMBERS.get_ptr(place(key)) else { return NO_FLOW };
    // SAFETY: an element of the map, which is aligned and lives as long as the map; volatile, as others write it meanwhile. Word by
    // word: the stack has no room for all of them.
    let word = |at| unsafe { entry.cast::<u64>().add(at).read_volatile() };
    let mut differs = 0;
    for (at, wanted) in key.iter().enumerate() {
        differs |= word(at) ^ *wanted;
    }
    let number = word(WORDS);
    if differs == 0 && word(WORDS + 1) == sum(key, number) { number } else { NO_FLOW }
}

/// Keeps the number of a flow.
#[inline(always)]
pub(crate) fn keep(key: &FlowKey, number: u64) {
    let key = words(key);
    if let Some(entry) = NUMBERS.get_ptr_mut(place(key)) {
        // SAFETY: as above.
        let set = |at, word| unsafe { entry.cast::<u64>().add(at).write_volatile(word) };
        for (at, word) in key.iter().enumerate() {
            set(at, *word);
        }
        set(WORDS, number);
        set(WORDS + 1, sum(key, number));
    }
}

#[inline(always)]
fn words(key: &FlowKey) -> &[u64; WORDS] {
    // SAFETY: integers without padding, as many bytes, and aligned as its first field is.
    unsafe { &*core::ptr::from_ref(key).cast() }
}

#[inline(always)]
fn place(key: &[u64; WORDS]) -> u32 {
    // The high bits are the mixed ones.
    (mix(mix(key[0] ^ key[2], key[4]), key[1] ^ key[3]) >> 40) as u32 & (PLACES - 1)
}

#[inline(always)]
fn sum(key: &[u64; WORDS], number: u64) -> u64 {
    let mut sum = number;
    for (at, word) in key.iter().enumerate() {
        sum = sum.wrapping_add(weigh(*word, at));
    }
    sum
}
