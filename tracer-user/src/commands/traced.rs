//! The command that is traced while it runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::{ExitStatus, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat},
};
use tokio::process::{Child, Command};

use super::{Failure, say, stop::Stop};

/// Where `execvp` looks for programs if nobody says where (glibc, and musl).
const USUAL_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// Looks whether there is such a command, without starting it: a name that is wrong must not be found out when everything has been
/// attached for it.
pub(super) fn look_for(command: &[OsString]) -> Result<(), Failure> {
    let Some(program) = command.first() else { return Ok(()) };
    let path = env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    find(program, &path).map_err(|errno| cannot_start(program, errno.into()))
}

/// As `execvp` does it.
fn find(program: &OsStr, path: &OsStr) -> Result<(), Errno> {
    if program.as_bytes().contains(&b'/') {
        return may_run(Path::new(program));
    }
    if program.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut why = Errno::ENOENT;
    for folder in env::split_paths(path) {
        match may_run(&folder.join(program)) {
            Ok(()) => return Ok(()),
            // There may be another one, and if there is not, this is why.
            Err(Errno::EACCES) => why = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(why)
}

fn may_run(file: &Path) -> Result<(), Errno> {
    // What else the kernel may answer, starting it will tell.
    if let Err(errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES)) =
        faccessat(AT_FDCWD, file, AccessFlags::X_OK, AtFlags::AT_EACCESS)
    {
        return Err(errno);
    }
    // Of a folder the same permission says that it may be entered.
    if file.is_dir() { Err(Errno::EACCES) } else { Ok(()) }
}

fn cannot_start(program: &OsStr, source: io::Error) -> Failure {
    Failure::Command { program: program.to_string_lossy().into_owned(), source }
}

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
        let failure = |source| cannot_start(program, source);
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

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
        process,
    };

    use super::*;

    /// What is found is what starts, and the error is the same.
    #[test]
    fn a_command_is_found_as_it_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let (with, without) = (folder.path().join("with"), folder.path().join("without"));
        for folder in [&with, &without] {
            fs::create_dir(folder).unwrap();
        }
        for (at, mode) in [("with/runs", 0o755), ("without/runs", 0o644), ("without/text", 0o644)] {
            let file = folder.path().join(at);
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(without.join("folder")).unwrap();
        let path = env::join_paths([&without, &folder.path().join("nowhere"), &with]).unwrap();
        let file = |at: &str| folder.path().join(at).display().to_string();
        for (program, found) in [
            ("runs".to_owned(), Ok(())),
            ("text".to_owned(), Err(Errno::EACCES)),
            ("folder".to_owned(), Err(Errno::EACCES)),
            ("missing".to_owned(), Err(Errno::ENOENT)),
            (String::new(), Err(Errno::ENOENT)),
            (file("with/runs"), Ok(())),
            (file("without/text"), Err(Errno::EACCES)),
            (file("without/folder"), Err(Errno::EACCES)),
            (file("with/runs/missing"), Err(Errno::ENOTDIR)),
        ] {
            assert_eq!(find(OsStr::new(&program), &path), found, "{program}");
            let started = process::Command::new(&program).env("PATH", &path).status();
            let errno = started.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
            assert_eq!(errno, found.err(), "{program}");
        }
    }
}
