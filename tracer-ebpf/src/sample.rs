//! Which messages are traced where only one of so many is (`--sample`).
//!
//! What a process sends on a stream is drawn once, when it calls send, and the others' calls, packets, wake-ups and reads are
//! passed by. TCP: the call's range of sequence numbers is kept, by socket and by flow, until it has been read; whatever carries
//! or reads a byte of it is traced. UNIX sockets: the thread whose call was drawn is kept, and the `sk_buff`s that it queues.
//! A packet without data of TCP's, and what comes from other machines, is drawn by itself where it is first seen, and known by its
//! memory from there on. Data that leaves without a call that was seen is not drawn.
//!
//! Every place is written without a lock. Where two share one, the younger is traced and the other is not from there on.

use aya_ebpf::{Global, helpers::generated::bpf_get_prandom_u32, macros::map, maps::Array};

use crate::{
    flow::FlowKey,
    kread::{Address, Pointer, offset},
    record,
    words::{mix, weigh},
};

/// One of so many; 0 or 1: all.
#[unsafe(no_mangle)]
static SAMPLE: Global<u32> = Global::new(0);

/// How many calls on TCP sockets, threads in calls, and `sk_buff`s are kept, of each.
const PLACES: u32 = 4096;

/// A call that was drawn may be under way as long as its socket has not sent so many more bytes.
const UNDER_WAY: u32 = 1 << 22;

/// A socket or flow, the numbers of the first byte of a call and of that behind its last one, the socket that sends where it is
/// a flow's, and the sum of all words.
type Call = [u64; 4];

/// By socket.
#[map]
static SENDING: Array<Call> = Array::with_max_entries(PLACES, 0);

/// By the [name](flow_name) of the flow.
#[map]
static CALLS_OF_FLOWS: Array<Call> = Array::with_max_entries(PLACES, 0);

/// The packets that were not drawn when they left for another namespace.
#[map]
static HAVE_LEFT: Array<u64> = Array::with_max_entries(PLACES, 0);

/// The threads whose last call on a UNIX socket was drawn.
#[map]
static CALLING: Array<u64> = Array::with_max_entries(PLACES, 0);

/// The `sk_buff`s in queues of UNIX sockets that were queued in such calls.
#[map]
static IN_QUEUE: Array<u64> = Array::with_max_entries(PLACES, 0);

/// Whether not everything is traced: a constant for the verifier.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    SAMPLE.load() > 1
}

/// Whether this one is.
#[inline(always)]
pub(crate) fn draw() -> bool {
    // SAFETY: the helper has no preconditions.
    !is_on() || is_multiple(unsafe { bpf_get_prandom_u32() })
}

/// What a flow is called here: its number is only to be had by a look-up, which most packets are spared. Two flows that have the same
/// name, of 2^64, are traced together.
#[inline(always)]
pub(crate) fn flow_name(key: &FlowKey) -> u64 {
    let ports = u64::from(key.sport) << 48 | u64::from(key.dport) << 32 | u64::from(key.netns);
    let mut name = 0;
    for word in [ports, key.saddr[0], key.daddr[0], key.saddr[1], key.daddr[1]] {
        name = mix(name, word);
    }
    name
}

/// A call to send `len` bytes, from `seq` on, on a TCP socket was drawn. Says whether it is traced: another one on the same socket,
/// shortly before it, may be under way.
#[inline(always)]
pub(crate) fn sends(sk: Address, key: &FlowKey, seq: u32, len: u32) -> bool {
    if !is_on() {
        return true;
    }
    let flow = flow_name(key);
    if let Some(before) = find(&CALLS_OF_FLOWS, flow)
        && seq.wrapping_sub(before.to()) < UNDER_WAY
    {
        return false;
    }
    // Where its length is not known, what carries its first byte.
    let range = range(seq, if len.cast_signed() <= 0 { 1 } else { len });
    keep(&SENDING, sk, range, 0);
    keep(&CALLS_OF_FLOWS, flow, range, sk);
    true
}

/// Whether a call on a TCP socket that was drawn begins with this byte: it has come back without having sent anything, or has waited,
/// and what sends the byte takes its place.
#[inline(always)]
pub(crate) fn begins_at(sk: Address, seq: u32) -> bool {
    find(&SENDING, sk).is_some_and(|call| call.from() == seq)
}

/// The numbers of the first byte of so many from `seq` on, and of that behind the last one.
#[inline(always)]
pub(crate) fn range(seq: u32, len: u32) -> u64 {
    u64::from(seq.wrapping_add(len)) << 32 | u64::from(seq)
}

/// Whether there is no byte.
#[inline(always)]
pub(crate) fn is_empty(range: u64) -> bool {
    range as u32 == (range >> 32) as u32
}

/// A segment that is traced has come into another namespace, or from another machine: what waits for it there is, too.
#[inline(always)]
pub(crate) fn carries(flow: u64, range: u64) {
    keep(&CALLS_OF_FLOWS, flow, range, 0);
}

/// A packet that is not traced leaves through a device that may lead into another namespace.
#[inline(always)]
pub(crate) fn leaves(skb: Address, fingerprint: u64) {
    if let Some(place) = HAVE_LEFT.get_ptr_mut(of(skb)) {
        // SAFETY: an aligned element that lives as long as the map; volatile, as others write it.
        unsafe { place.write_volatile(mix(fingerprint, skb)) };
    }
}

/// Whether a packet that comes from a device is one of those.
#[inline(always)]
pub(crate) fn has_left(skb: Address, fingerprint: u64) -> bool {
    // SAFETY: as above.
    HAVE_LEFT.get_ptr(of(skb)).is_some_and(|place| unsafe { place.read_volatile() } == mix(fingerprint, skb))
}

/// Whether a segment that a whole socket of TCP hands to the loopback device need not be looked at: the socket sends nothing that was
/// drawn, and it was not drawn itself.
#[inline(always)]
pub(crate) fn passes_by(skb: impl Pointer, sk: Address) -> bool {
    is_on() && find(&SENDING, sk).is_none() && by_time(skb) == Some(false)
}

/// Whether a segment carries data of a call that was drawn.
#[inline(always)]
pub(crate) fn has_part(flow: u64, range: u64) -> bool {
    find(&CALLS_OF_FLOWS, flow).is_some_and(|call| {
        let (seq, end) = (range as u32, (range >> 32) as u32);
        let (from, to) = (call.from(), call.to());
        seq.wrapping_sub(from) < to.wrapping_sub(from) || from.wrapping_sub(seq) < end.wrapping_sub(seq)
    })
}

/// Whether a packet on the loopback device that is seen for the first time, and is no part of a call, is drawn.
#[inline(always)]
pub(crate) fn itself(skb: impl Pointer, is_tcp: bool) -> bool {
    let by_time = if is_tcp { by_time(skb) } else { None };
    by_time.unwrap_or_else(draw)
}

/// The draw for a packet that TCP has given the moment at which it is sent (`__tcp_transmit_skb()`), which is another one each
/// time, and the same in IP and at the device. It is gone behind the device (`loopback_xmit()`).
#[inline(always)]
fn by_time(skb: impl Pointer) -> Option<bool> {
    match skb.field::<u64>(&offset::SK_BUFF_TSTAMP) {
        0 => None,
        sent_ns => Some(is_multiple((mix(mix(0, skb.address()), sent_ns) >> 32) as u32)),
    }
}

/// Whether one of so many numbers is this one. (A plain remainder panics for zero, which no program may.)
#[inline(always)]
pub(crate) fn is_multiple(number: u32) -> bool {
    number.checked_rem(SAMPLE.load()) == Some(0)
}

/// Whether a call on a TCP flow was drawn, and not read up to now.
#[inline(always)]
pub(crate) fn has_call(key: &FlowKey) -> bool {
    !is_on() || find(&CALLS_OF_FLOWS, flow_name(key)).is_some()
}

/// Whether data of a call that was drawn comes before `seq`, up to which a TCP socket has received.
#[inline(always)]
pub(crate) fn arrives(key: &FlowKey, seq: u32) -> bool {
    !is_on() || find(&CALLS_OF_FLOWS, flow_name(key)).is_some_and(|call| is_after(seq, call.from()))
}

/// The same for what was read; after its last byte the call is over.
#[inline(always)]
pub(crate) fn is_read(key: &FlowKey, seq: u32) -> bool {
    if !is_on() {
        return true;
    }
    let flow = flow_name(key);
    let Some(call) = find(&CALLS_OF_FLOWS, flow) else { return false };
    if !is_after(call.to(), seq) {
        // As long as the flow has its call, no other one is drawn, which would be forgotten here.
        if find(&SENDING, call.sk).is_some_and(|sending| sending.range == call.range) {
            forget(&SENDING, call.sk);
        }
        forget(&CALLS_OF_FLOWS, flow);
    }
    is_after(seq, call.from())
}

/// The thread on the CPU calls send on a UNIX socket; whether that was drawn.
#[inline(always)]
pub(crate) fn unix_call() -> bool {
    if !is_on() {
        return true;
    }
    let (is_drawn, tid) = (draw(), record::tid());
    if let Some(place) = CALLING.get_ptr_mut(tid & (PLACES - 1)) {
        let thread = u64::from(tid) << 1 | u64::from(is_drawn);
        // SAFETY: an aligned element that lives as long as the map; volatile, as others write it.
        unsafe { place.write_volatile(thread) };
    }
    is_drawn
}

/// Whether the wake-up of a UNIX socket's reader, in the thread on the CPU, is of such a call, which has queued `skb`.
#[inline(always)]
pub(crate) fn unix_wakes(skb: Address) -> bool {
    if !is_on() {
        return true;
    }
    let tid = record::tid();
    let Some(place) = CALLING.get_ptr(tid & (PLACES - 1)) else { return false };
    // SAFETY: as above.
    let is_drawn = unsafe { place.read_volatile() } == u64::from(tid) << 1 | 1;
    if is_drawn && let Some(place) = IN_QUEUE.get_ptr_mut(of(skb)) {
        // SAFETY: as above.
        unsafe { place.write_volatile(skb) };
    } else if !is_drawn {
        // Whatever was in this memory before, and was never read.
        unix_is_read(skb);
    }
    is_drawn
}

/// Whether an `sk_buff` of a UNIX socket is of such a call.
#[inline(always)]
pub(crate) fn unix_is_drawn(skb: Address) -> bool {
    // SAFETY: as above.
    !is_on() || IN_QUEUE.get_ptr(of(skb)).is_some_and(|place| unsafe { place.read_volatile() } == skb)
}

/// Nothing of an `sk_buff` is left.
#[inline(always)]
pub(crate) fn unix_is_read(skb: Address) {
    if is_on()
        && unix_is_drawn(skb)
        && let Some(place) = IN_QUEUE.get_ptr_mut(of(skb))
    {
        // SAFETY: as above.
        unsafe { place.write_volatile(0) };
    }
}

/// Whether sequence number `a` comes after `b`.
#[inline(always)]
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[inline(always)]
fn of(name: u64) -> u32 {
    (mix(0, name) >> 40) as u32 & (PLACES - 1)
}

#[inline(always)]
fn keep(calls: &Array<Call>, name: u64, range: u64, sk: Address) {
    if let Some(place) = calls.get_ptr_mut(of(name)) {
        let words = [name, range, sk, sum(name, range, sk)];
        for (at, word) in words.into_iter().enumerate() {
            // SAFETY: within an aligned element that lives as long as the map; volatile, as others write it.
            unsafe { place.cast::<u64>().add(at).write_volatile(word) };
        }
    }
}

#[inline(always)]
fn sum(name: u64, range: u64, sk: Address) -> u64 {
    weigh(name, 0).wrapping_add(weigh(range, 1)).wrapping_add(weigh(sk, 2))
}

/// A call that was drawn.
#[derive(Clone, Copy)]
struct Drawn {
    range: u64,
    /// The socket that sends, 0 if that is not known.
    sk: Address,
}

impl Drawn {
    /// The number of its first byte.
    #[inline(always)]
    fn from(self) -> u32 {
        self.range as u32
    }

    /// The number of the byte behind its last one.
    #[inline(always)]
    fn to(self) -> u32 {
        (self.range >> 32) as u32
    }
}

/// The call of a socket or flow.
#[inline(always)]
fn find(calls: &Array<Call>, name: u64) -> Option<Drawn> {
    let place = calls.get_ptr(of(name))?;
    // SAFETY: as above.
    let word = |at| unsafe { place.cast::<u64>().add(at).read_volatile() };
    let (range, sk): (u64, Address) = (word(1), word(2));
    let is_it = name != 0 && word(0) == name && word(3) == sum(name, range, sk);
    is_it.then_some(Drawn { range, sk })
}

#[inline(always)]
fn forget(calls: &Array<Call>, name: u64) {
    if let Some(place) = calls.get_ptr_mut(of(name)) {
        // SAFETY: as above.
        unsafe { place.cast::<u64>().write_volatile(0) };
    }
}
