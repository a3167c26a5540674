//! Waiting for what another program writes into a folder.

use std::{
    os::fd::AsFd as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use pathtrace::workload::stop_signal;

/// How often it is asked whether the program that should write is still there.
const LOOK: u16 = 50;

/// What happens in a folder from now on.
pub(crate) struct Watch {
    inotify: Inotify,
}

/// Why the waiting was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It has come.
    Come,
    /// It will not.
    Over,
}

impl Watch {
    /// Watches a folder.
    pub(crate) fn folder(folder: &Path) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY;
        inotify.add_watch(folder, flags).with_context(|| format!("cannot watch {}", folder.display()))?;
        Ok(Self { inotify })
    }

    /// Waits until `has_come`, which is asked after each change, or until `is_over`, which is asked now and then.
    pub(crate) fn wait(
        &self,
        patience: Duration,
        mut has_come: impl FnMut() -> bool,
        mut is_over: impl FnMut() -> Result<bool>,
    ) -> Result<Waited> {
        let begun = Instant::now();
        loop {
            if has_come() {
                return Ok(Waited::Come);
            }
            if is_over()? {
                return Ok(Waited::Over);
            }
            if stop_signal().is_some() {
                bail!("interrupted");
            }
            if begun.elapsed() > patience {
                bail!("nothing came for {} s", patience.as_secs());
            }
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => {
                    // Only that something has changed matters.
                    let _ = self.inotify.read_events();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
