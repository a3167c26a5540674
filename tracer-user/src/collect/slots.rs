//! Reads the records that programs write into slots, in the order in which they took them (`tracer-ebpf/src/ring.rs`).

use std::{
    mem::offset_of,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use tracer_common::{
    event::{self, KIND_FILLER},
    settings::{PAIR, Positions, SLOT},
};

use super::ring::MOST_SLOTS;

const SLOT_WORDS: usize = SLOT / size_of::<u64>();
const PAIR_WORDS: usize = PAIR / size_of::<u64>();

const TAKEN: usize = offset_of!(Positions, taken) / size_of::<u64>();
const OVERRUN: usize = offset_of!(Positions, overrun) / size_of::<u64>();
const READ: usize = offset_of!(Positions, read) / size_of::<u64>();

/// So many slots are given back at once, as programs have to fetch the number from another CPU whenever it changes.
const GIVEN_BACK_AT_ONCE: u64 = 64;

/// How many slots are used at least before the first one is again.
const NEAR: usize = 512;

/// The slots, and how far they have been read.
pub(super) struct Slots<M> {
    words: M,
    positions: M,
    /// The first word of the slot that is read next, and how far it is from the first when that is used again.
    next: usize,
    far: usize,
    /// How many slots have been read, and how many of them programs know to be.
    read: u64,
    given_back: u64,
    /// Slots that were taken and are never written.
    skipped: u64,
    record: [u64; PAIR_WORDS],
}

impl<M: Deref<Target = [AtomicU64]>> Slots<M> {
    /// `words`: those of a power of two of slots, of which programs leave `spare`.
    pub(super) fn new(words: M, positions: M, spare: usize) -> Self {
        let far = NEAR.max(spare + MOST_SLOTS) * SLOT_WORDS;
        Self { words, positions, next: 0, far, read: 0, given_back: 0, skipped: 0, record: [0; PAIR_WORDS] }
    }

    /// The next record; `None` if there is none, or it is not whole yet. `wait` returns when all programs that are at work now
    /// have ended.
    #[inline]
    pub(super) fn next(&mut self, wait: impl Fn()) -> Option<&[u8]> {
        loop {
            // Its first word is written last.
            let first = self.word(0).load(Ordering::Acquire);
            if first == 0 {
                if !self.may_be_skipped() {
                    return None;
                }
                // Whoever has taken a slot to write to it does so before it ends.
                wait();
                if self.word(0).load(Ordering::Acquire) == 0 {
                    self.skipped += 1;
                    self.free(1);
                }
                continue;
            }
            let [kind, ..] = first.to_ne_bytes();
            if kind == KIND_FILLER {
                self.free(1);
                continue;
            }
            // Of a kind that is none, all there is: who decodes it says so.
            let len = event::len(kind).map_or(SLOT, |len| len.min(PAIR));
            let words = len.div_ceil(size_of::<u64>());
            for at in 0..words {
                self.record[at] = self.word(at).load(Ordering::Relaxed);
            }
            self.free(len.div_ceil(SLOT));
            // SAFETY: integers have no padding.
            return Some(&unsafe { plain::as_bytes(&self.record) }[..len]);
        }
    }

    /// A word of the slots that are read next.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words[(self.next + at) & (self.words.len() - 1)]
    }

    /// The next slots can be used again.
    #[inline]
    fn free(&mut self, slots: usize) {
        for slot in 0..slots {
            self.word(slot * SLOT_WORDS).store(0, Ordering::Relaxed);
        }
        self.next = (self.next + slots * SLOT_WORDS) & (self.words.len() - 1);
        self.read += slots as u64;
        if self.read - self.given_back >= GIVEN_BACK_AT_ONCE {
            self.give_back();
        }
    }

    /// Programs are told which slots can be used again: from the first one on, if all have been read, as that is in the caches of
    /// those who use it.
    pub(super) fn give_back_all(&mut self) {
        self.give_back();
        let left = (self.words.len() - self.next) / SLOT_WORDS;
        let taken = &self.positions[TAKEN];
        // A program that does not know yet how many have been read takes those between for used: fewer than there must be for it
        // to find room.
        if self.next >= self.far
            && taken
                .compare_exchange(self.read, self.read + left as u64, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            self.read += left as u64;
            self.next = 0;
            self.give_back();
        }
    }

    /// Programs are told how many slots have been read.
    fn give_back(&mut self) {
        self.given_back = self.read;
        self.positions[READ].store(self.read, Ordering::Release);
    }

    /// Whether the next slot may have been taken in vain.
    fn may_be_skipped(&self) -> bool {
        self.positions[TAKEN].load(Ordering::Acquire) != self.read
            && self.positions[OVERRUN].load(Ordering::Acquire) != self.skipped
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize},
        thread,
    };

    use tracer_common::event::{KIND_DEVICE, KIND_HOP, KIND_UNIX_NAME};

    use super::*;

    const COUNT: usize = 1024;
    const FIRST: u64 = KIND_HOP as u64;

    /// What programs and userspace share.
    struct Shared {
        slots: Vec<AtomicU64>,
        positions: Vec<AtomicU64>,
    }

    fn zeroes(words: usize) -> Vec<AtomicU64> {
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }

    impl Shared {
        fn new() -> Self {
            Self { slots: zeroes(COUNT * SLOT_WORDS), positions: zeroes(size_of::<Positions>() / 8) }
        }

        fn reader(&self) -> Slots<&[AtomicU64]> {
            Slots::new(&self.slots, &self.positions, 0)
        }

        fn taken(&self, slots: u64) -> u64 {
            self.positions[TAKEN].fetch_add(slots, Ordering::SeqCst)
        }

        fn write(&self, position: u64, word: usize, value: u64) {
            let at = usize::try_from(position).unwrap() % COUNT * SLOT_WORDS + word;
            self.slots[at].store(value, if word == 0 { Ordering::Release } else { Ordering::Relaxed });
        }

        /// As programs do: a record with this number in each word but the first.
        fn fill(&self, position: u64, words: usize, number: usize) {
            (1..words).for_each(|word| self.write(position, word, number as u64));
        }

        fn hop(&self, number: usize) {
            let position = self.taken(1);
            self.fill(position, SLOT_WORDS, number);
            self.write(position, 0, FIRST);
        }

        fn name(&self, number: usize) {
            let first = self.taken(3);
            let is_odd = first & 1;
            self.write(first + 2 * (1 - is_odd), 0, KIND_FILLER.into());
            self.fill(first + is_odd, PAIR_WORDS, number);
            self.write(first + is_odd, 0, KIND_UNIX_NAME.into());
        }
    }

    fn nobody() {}

    fn never() {
        unreachable!("nothing was skipped");
    }

    /// The numbers of the record's words; all must be one.
    fn number(record: &[u8]) -> usize {
        let mut numbers = record.chunks(8).skip(1).map(|word| usize::from_ne_bytes(word.try_into().unwrap()));
        let first = numbers.next().unwrap();
        assert!(numbers.all(|number| number == first));
        first
    }

    #[test]
    fn records_come_in_the_order_of_their_slots_time_and_again() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        for lap in 0..500 {
            for at in 0..7 {
                let number = 1 + lap * 7 + at;
                if number % 5 == 0 { shared.name(number) } else { shared.hop(number) }
            }
            for at in 0..7 {
                let expected = 1 + lap * 7 + at;
                let record = reader.next(never).unwrap();
                let kind = if expected % 5 == 0 { KIND_UNIX_NAME } else { KIND_HOP };
                assert_eq!((record[0], record.len()), (kind, event::len(kind).unwrap()));
                assert_eq!(number(record), expected);
            }
            assert!(reader.next(never).is_none());
        }
        reader.give_back_all();
        assert_eq!(shared.positions[READ].load(Ordering::SeqCst), shared.taken(0));
    }

    #[test]
    fn nothing_is_read_before_its_first_word_is_there() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        let position = shared.taken(1);
        shared.fill(position, SLOT_WORDS, 1);
        shared.hop(2);
        assert!(reader.next(never).is_none());
        shared.write(position, 0, FIRST);
        assert_eq!(number(reader.next(never).unwrap()), 1);
        assert_eq!(number(reader.next(never).unwrap()), 2);
    }

    #[test]
    fn shorter_records_have_their_own_length_and_unknown_ones_a_slot() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        for kind in [KIND_DEVICE, 0x77] {
            let position = shared.taken(1);
            shared.fill(position, SLOT_WORDS, 3);
            shared.write(position, 0, kind.into());
        }
        assert_eq!(reader.next(never).unwrap().len(), event::len(KIND_DEVICE).unwrap());
        assert_eq!(reader.next(never).unwrap().len(), SLOT);
    }

    #[test]
    fn slots_are_given_back_some_at_once() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        let read = || shared.positions[READ].load(Ordering::SeqCst);
        for _ in 1..GIVEN_BACK_AT_ONCE {
            shared.hop(7);
            reader.next(never).unwrap();
        }
        assert_eq!(read(), 0);
        shared.hop(7);
        reader.next(never).unwrap();
        assert_eq!(read(), GIVEN_BACK_AT_ONCE);
    }

    #[test]
    fn the_first_slots_are_used_again_when_all_have_been_read() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        let read = |reader: &mut Slots<&[AtomicU64]>, records| {
            for expected in 1..=records {
                shared.hop(expected);
                assert_eq!(number(reader.next(never).unwrap()), expected);
            }
            reader.give_back_all();
            (shared.taken(0), shared.positions[READ].load(Ordering::SeqCst))
        };
        let near = NEAR as u64;
        assert_eq!(read(&mut reader, NEAR - 1), (near - 1, near - 1));
        assert_eq!(read(&mut reader, 1), (COUNT as u64, COUNT as u64));
        // Not while there is a record that has not been read.
        assert_eq!(read(&mut reader, NEAR - 1), (COUNT as u64 + near - 1, COUNT as u64 + near - 1));
        shared.hop(1);
        shared.hop(2);
        reader.next(never).unwrap();
        reader.give_back_all();
        assert_eq!(shared.taken(0), COUNT as u64 + near + 1);
        assert_eq!(number(reader.next(never).unwrap()), 2);
    }

    #[test]
    fn a_slot_that_was_taken_in_vain_is_skipped() {
        let shared = Shared::new();
        let mut reader = shared.reader();
        shared.taken(1);
        shared.hop(1);
        assert!(reader.next(never).is_none());
        shared.positions[OVERRUN].store(1, Ordering::SeqCst);
        assert_eq!(number(reader.next(nobody).unwrap()), 1);
        // One that is written while the programs end is none.
        let late = shared.taken(1);
        shared.positions[OVERRUN].store(2, Ordering::SeqCst);
        let write = || {
            shared.fill(late, SLOT_WORDS, 2);
            shared.write(late, 0, FIRST);
        };
        assert_eq!(number(reader.next(write).unwrap()), 2);
        assert!(reader.next(never).is_none());
    }

    /// Programs on several CPUs, as the kernel side takes slots, against one reader.
    #[test]
    fn each_record_comes_once_and_whole_while_others_are_written() {
        const PROGRAMS: usize = 4;
        const RECORDS: usize = 20_000;
        let shared = Shared::new();
        let lost = AtomicUsize::new(0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let programs: Vec<_> = (0..PROGRAMS)
                .map(|program| {
                    let (shared, lost) = (&shared, &lost);
                    scope.spawn(move || {
                        for number in 1..=RECORDS {
                            let read = shared.positions[READ].load(Ordering::Acquire);
                            let used = shared.positions[TAKEN].load(Ordering::Relaxed).wrapping_sub(read);
                            if used + 3 > (COUNT - PROGRAMS * 3) as u64 {
                                lost.fetch_add(1, Ordering::Relaxed);
                                thread::yield_now();
                            } else if number % 8 == 0 {
                                shared.name(number << 8 | program);
                            } else {
                                shared.hop(number << 8 | program);
                            }
                        }
                    })
                })
                .collect();
            let read = scope.spawn(|| {
                let mut reader = shared.reader();
                let mut newest = [0; PROGRAMS];
                let mut count = 0;
                loop {
                    let was_done = done.load(Ordering::Acquire);
                    while let Some(record) = reader.next(never) {
                        let number = number(record);
                        let newest = &mut newest[number & 0xff];
                        assert!(*newest < number >> 8, "{newest} before {number:x}");
                        *newest = number >> 8;
                        count += 1;
                    }
                    reader.give_back_all();
                    if was_done {
                        return count;
                    }
                }
            });
            for program in programs {
                program.join().unwrap();
            }
            done.store(true, Ordering::Release);
            assert_eq!(read.join().unwrap() + lost.load(Ordering::Relaxed), PROGRAMS * RECORDS);
        });
    }
}
