//! What is remembered of calls and `sk_buff`s where not all traffic is wanted.

use aya_ebpf::{macros::map, maps::LruHashMap};
use tracer_common::probes::Point;

use super::{EMPTY, Unix};
use crate::{
    filter,
    kread::{Address, Fields as _, Plain, Raw, offset},
    record::{self, Meta},
};

/// A call whose receiver the kernel still looks for.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) sk: Address,
    time_ns: u64,
    len: u32,
    backend: u32,
    marks: u32,
    connects: u32,
    /// Its record was written, as it is known to be wanted.
    pub(super) is_written: u32,
    pad: u32,
}

// SAFETY: integers without padding.
unsafe impl Plain for Call {}

/// The calls under way, by thread.
#[map]
static UNIX_CALLS: LruHashMap<u32, Call> = LruHashMap::with_max_entries(4096, 0);

/// A thread connects a socket, or sends a datagram.
#[inline(always)]
pub(super) fn hold(meta: &Meta, call: &Unix, is_written: bool) {
    if filter::needed_of_unix() == 0 {
        return;
    }
    let held = Call {
        sk: call.sk,
        time_ns: meta.time_ns,
        len: call.len,
        backend: meta.backend as u32,
        marks: u32::from(call.marks),
        connects: u32::from(meta.point as u8 == Point::UnixStreamConnect as u8),
        is_written: u32::from(is_written),
        pad: 0,
    };
    let _ = UNIX_CALLS.insert(record::tid(), held, 0);
}

/// The call of the thread on the CPU, which has come to its wake-up: there is one for each. `to` stays as it is where none is held.
#[inline(always)]
pub(super) fn take(connects: bool, to: &mut Call) {
    if filter::needed_of_unix() == 0 {
        return;
    }
    let tid = record::tid();
    // SAFETY: an LRU map may hand this entry to another thread meanwhile: then a socket is taken for wanted, or a call is not
    // shown, if thousands of threads are in such calls at once.
    let Some(held) = (unsafe { UNIX_CALLS.get(tid) }) else { return };
    if (held.connects != 0) == connects {
        *to = *held;
        let _ = UNIX_CALLS.remove(tid);
    }
}

/// It is wanted: its record goes before that of its wake-up.
#[inline(never)]
pub(super) fn release(meta: Meta, held: &Call) {
    let point = if held.connects == 0 { Point::UnixDgramSendmsg } else { Point::UnixStreamConnect };
    let meta = meta.earlier(point, held.time_ns, held.backend);
    super::write(
        meta,
        Raw(held.sk).field(&offset::SOCK_TYPE),
        Unix { sk: held.sk, len: held.len, marks: held.marks as u8, ..EMPTY },
    );
}

/// A datagram, or a connection, in a queue.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Queued {
    /// Whose queue it is.
    pub(super) receiver: Address,
    /// What makes it wanted.
    pub(super) seen: u32,
    pub(super) pad: u32,
}

/// By `sk_buff`. Its reader does not say on which socket it reads.
#[map]
static UNIX_QUEUED: LruHashMap<u64, Queued> = LruHashMap::with_max_entries(8192, 0);

/// An `sk_buff` is in a queue.
#[inline(always)]
pub(super) fn queued(skb: Address, receiver: Address, seen: u32) {
    if skb != 0 {
        let _ = UNIX_QUEUED.insert(skb, Queued { receiver, seen, pad: 0 }, 0);
    }
}

/// It is read.
#[inline(always)]
pub(super) fn dequeued(skb: Address) -> Option<Queued> {
    // SAFETY: aligned words; an LRU map may hand this entry to another `sk_buff` meanwhile, if thousands are in queues.
    let queued = unsafe { UNIX_QUEUED.get(skb) }.copied();
    if queued.is_some() {
        let _ = UNIX_QUEUED.remove(skb);
    }
    queued
}
