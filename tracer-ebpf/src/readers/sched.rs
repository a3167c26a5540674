//! The scheduler's part in a delivery: the reader is woken, and gets a CPU.
//!
//! Which wake-ups belong to a delivery is not written on them. What is known here: if somebody waits on the socket,
//! `sock_def_readable` wakes them on the CPU that it runs on, right away. So the next thread that is woken on that CPU,
//! before it runs another thread, is noted, and whether it is the one that reads, the read itself will tell (`correlate`
//! compares the threads). A reader that sleeps for another reason, a timer, does not wait on the socket.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};

use super::EMPTY;
use crate::{
    context::Args,
    kread::{Address, Fields as _, Pointer, offset},
    record::{self, Hop, Meta, Probe, Thread},
};

/// A wake-up this long after `sock_def_readable` is not its doing, ns. Emulated machines are slow.
const WAKES_WITHIN_NS: u64 = 1_000_000;

/// The socket for which a reader was last woken on this CPU, and when.
#[map]
static WAKER: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// How many threads can be woken for a socket and have no CPU yet: one for each number that a small machine has.
const WOKEN_PLACES: u32 = 32768;

/// A thread that was woken for a socket and has no CPU yet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Woken {
    tid: u64,
    sk: Address,
}

/// By the lowest bits of the thread's number. Written without a lock: where two threads share a place, the scheduler's part of
/// one is not seen, and that they were taken for each other, the read will tell.
#[map]
static WOKEN: Array<Woken> = Array::with_max_entries(WOKEN_PLACES, 0);

/// `sock_def_readable` runs on this CPU.
#[inline(always)]
pub(super) fn will_wake(meta: Meta, sk: impl Pointer) {
    if is_waited_on(sk)
        && let Some(waker) = WAKER.get_ptr_mut(0)
    {
        // SAFETY: this CPU's slot, aligned and alive. An interrupt in between leaves its own socket: one wake-up is then
        // noted for the wrong one, which the read will tell.
        unsafe { *waker = [sk.address(), meta.time_ns] };
    }
}

/// `skwq_has_sleeper()`. An `epoll` instance waits on its sockets for as long as it has them.
#[inline(always)]
fn is_waited_on(sk: impl Pointer) -> bool {
    let queue = sk.pointer(&offset::SOCK_WAIT_QUEUE);
    // A socket without a queue is one that nobody has.
    if queue.is_null() {
        return false;
    }
    let head = queue.inner(&offset::SOCKET_WQ_WAITING);
    // An empty list points at itself.
    head.read::<Address>(0) != head.address()
}

/// A thread is made runnable. `sk`: the socket that it was woken for; `tid`, `tgid`: that thread's.
#[inline(always)]
pub(crate) fn waking(args: &impl Args, probe: Probe, task: usize) {
    let Some(waker) = WAKER.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let [sk, since_ns] = unsafe { *waker };
    if sk == 0 {
        return;
    }
    // SAFETY: as above.
    unsafe { (*waker)[0] = 0 };
    let meta = probe.now();
    if meta.time_ns.wrapping_sub(since_ns) > WAKES_WITHIN_NS {
        return;
    }
    let tid: u32 = args.pointer(task).field(&offset::TASK_PID);
    if let Some(place) = WOKEN.get_ptr_mut(tid & (WOKEN_PLACES - 1)) {
        // SAFETY: an aligned element that lives as long as the map.
        unsafe { place.write_volatile(Woken { tid: u64::from(tid), sk }) };
    }
    record::hop_of(meta, Thread { tgid: 0, tid }, Hop { sk, ..EMPTY });
}

/// A thread gets the CPU. `sk`, `tid`: as in [`waking`].
#[inline(always)]
pub(crate) fn switched(args: &impl Args, probe: Probe, _preempt: usize, _prev: usize, task: usize) {
    // `sock_def_readable` does not sleep, so it has come back.
    if let Some(waker) = WAKER.get_ptr_mut(0) {
        // SAFETY: this CPU's slot, aligned and alive.
        unsafe { (*waker)[0] = 0 };
    }
    let tid: u32 = args.pointer(task).field(&offset::TASK_PID);
    let Some(place) = WOKEN.get_ptr_mut(tid & (WOKEN_PLACES - 1)) else { return };
    // SAFETY: as in `waking`.
    let woken = unsafe { place.read_volatile() };
    if woken.tid != u64::from(tid) || tid == 0 {
        return;
    }
    // SAFETY: as in `waking`.
    unsafe { (&raw mut (*place).tid).write_volatile(0) };
    record::hop_of(probe.now(), Thread { tgid: 0, tid }, Hop { sk: woken.sk, ..EMPTY });
}
