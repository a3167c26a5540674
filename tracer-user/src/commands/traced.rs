//! The command that is traced while it runs.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::Failure;

/// How long the command may take to end once it is asked to.
const PATIENCE: Duration = Duration::from_secs(2);

/// The command, if there is one.
pub(super) struct Traced {
    child: Option<Child>,
    status: Option<ExitStatus>,
}

impl Traced {
    /// Starts it. Where our data goes to standard output, its own standard output goes to standard error, so that data
    /// stays data.
    pub(super) fn start(command: &[OsString], data_is_stdout: bool) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self { child: None, status: None });
        };
        let failure = |source| Failure::Command { program: program.to_string_lossy().into_owned(), source };
        let mut command = Command::new(program);
        command.args(arguments);
        if data_is_stdout {
            command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned().map_err(failure)?));
        }
        Ok(Self { child: Some(command.spawn().map_err(failure)?), status: None })
    }

    /// Returns when it has ended; never, if there is none.
    pub(super) async fn ended(&mut self) {
        match &mut self.child {
            Some(child) => self.status = child.wait().await.ok(),
            None => std::future::pending().await,
        }
    }

    /// Asks it to end if it still runs, and returns its exit status as a shell would.
    pub(super) async fn finish(mut self) -> Result<Option<u8>, Failure> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        if self.status.is_none()
            && let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        {
            // SAFETY: no memory is involved; the process is our child and has not been waited for, so the number is its.
            unsafe { libc::kill(pid, libc::SIGTERM) };
            match timeout(PATIENCE, child.wait()).await {
                Ok(status) => self.status = status.ok(),
                Err(_) => eprintln!("pathtrace: the command (process {pid}) was asked to end and still runs"),
            }
        }
        Ok(self.status.map(|status| {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            u8::try_from(code).unwrap_or(1)
        }))
    }
}
