//! The signals that end a run.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind};

use super::Failure;
use crate::kernel::clock::monotonic_now_ns;

/// The signals that end a run.
const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A signal this soon after the first is the first: `timeout` sends each to the process and to its group.
const SAME: Duration = Duration::from_millis(100);

/// Listens for requests to stop. The first asks; a second one ends the process at once with 128 + signal, whatever it is
/// doing, blocked in writing output included. Nothing needs to be tidied up for that, as the kernel detaches and unloads
/// everything with the process.
pub(super) struct Stop {
    asked: Arc<Asked>,
    /// What wakes the event loop. Which signal it was, and from whom, only the handler sees.
    wakers: Vec<Signal>,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The signal.
    pub(super) signal: libc::c_int,
    /// Whether it came from the terminal, which sends it to the whole process group.
    pub(super) by_terminal: bool,
}

#[derive(Default)]
struct Asked {
    /// When the first came, `CLOCK_MONOTONIC`, ns; 0 before.
    at_ns: AtomicU64,
    /// The first, negative if it came from the terminal; 0 before.
    signal: AtomicI32,
}

impl Stop {
    /// From now on these signals do not end the process the first time. SIGHUP stays ignored if it is (`nohup`); SIGINT
    /// does not: shells start jobs in the background with it ignored, and `kill -INT` must still end them, as it ends
    /// tcpdump.
    pub(super) fn install() -> Result<Self, Failure> {
        let failure = |source| Failure::System { what: "listen for signals", source };
        let asked = Arc::new(Asked::default());
        let mut wakers = Vec::new();
        for signal in SIGNALS {
            if signal == libc::SIGHUP && is_ignored(signal) {
                continue;
            }
            let asked = Arc::clone(&asked);
            let handler = move |info: &libc::siginfo_t| asked.take(signal, info.si_code == libc::SI_KERNEL);
            // SAFETY: the handler only reads a clock, uses atomics and calls `_exit`, all of which signal handlers may.
            unsafe { signal_hook_registry::register_sigaction(signal, handler) }.map_err(failure)?;
            wakers.push(tokio::signal::unix::signal(SignalKind::from_raw(signal)).map_err(failure)?);
        }
        Ok(Self { asked, wakers })
    }

    /// Returns when a request comes.
    pub(super) async fn comes(&mut self) {
        poll_fn(|context| {
            let came = self.wakers.iter_mut().any(|waker| waker.poll_recv(context).is_ready());
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The first request that came.
    pub(super) fn asked(&self) -> Option<Request> {
        match self.asked.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(Request { signal: signal.abs(), by_terminal: signal < 0 }),
        }
    }
}

impl Asked {
    /// Runs as a signal handler.
    fn take(&self, signal: libc::c_int, by_terminal: bool) {
        let now_ns = monotonic_now_ns();
        match self.at_ns.compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => self.signal.store(if by_terminal { -signal } else { signal }, Ordering::Relaxed),
            Err(first_ns) if u128::from(now_ns.saturating_sub(first_ns)) < SAME.as_nanos() => {}
            // SAFETY: `_exit` may be called anywhere and does not return.
            Err(_) => unsafe { libc::_exit(128 + signal) },
        }
    }
}

fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: `sigaction` is plain data, and zeroes are a value of it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` is a valid place for the answer, and nothing is changed.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}
