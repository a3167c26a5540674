//! The packets that were seen last: a packet's headers are read, filtered and its flow looked up once, and at its next hops it is known
//! by its memory.
//!
//! Memory is used again within microseconds. A packet is taken for the one that was kept only if its `sk_buff`, its data and
//! both ends of it are the same, on the same device, and the hop is further along the path: whoever gets the same memory next
//! begins at the start of the path, on whatever CPU, and is read anew there. Where a packet is dropped, it is forgotten. TCP's
//! receive tracepoint also compares the sequence numbers. (A device is known by its address: that of a namespace that is gone may be
//! another one's, but not while a packet is on it.) Segments that the device layer cuts off, and copies, lie in other memory;
//! but whoever changes the headers in place on the loopback device (tc's `pedit`, payload statements of nftables) is not noticed.
//!
//! Places are written without a lock, by several CPUs and by programs that interrupt each other: what they leave may be mixed of two
//! packets; the sum over all words tells.

use aya_ebpf::{macros::map, maps::Array};
use tracer_common::{event::NO_FLOW, probes::Point};

use crate::{
    flow::AF_INET6,
    kread::{Address, Pointer, offset},
    packet::Packet,
    record::{Hop, NO_HOP},
    words::{mask_if_zero, weigh},
};

/// How many places there are, a power of two. Packets that share one take turns.
const PLACES: u32 = 4096;

/// [`Word::Flow`] of a packet that the filter does not want.
const UNWANTED: u64 = u64::MAX;

/// What is kept of a packet, word by word: the stack has no room for all of them at once.
#[repr(usize)]
#[derive(Clone, Copy)]
enum Word {
    /// The address of its `sk_buff`.
    Skb,
    /// Where its data lies (`skb->head`).
    Head,
    /// Where the data ends, from there, and above how much more lies in pages. Taking headers off its front changes neither.
    Ends,
    /// The address of its device.
    Device,
    /// Its flow's number, or [`UNWANTED`].
    Flow,
    /// TCP's sequence number, and above that which it acknowledges.
    Numbers,
    /// Bytes of payload; above TCP's flags, and the family.
    Payload,
    /// The sum over all words before.
    Sum,
    /// The last hop. Not in the sum, as it changes.
    Stage,
}

const WORDS: usize = Word::Stage as usize + 1;

#[derive(Clone, Copy)]
struct Place(*mut u64);

impl Place {
    #[inline(always)]
    fn get(self, word: Word) -> u64 {
        // SAFETY: within an element of the map, aligned and alive; volatile, as others write it meanwhile.
        unsafe { self.0.add(word as usize).read_volatile() }
    }

    #[inline(always)]
    fn set(self, word: Word, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.add(word as usize).write_volatile(value) };
    }

    /// What it says of the packet in `skb`, if that is the one, and the hop is one that it can come to. Where the device
    /// is not known, whatever was kept will do.
    #[inline(always)]
    fn of(self, skb: impl Pointer, point: Point, device: Option<Address>) -> Option<Facts> {
        // Each is read once: it may be another packet's the next time.
        let head = skb.address_in(&offset::SK_BUFF_HEAD);
        let ends = ends(skb);
        let kept = self.get(Word::Device);
        let facts = Facts {
            flow: self.get(Word::Flow),
            numbers: self.get(Word::Numbers),
            payload: self.get(Word::Payload),
        };
        let is_it = self.get(Word::Skb) == skb.address()
            && self.get(Word::Head) == head
            && self.get(Word::Ends) == ends
            && self.get(Word::Stage) < point as u64
            && device.is_none_or(|device| device == kept)
            && self.get(Word::Sum) == sum([skb.address(), head, ends, kept], facts);
        is_it.then_some(facts)
    }

    /// All but what only whoever has the packet at hand knows: until that is [completed](Self::complete) nothing is taken for it,
    /// as no packet's data lies at 0.
    #[inline(always)]
    fn begin(self, skb: Address, facts: Facts) {
        self.set(Word::Skb, skb);
        self.set(Word::Head, 0);
        self.set(Word::Ends, 0);
        self.set(Word::Device, 0);
        self.set(Word::Flow, facts.flow);
        self.set(Word::Numbers, facts.numbers);
        self.set(Word::Payload, facts.payload);
        self.set(Word::Sum, sum([skb, 0, 0, 0], facts));
    }

    /// Whoever writes here between the two leaves words that the sum does not fit.
    #[inline(always)]
    fn complete(self, skb: impl Pointer, point: Point, device: Address) {
        let facts = Facts {
            flow: self.get(Word::Flow),
            numbers: self.get(Word::Numbers),
            payload: self.get(Word::Payload),
        };
        let begun = sum([skb.address(), 0, 0, 0], facts);
        if self.get(Word::Skb) != skb.address() || self.get(Word::Head) != 0 || self.get(Word::Sum) != begun {
            return;
        }
        let (head, ends) = (skb.address_in(&offset::SK_BUFF_HEAD), ends(skb));
        self.set(Word::Head, head);
        self.set(Word::Ends, ends);
        self.set(Word::Device, device);
        self.set(Word::Stage, point as u64);
        // `begun` with these words added.
        self.set(Word::Sum, begun.wrapping_add(sum([0, head, ends, device], NO_FACTS)));
    }

    #[inline(always)]
    fn known(self, skb: impl Pointer, point: Point, facts: Facts) -> Known {
        self.set(Word::Stage, point as u64);
        if facts.flow == UNWANTED {
            return Known::Unwanted;
        }
        Known::Wanted(Hop {
            skb: skb.address(),
            flow: facts.flow,
            tcp_flags: (facts.payload >> 32) as u8,
            seq: facts.numbers as u32,
            ack: (facts.numbers >> 32) as u32,
            len: facts.payload as u32,
            ..NO_HOP
        })
    }
}

/// The words that say something of a packet.
#[derive(Clone, Copy)]
struct Facts {
    flow: u64,
    numbers: u64,
    payload: u64,
}

const NO_FACTS: Facts = Facts { flow: 0, numbers: 0, payload: 0 };

/// Over all that tells a packet from others, and what is said of it.
#[inline(always)]
fn sum(names: [u64; 4], facts: Facts) -> u64 {
    let [skb, head, ends, device] = names;
    let words = [skb, head, ends, device, facts.flow, facts.numbers, facts.payload];
    let mut sum = 0u64;
    for (at, word) in words.into_iter().enumerate() {
        sum = sum.wrapping_add(weigh(word, at));
    }
    sum
}

#[inline(always)]
fn ends(skb: impl Pointer) -> u64 {
    let tail: u32 = skb.field(&offset::SK_BUFF_TAIL);
    let in_pages: u32 = skb.field(&offset::SK_BUFF_DATA_LEN);
    u64::from(in_pages) << 32 | u64::from(tail)
}

#[map]
static RECENT: Array<[u64; WORDS]> = Array::with_max_entries(PLACES, 0);

/// What is known of a packet.
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// The filter does not want it.
    Unwanted,
    /// What its hops say of it.
    Wanted(Hop),
}

/// The packet at this hop on a device.
#[inline(always)]
pub(crate) fn find(skb: impl Pointer, point: Point, device: Address) -> Known {
    let Some(place) = place(skb.address()) else { return Known::Nothing };
    match place.of(skb, point, Some(device)) {
        Some(facts) => place.known(skb, point, facts),
        None => Known::Nothing,
    }
}

/// The segment that TCP has received, whose device may not be known any more. With it, whether it is one of IPv6.
#[inline(always)]
pub(crate) fn find_received(skb: impl Pointer) -> (Known, bool) {
    let Some(place) = place(skb.address()) else { return (Known::Nothing, false) };
    // `tcp_v4_fill_cb()`
    let control = skb.inner(&offset::SK_BUFF_CB);
    let (seq, ack): (u32, u32) = (control.field(&offset::TCP_CB_SEQ), control.field(&offset::TCP_CB_ACK_SEQ));
    let numbers = u64::from(ack) << 32 | u64::from(seq);
    match place.of(skb, Point::TcpV4Rcv, None) {
        Some(facts) if facts.numbers == numbers => {
            let is_v6 = facts.payload >> 40 & 0xff == u64::from(AF_INET6);
            (place.known(skb, Point::TcpV6Rcv, facts), is_v6)
        }
        _ => (Known::Nothing, false),
    }
}

/// Keeps a wanted packet on the loopback device. Nobody finds it before it is [sealed](seal).
#[inline(always)]
pub(crate) fn keep(skb: Address, packet: &Packet, flow: u64) {
    let Some(place) = place(skb) else { return };
    let flags = u64::from(packet.tcp_flags & 0xff) | u64::from(packet.key.family) << 8;
    let facts = Facts {
        flow,
        numbers: u64::from(packet.ack) << 32 | u64::from(packet.seq),
        payload: flags << 32 | u64::from(packet.len),
    };
    // A flow without a number is announced again at the next hop. Without a branch, which the verifier would follow.
    place.begin(skb & !mask_if_zero(flow ^ NO_FLOW), facts);
}

/// If the packet was kept, it is this one, which has come to this hop on this device.
#[inline(always)]
pub(crate) fn seal(skb: impl Pointer, point: Point, device: Address) {
    if let Some(place) = place(skb.address()) {
        place.complete(skb, point, device);
    }
}

/// Remembers that a packet's headers say that the filter does not want it, as [`keep`].
#[inline(always)]
pub(crate) fn keep_unwanted(skb: Address, packet: &Packet) {
    keep(skb, packet, UNWANTED);
}

/// Remembers that a segment on the loopback device, which has these [numbers](Word::Numbers), is not wanted, and is passed by.
#[inline(always)]
pub(crate) fn pass_by(skb: impl Pointer, point: Point, device: Address, numbers: u64) {
    let Some(place) = place(skb.address()) else { return };
    let facts = Facts { flow: UNWANTED, numbers, payload: 0 };
    place.begin(skb.address(), facts);
    place.complete(skb, point, device);
}

/// The packet's memory is free.
#[inline(always)]
pub(crate) fn forget(skb: Address) {
    if let Some(place) = place(skb) {
        place.set(Word::Skb, 0);
    }
}

/// Where what is known of an `sk_buff` is kept.
#[inline(always)]
fn place(skb: Address) -> Option<Place> {
    RECENT.get_ptr_mut((skb >> 8 ^ skb >> 20) as u32 & (PLACES - 1)).map(|place| Place(place.cast()))
}
