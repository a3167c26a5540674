//! Reads the records that programs write into slots, in the order in which they took them (`tracer-ebpf/src/ring.rs`).

use std::{
    mem::offset_of,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use tracer_common::{
    event::{self, KIND_FILLER},
    settings::{HOLES, PAIR, Positions, SLOT},
};

use super::{loss::Lost, ring::Size};

const SLOT_WORDS: usize = SLOT / size_of::<u64>();
const PAIR_WORDS: usize = PAIR / size_of::<u64>();

const HOLES_MADE: usize = offset_of!(Positions, holes_made) / size_of::<u64>();
const LOST: usize = offset_of!(Positions, lost) / size_of::<u64>();
const LOST_FROM: usize = offset_of!(Positions, lost_from) / size_of::<u64>();
const ACKNOWLEDGED: usize = offset_of!(Positions, acknowledged) / size_of::<u64>();
const READ: usize = offset_of!(Positions, read) / size_of::<u64>();
const HOLES_AT: usize = offset_of!(Positions, holes) / size_of::<u64>();

/// So many slots are given back at once, as programs have to fetch the number from another CPU whenever it changes.
const GIVEN_BACK_AT_ONCE: u64 = 64;

/// The slots, and how far they have been read.
pub(super) struct Slots<M> {
    words: M,
    positions: M,
    /// The first word of the slot that is read next.
    next: usize,
    /// How many slots have been read, and how many of them programs know to be.
    read: u64,
    given_back: u64,
    /// So many are given back at once.
    at_once: u64,
    record: [u64; PAIR_WORDS],
}

impl<M: Deref<Target = [AtomicU64]>> Slots<M> {
    /// `words`: those of as many slots as `size` says.
    pub(super) fn new(words: M, positions: M, size: Size) -> Self {
        let at_once = GIVEN_BACK_AT_ONCE.min((size.limit as u64 / 8).max(1));
        Self { words, positions, next: 0, read: 0, given_back: 0, at_once, record: [0; PAIR_WORDS] }
    }

    /// The next record, its position, and what was lost by then; `None` if there is none, or it is not whole yet.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(&[u8], u64, Lost)> {
        loop {
            // Its first word is written last.
            let first = self.word(0).load(Ordering::Acquire);
            if first == 0 {
                let slots = self.hole()?;
                self.free(slots);
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
            let position = self.read;
            self.free(len.div_ceil(SLOT));
            let lost = lost(&self.positions);
            // SAFETY: integers have no padding.
            return Some((&unsafe { plain::as_bytes(&self.record) }[..len], position, lost));
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
        if self.read - self.given_back >= self.at_once {
            self.give_back();
        }
    }

    /// Programs are told how many slots have been read.
    pub(super) fn give_back(&mut self) {
        self.given_back = self.read;
        self.positions[READ].store(self.read, Ordering::Release);
    }

    /// What programs and reader tell each other.
    pub(super) fn positions(&self) -> &[AtomicU64] {
        &self.positions
    }

    /// How many slots from the next one on will not be written, though they were taken.
    #[cold]
    fn hole(&self) -> Option<usize> {
        if self.positions[HOLES_MADE].load(Ordering::Relaxed) == 0 {
            return None;
        }
        let holes = self.positions[HOLES_AT..][..HOLES].iter().map(|hole| hole.load(Ordering::Relaxed));
        let of_next = holes.filter(|hole| hole >> 2 == self.read && hole & 3 != 0);
        of_next.map(|hole| (hole & 3) as usize).next()
    }
}

/// What was lost so far, where `positions` are those of [`Positions`]. The place is read behind the count: that of a loss which comes
/// in between is not missed, as the loss itself is.
#[inline]
pub(super) fn lost(positions: &impl Deref<Target = [AtomicU64]>) -> Lost {
    Lost {
        count: positions[LOST].load(Ordering::Acquire),
        from: positions[LOST_FROM].load(Ordering::Relaxed),
    }
}

/// The first program that loses a record from now on says where. Until it has, the place is that of earlier losses, which one of their
/// programs may still be about to say: before it nothing was lost later.
pub(super) fn acknowledge(positions: &[AtomicU64], lost: Lost) {
    positions[ACKNOWLEDGED].store(lost.count, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::atomic::AtomicBool, thread};

    use tracer_common::{
        event::{KIND_DEVICE, KIND_HOP, KIND_UNIX_NAME},
        settings::MOST_SLOTS,
    };

    use super::{super::loss::LossWatch, *};

    const SIZE: Size = Size { count: 1024, limit: 1012 };
    const FIRST: u64 = KIND_HOP as u64;
    const TAKEN: usize = offset_of!(Positions, taken) / size_of::<u64>();

    /// What programs and userspace share.
    struct Shared {
        size: Size,
        slots: Vec<AtomicU64>,
        positions: Vec<AtomicU64>,
    }

    fn zeroes(words: usize) -> Vec<AtomicU64> {
        (0..words).map(|_| AtomicU64::new(0)).collect()
    }

    impl Shared {
        fn new(size: Size) -> Self {
            let slots = zeroes(size.count * SLOT_WORDS);
            Self { size, slots, positions: zeroes(size_of::<Positions>() / 8) }
        }

        fn reader(&self) -> Slots<&[AtomicU64]> {
            Slots::new(&self.slots, &self.positions, self.size)
        }

        fn taken(&self, slots: u64) -> u64 {
            self.positions[TAKEN].fetch_add(slots, Ordering::SeqCst)
        }

        fn read(&self) -> u64 {
            self.positions[READ].load(Ordering::SeqCst)
        }

        /// As programs do (`tracer-ebpf/src/ring.rs`).
        fn take(&self, slots: u64) -> Option<u64> {
            let read = self.read();
            if self.positions[TAKEN].load(Ordering::SeqCst).wrapping_sub(read) + slots
                > self.size.limit as u64
            {
                return None;
            }
            // Whoever else is at work may come in between.
            thread::yield_now();
            let first = self.taken(slots);
            if first.wrapping_sub(self.read()) + slots > self.size.count as u64 {
                self.hole(first, slots);
                return None;
            }
            Some(first)
        }

        fn hole(&self, first: u64, slots: u64) {
            let index =
                usize::try_from(self.positions[HOLES_MADE].fetch_add(1, Ordering::SeqCst)).unwrap() % HOLES;
            self.positions[HOLES_AT + index].store(first << 2 | slots, Ordering::SeqCst);
        }

        /// As programs do. Returns how many were lost by then.
        fn lose(&self) -> u64 {
            let taken = self.positions[TAKEN].load(Ordering::SeqCst);
            let before = self.positions[LOST].fetch_add(1, Ordering::SeqCst);
            if before == self.positions[ACKNOWLEDGED].load(Ordering::SeqCst) {
                self.positions[LOST_FROM].store(taken, Ordering::SeqCst);
            }
            before + 1
        }

        fn write(&self, position: u64, word: usize, value: u64) {
            let at = usize::try_from(position).unwrap() % self.size.count * SLOT_WORDS + word;
            self.slots[at].store(value, if word == 0 { Ordering::Release } else { Ordering::Relaxed });
        }

        /// A record with this number in each word but the first.
        fn fill(&self, position: u64, words: usize, number: usize) {
            (1..words).for_each(|word| self.write(position, word, number as u64));
        }

        fn hop(&self, number: usize) -> bool {
            let Some(position) = self.take(1) else { return false };
            self.fill(position, SLOT_WORDS, number);
            self.write(position, 0, FIRST);
            true
        }

        fn name(&self, number: usize) -> bool {
            let Some(first) = self.take(MOST_SLOTS as u64) else { return false };
            let is_odd = first & 1;
            self.write(first + 2 * (1 - is_odd), 0, KIND_FILLER.into());
            self.fill(first + is_odd, PAIR_WORDS, number);
            self.write(first + is_odd, 0, KIND_UNIX_NAME.into());
            true
        }
    }

    /// The number in the record's words; all must be one.
    fn number((record, _, _): (&[u8], u64, Lost)) -> usize {
        let mut numbers = record.chunks(8).skip(1).map(|word| usize::from_ne_bytes(word.try_into().unwrap()));
        let first = numbers.next().unwrap();
        assert!(numbers.all(|number| number == first));
        first
    }

    #[test]
    fn records_come_in_the_order_of_their_slots_time_and_again() {
        let shared = Shared::new(SIZE);
        let mut reader = shared.reader();
        for lap in 0..500 {
            for at in 0..7 {
                let number = 1 + lap * 7 + at;
                assert!(if number % 5 == 0 { shared.name(number) } else { shared.hop(number) });
            }
            for at in 0..7 {
                let expected = 1 + lap * 7 + at;
                let read = reader.next().unwrap();
                let kind = if expected % 5 == 0 { KIND_UNIX_NAME } else { KIND_HOP };
                assert_eq!((read.0[0], read.0.len()), (kind, event::len(kind).unwrap()));
                assert_eq!(number(read), expected);
            }
            assert!(reader.next().is_none());
        }
        reader.give_back();
        assert_eq!(shared.read(), shared.taken(0));
    }

    #[test]
    fn nothing_is_read_before_its_first_word_is_there() {
        let shared = Shared::new(SIZE);
        let mut reader = shared.reader();
        let position = shared.taken(1);
        shared.fill(position, SLOT_WORDS, 1);
        assert!(shared.hop(2) && reader.next().is_none());
        shared.write(position, 0, FIRST);
        assert_eq!(number(reader.next().unwrap()), 1);
        assert_eq!(number(reader.next().unwrap()), 2);
    }

    #[test]
    fn shorter_records_have_their_own_length_and_unknown_ones_a_slot() {
        let shared = Shared::new(SIZE);
        let mut reader = shared.reader();
        for kind in [KIND_DEVICE, 0x77] {
            let position = shared.taken(1);
            shared.fill(position, SLOT_WORDS, 3);
            shared.write(position, 0, kind.into());
        }
        assert_eq!(reader.next().unwrap().0.len(), event::len(KIND_DEVICE).unwrap());
        assert_eq!(reader.next().unwrap().0.len(), SLOT);
    }

    #[test]
    fn slots_are_given_back_some_at_once_and_of_a_few_slots_fewer() {
        for (size, at_once) in [(SIZE, GIVEN_BACK_AT_ONCE), (Size { count: 128, limit: 64 }, 8)] {
            let shared = Shared::new(size);
            let mut reader = shared.reader();
            for read in 1..=at_once {
                assert!(shared.hop(7) && reader.next().is_some());
                assert_eq!(shared.read(), if read == at_once { at_once } else { 0 });
            }
        }
    }

    #[test]
    fn slots_that_were_taken_in_vain_are_passed_by() {
        let shared = Shared::new(SIZE);
        let mut reader = shared.reader();
        for slots in [1, 3] {
            let first = shared.taken(slots);
            assert!(shared.hop(1) && reader.next().is_none());
            shared.hole(first, slots);
            assert_eq!(number(reader.next().unwrap()), 1);
        }
        // Another one is waited for, and another hole does not matter.
        let late = shared.taken(1);
        let first = shared.taken(2);
        shared.hole(first, 2);
        assert!(shared.hop(3) && reader.next().is_none());
        shared.fill(late, SLOT_WORDS, 2);
        shared.write(late, 0, FIRST);
        assert_eq!(number(reader.next().unwrap()), 2);
        assert_eq!(number(reader.next().unwrap()), 3);
        assert!(reader.next().is_none());
    }

    /// Positions of which a program loses a record right before the reader looks at one of them for the time that is said.
    struct Interrupted<'a> {
        shared: &'a Shared,
        looks: Cell<usize>,
        at: usize,
    }

    impl Deref for Interrupted<'_> {
        type Target = [AtomicU64];

        fn deref(&self) -> &[AtomicU64] {
            if self.looks.replace(self.looks.get() + 1) == self.at {
                self.shared.lose();
            }
            &self.shared.positions
        }
    }

    #[test]
    fn a_loss_that_comes_while_the_reader_looks_is_seen_with_its_place() {
        let looks = [0, 1, 2].map(|at| {
            let shared = Shared::new(SIZE);
            let place = shared.taken(7) + 7;
            let lost = lost(&Interrupted { shared: &shared, looks: Cell::new(0), at });
            assert!(lost.count == 0 || lost.from == place, "{at}: {lost:?}");
            lost.count
        });
        assert_eq!(looks, [1, 0, 0]);
    }

    const PROGRAMS: usize = 4;
    const RECORDS: usize = 40_000;

    /// Programs on several CPUs against one reader: each record comes once and whole, in the order of its program, or is lost; and
    /// what a program writes after a loss comes where one is said. How many are lost.
    fn race(shared: &Shared) -> usize {
        let done = AtomicBool::new(false);
        let lost = || usize::try_from(shared.positions[LOST].load(Ordering::SeqCst)).unwrap();
        thread::scope(|scope| {
            let programs: Vec<_> = (0..PROGRAMS)
                .map(|program| {
                    scope.spawn(move || {
                        let mut lost = 0;
                        for number in 1..=RECORDS {
                            // With how many were lost when this program last lost one.
                            let tagged = usize::try_from(lost).unwrap() << 32 | number << 8 | program;
                            if !(if number % 8 == 0 { shared.name(tagged) } else { shared.hop(tagged) }) {
                                lost = shared.lose();
                            }
                        }
                    })
                })
                .collect();
            let read = scope.spawn(|| {
                let mut reader = shared.reader();
                let mut watch = LossWatch::default();
                let (mut acknowledged, mut is_losing) = (0, false);
                let mut newest = [0; PROGRAMS];
                let mut count = 0;
                loop {
                    let was_done = done.load(Ordering::Acquire);
                    while let Some((record, position, lost)) = reader.next() {
                        let number = number((record, position, lost));
                        is_losing |= watch.before(position, lost).is_some();
                        assert!(
                            is_losing || number >> 32 <= acknowledged,
                            "{number:x} at {position}: {lost:?}"
                        );
                        let number = number & 0xffff_ffff;
                        let newest = &mut newest[number & 0xff];
                        assert!(*newest < number >> 8, "{newest} before {number:x}");
                        *newest = number >> 8;
                        count += 1;
                    }
                    reader.give_back();
                    let lost = super::lost(&reader.positions());
                    if watch.behind(lost, true, || 0).is_some() {
                        acknowledge(reader.positions(), lost);
                        (acknowledged, is_losing) = (usize::try_from(lost.count).unwrap(), false);
                    }
                    if was_done {
                        return count;
                    }
                }
            });
            for program in programs {
                program.join().unwrap();
            }
            done.store(true, Ordering::Release);
            assert_eq!(read.join().unwrap() + lost(), PROGRAMS * RECORDS);
        });
        lost()
    }

    #[test]
    fn each_record_comes_once_and_whole_while_others_are_written() {
        let shared = Shared::new(Size { count: 1 << 18, limit: (1 << 18) - PROGRAMS * MOST_SLOTS });
        assert_eq!(race(&shared), 0);
        assert_eq!(shared.positions[HOLES_MADE].load(Ordering::SeqCst), 0);
    }

    #[test]
    fn each_record_comes_once_or_is_lost_where_programs_overrun() {
        let shared = Shared::new(Size { count: 8, limit: 8 });
        assert!(race(&shared) > 0);
        assert!(shared.positions[HOLES_MADE].load(Ordering::SeqCst) > 0);
    }
}
