//! Room for records on their way to userspace, in the order in which it was taken.
//!
//! The kernel's ring buffer takes a lock and calls two helpers for each record, a third and more of what a hop cost. Since programs can
//! add and fetch at once (5.12), records lie in an array that userspace maps (`collect/slots.rs` reads it): a program takes the next place by one instruction, and
//! the record's first word, written last, says that it is whole. Older kernels keep the ring buffer.

use aya_ebpf::{
    Global,
    helpers::generated::bpf_ringbuf_submit,
    macros::map,
    maps::{Array, RingBuf},
};
#[cfg(target_arch = "bpf")]
use tracer_common::settings;
use tracer_common::{
    event::KIND_FILLER,
    settings::{HOLES, MOST_SLOTS, PAIR, Positions, SLOT},
};

/// A wake-up of the reader costs more than a hundred events, so none is sent: the reader looks on a timer.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// `BPF_F_MMAPABLE`
const MAPPABLE: u32 = 1 << 10;

/// The sizes of both are set by userspace; one of them is not used.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Two slots an element, as the longest record takes two.
#[map]
static SLOTS: Array<[u64; PAIR / 8]> = Array::with_max_entries(1, MAPPABLE);

#[map]
static POSITIONS: Array<Positions> = Array::with_max_entries(1, MAPPABLE);

/// How many slots there are, a power of two; 0: the ring buffer is used.
#[unsafe(no_mangle)]
static SLOT_COUNT: Global<u64> = Global::new(0);

/// How many of them may be in use when a program looks.
#[unsafe(no_mangle)]
static SLOT_LIMIT: Global<u64> = Global::new(0);

/// Room for one record. Whoever has it must write all of the record's words but the first, and then [publish](Room::publish) it with
/// that: the reader waits for it.
#[must_use]
pub(crate) struct Room<T>(*mut T);

impl<T: 'static> Room<T> {
    /// `None` if there is none.
    #[inline(always)]
    pub(crate) fn take() -> Option<Self> {
        const { assert!(size_of::<T>() <= PAIR && size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
        if SLOT_COUNT.load() == 0 {
            // It is submitted by its address.
            return EVENTS.reserve::<T>(0).map(|mut entry| Self(entry.as_mut_ptr()));
        }
        let slots = if size_of::<T>() <= SLOT { 1 } else { MOST_SLOTS as u64 };
        let first = take(slots)?;
        let place = if slots == 1 { slot(first) } else { pair_among_three(first) };
        if place.is_none() {
            // There is no such slot: the map has as many as are counted.
            hole(first, slots);
        }
        place.map(|place| Self(place.cast()))
    }

    #[inline(always)]
    pub(crate) fn as_mut_ptr(&self) -> *mut T {
        self.0
    }

    /// Hands the record over: `first` is its first word, with the kind in the first byte.
    #[inline(always)]
    pub(crate) fn publish(self, first: u64) {
        // SAFETY: an aligned word of the record. Volatile, and so after all others that are; x86 keeps the order, and userspace uses
        // the ring buffer elsewhere.
        unsafe { self.0.cast::<u64>().write_volatile(first) };
        if SLOT_COUNT.load() == 0 {
            // SAFETY: the memory was reserved, and is not used any more.
            unsafe { bpf_ringbuf_submit(self.0.cast(), BPF_RB_NO_WAKEUP) };
        }
    }
}

/// Takes so many slots, and says which is the first.
#[inline(always)]
fn take(slots: u64) -> Option<u64> {
    let positions = POSITIONS.get_ptr_mut(0)?;
    // SAFETY: aligned words that live as long as the map; volatile, as others write them meanwhile.
    let (read, taken) = unsafe {
        let read = (&raw const (*positions).read).read_volatile();
        (read, (&raw const (*positions).taken).read_volatile())
    };
    if taken.wrapping_sub(read).wrapping_add(slots) > SLOT_LIMIT.load() {
        return None;
    }
    // SAFETY: as above.
    let (first, read) = unsafe {
        let first = fetch_add(&raw mut (*positions).taken, slots);
        (first, (&raw const (*positions).read).read_volatile())
    };
    if first.wrapping_sub(read).wrapping_add(slots) > SLOT_COUNT.load() {
        // More programs than are thought possible have looked before any of them took its slots.
        hole(first, slots);
        return None;
    }
    Some(first)
}

/// There was no room for a record: the reader is told before anything that happens later.
#[inline(always)]
pub(crate) fn lose() {
    let Some(positions) = POSITIONS.get_ptr_mut(0) else { return };
    // SAFETY: aligned words that live as long as the map; volatile, as others write them meanwhile.
    unsafe {
        // First this: whoever loses a record after it is counted goes on after it as well, and so behind these slots, however late
        // this program says so. (Where the ring buffer is used none is taken, and it says nothing.)
        let taken = (&raw const (*positions).taken).read_volatile();
        let before = fetch_add(&raw mut (*positions).lost, 1);
        if before == (&raw const (*positions).acknowledged).read_volatile() {
            (&raw mut (*positions).lost_from).write_volatile(taken);
        }
    }
}

/// The reader is told that it need not wait for these slots. Verified by itself, as hardly any record comes here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hole(first: u64, slots: u64) -> u64 {
    let Some(positions) = POSITIONS.get_ptr_mut(0) else { return 0 };
    // SAFETY: aligned words that live as long as the map.
    unsafe {
        let index = fetch_add(&raw mut (*positions).holes_made, 1) as usize % HOLES;
        (&raw mut (*positions).holes).cast::<u64>().add(index).write_volatile(first << 2 | slots);
    }
    0
}

/// A pair begins at an even position, so one of three slots is left over.
#[inline(always)]
fn pair_among_three(first: u64) -> Option<*mut u64> {
    let is_odd = first & 1;
    let left_over = slot(first + 2 * (1 - is_odd))?;
    // SAFETY: a slot begins with an aligned word.
    unsafe { left_over.write_volatile(KIND_FILLER.into()) };
    pair(first + is_odd)
}

/// The slot at this position.
#[inline(always)]
fn slot(position: u64) -> Option<*mut u64> {
    let pair = pair(position)?;
    // SAFETY: one of the two slots of the pair.
    Some(unsafe { pair.add((position & 1) as usize * (SLOT / 8)) })
}

/// The two slots of which one is at this position.
#[inline(always)]
fn pair(position: u64) -> Option<*mut u64> {
    let index = (position & (SLOT_COUNT.load() - 1)) >> 1;
    SLOTS.get_ptr_mut(index as u32).map(<*mut _>::cast)
}

/// Adds to a word and says what it was.
///
/// # Safety
/// `word` must be valid for reads and writes, and aligned.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one aligned 8-byte read-modify-write at an address that the caller vouches for. The compiler knows no
        // such instruction for the oldest instruction set.
        unsafe {
            core::arch::asm!(".quad {add}", add = const settings::FETCH_ADD, in("r1") word, inlateout("r2") value, options(nostack));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: as above.
    unsafe {
        let before = word.read();
        word.write(before.wrapping_add(value));
        before
    }
}
