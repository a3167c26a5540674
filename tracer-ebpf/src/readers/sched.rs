//! The scheduler's part in a delivery: the reader is woken, and gets a CPU.
//!
//! Which wake-ups belong to a delivery is not written on them. What is known here: if somebody waits on the socket,
//! `sock_def_readable` wakes them on the CPU that it runs on, right away. So the next thread that is woken on that CPU,
//! before it runs another thread, is noted, and whether it is the one that reads, the read itself will tell (`correlate`
//! compares the threads). A reader that sleeps for another reason, a timer, does not wait on the socket.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};

use super::EMPTY;
use crate::{
    context::Args,
    kread::{self, Address, offset},
    record::{self, Hop, Meta},
};

/// A wake-up this long after `sock_def_readable` is not its doing, ns. Emulated machines are slow.
const WAKES_WITHIN_NS: u64 = 1_000_000;

/// The socket for which a reader was last woken on this CPU, and when.
#[map]
static WAKER: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// The threads that were woken for a socket and have no CPU yet.
#[map]
static WOKEN: LruHashMap<u32, u64> = LruHashMap::with_max_entries(4096, 0);

/// `sock_def_readable` runs on this CPU.
#[inline(always)]
pub(super) fn will_wake(meta: Meta, sk: Address) {
    if is_waited_on(sk)
        && let Some(waker) = WAKER.get_ptr_mut(0)
    {
        // SAFETY: this CPU's slot, aligned and alive. An interrupt in between leaves its own socket: one wake-up is then
        // noted for the wrong one, which the read will tell.
        unsafe { *waker = [sk, meta.time_ns] };
    }
}

/// `skwq_has_sleeper()`. An `epoll` instance waits on its sockets for as long as it has them.
#[inline(always)]
fn is_waited_on(sk: Address) -> bool {
    let queue = kread::u64_field(sk, &offset::SOCK_WAIT_QUEUE);
    let head = queue.wrapping_add(u64::from(offset::SOCKET_WQ_WAITING.load()));
    // An empty list points at itself; a socket without a queue is one that nobody has.
    queue != 0 && kread::read::<u64>(head, 0) != head
}

/// A thread is made runnable. `sk`: the socket that it was woken for; `tid`, `tgid`: that thread's.
#[inline(always)]
pub(crate) fn waking(args: &impl Args, meta: Meta, task: usize) {
    let Some(waker) = WAKER.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let [sk, since_ns] = unsafe { *waker };
    if sk == 0 {
        return;
    }
    // SAFETY: as above.
    unsafe { (*waker)[0] = 0 };
    if meta.time_ns.wrapping_sub(since_ns) > WAKES_WITHIN_NS {
        return;
    }
    let task = args.arg(task);
    let tid = kread::u32_field(task, &offset::TASK_PID);
    let _ = WOKEN.insert(tid, sk, 0);
    record::hop_of(meta, 0, tid, Hop { sk, ..EMPTY });
}

/// A thread gets the CPU. `sk`, `tid`: as in [`waking`].
#[inline(always)]
pub(crate) fn switched(args: &impl Args, meta: Meta, _preempt: usize, _prev: usize, task: usize) {
    // `sock_def_readable` does not sleep, so it has come back.
    if let Some(waker) = WAKER.get_ptr_mut(0) {
        // SAFETY: this CPU's slot, aligned and alive.
        unsafe { (*waker)[0] = 0 };
    }
    let tid = kread::u32_field(args.arg(task), &offset::TASK_PID);
    // SAFETY: one aligned word.
    let Some(sk) = unsafe { WOKEN.get(tid) }.copied() else { return };
    let _ = WOKEN.remove(tid);
    record::hop_of(meta, 0, tid, Hop { sk, ..EMPTY });
}
