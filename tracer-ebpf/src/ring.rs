//! Room for records on their way to userspace, in the order in which it was taken.
//!
//! The kernel's ring buffer takes a lock and calls two helpers for each record, which is most of what a hop costs. Since programs can
//! add and fetch at once (5.12), records lie in an array that userspace maps: a program takes the next place by one instruction, and
//! the record's first word, written last, says that it is whole. Older kernels keep the ring buffer.

use aya_ebpf::{
    Global,
    helpers::generated::bpf_ringbuf_submit,
    macros::map,
    maps::{Array, RingBuf},
};
use tracer_common::{
    event::KIND_FILLER,
    settings::{PAIR, Positions, SLOT},
};

use crate::counter::add;
#[cfg(target_arch = "bpf")]
use tracer_common::settings;

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

/// Room for one record, all of whose bytes must be written, and then [its first word](Room::publish).
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
        if size_of::<T>() <= SLOT {
            return slot(take(1)?).map(|slot| Self(slot.cast()));
        }
        // A pair begins at an even place, so one of three is left over.
        let first = take(3)?;
        let is_odd = first & 1;
        let left_over = slot(first + 2 * (1 - is_odd))?;
        // SAFETY: a slot begins with an aligned word.
        unsafe { left_over.write_volatile(KIND_FILLER.into()) };
        pair(first + is_odd).map(|pair| Self(pair.cast()))
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

/// Takes so many places, and says which is the first.
#[inline(always)]
fn take(slots: u64) -> Option<u64> {
    let positions = POSITIONS.get_ptr_mut(0)?;
    // SAFETY: aligned words that live as long as the map; volatile, as others write them meanwhile.
    let (read, taken) = unsafe {
        ((&raw const (*positions).read).read_volatile(), (&raw const (*positions).taken).read_volatile())
    };
    if taken.wrapping_sub(read).wrapping_add(slots) > SLOT_LIMIT.load() {
        return None;
    }
    // SAFETY: as above.
    let (first, read) = unsafe {
        (fetch_add(&raw mut (*positions).taken, slots), (&raw const (*positions).read).read_volatile())
    };
    if first.wrapping_sub(read).wrapping_add(slots) > SLOT_COUNT.load() {
        // More programs than are thought possible have looked before any of them took its places.
        // SAFETY: as above.
        unsafe { add(&raw mut (*positions).overrun, slots) };
        return None;
    }
    Some(first)
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
