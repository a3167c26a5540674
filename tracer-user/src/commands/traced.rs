//! The command that is traced while it runs.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
};

use tokio::process::{Child, Command};

use super::{Failure, say, stop::Stop};

/// The command, if there is one.
pub(super) struct Traced {
    child: Option<Child>,
    status: Option<ExitStatus>,
    was_told: bool,
}

impl Traced {
    /// Starts it. Where our data goes to standard output, its own standard output goes to standard error, so that data
    /// stays data.
    pub(super) fn start(command: &[OsString], data_is_stdout: bool) -> Result<Self, Failure> {
        let none = Self { child: None, status: None, was_told: false };
        let Some((program, arguments)) = command.split_first() else { return Ok(none) };
        let failure = |source| Failure::Command { program: program.to_string_lossy().into_owned(), source };
        let mut command = Command::new(program);
        command.args(arguments);
        if data_is_stdout {
            command.stdout(Stdio::from(io::stderr().as_fd().try_clone_to_owned().map_err(failure)?));
        }
        Ok(Self { child: Some(command.spawn().map_err(failure)?), ..none })
    }

    /// Whether it has ended; never, if there is none.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        if let Some(child) = &mut self.child
            && self.status.is_none()
        {
            self.status = child.try_wait()?;
        }
        Ok(self.status.is_some())
    }

    /// Returns when it has ended, or when that cannot be told; never, if there is none.
    pub(super) async fn ends(&mut self) {
        match &mut self.child {
            Some(child) if self.status.is_none() => self.status = child.wait().await.ok(),
            _ => std::future::pending().await,
        }
    }

    /// Hands it the signal that asked us to stop, once, unless the terminal has sent it to both.
    pub(super) fn tell(&mut self, stop: &Stop) {
        let Some(request) = stop.asked() else { return };
        if let Some(child) = &self.child
            && self.status.is_none()
            && !request.by_terminal
            && !self.was_told
            && let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        {
            self.was_told = true;
            // SAFETY: no memory is involved; the process is our child and has not been waited for, so the number is its.
            unsafe { libc::kill(pid, request.signal) };
        }
    }

    /// Waits until it ends by itself, or because somebody asked us and so it to stop. Returns its exit status as a shell
    /// would.
    pub(super) async fn finish(mut self, stop: &mut Stop, quiet: bool) -> Result<Option<u8>, Failure> {
        if self.child.is_none() {
            return Ok(None);
        }
        let failure = |source| Failure::System { what: "wait for the command", source };
        if !self.has_ended().map_err(failure)? && !quiet {
            say("pathtrace: tracing has ended, the command goes on\n");
        }
        while !self.has_ended().map_err(failure)? {
            tokio::select! {
                () = self.ends() => {}
                () = stop.comes() => {}
            }
            self.tell(stop);
        }
        let code = self
            .status
            .and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)))
            .and_then(|code| u8::try_from(code).ok());
        code.map(Some).ok_or_else(|| failure(io::Error::other("it has no exit status")))
    }
}
