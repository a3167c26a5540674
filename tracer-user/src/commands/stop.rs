//! The signals that end a run.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// Waits for a request to stop.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    /// From now on these signals do not end the process.
    pub(super) fn install() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|source| Failure::System { what: "listen for signals", source });
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Returns when one has come.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Gives the signals their own meaning back: one more ends the process at once. Nothing needs to be tidied up for
    /// that, as the kernel detaches and unloads everything with the process.
    pub(super) fn second_time_kills(self) {
        drop(self);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: SIG_DFL is a valid disposition for these signals, and no handler of ours is needed any more.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
