//! A tracer that is a program of its own.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use crate::watch::{Waited, Watch};

/// How long a program may take to start: bpftrace compiles, and may be one of many.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to end, ms.
const TO_END: u16 = 60_000;

/// Where a program writes.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir().context("cannot make a folder")? })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data.
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// Its standard error.
    pub(crate) fn said(&self) -> PathBuf {
        self.folder.path().join("said")
    }

    /// What pathtrace creates when it traces.
    pub(crate) fn ready(&self) -> PathBuf {
        self.folder.path().join("ready")
    }
}

/// It runs. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    files: Files,
    begun: Instant,
    ready: Duration,
    cpu_ns: u64,
}

/// It has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) files: Files,
    /// From its start until it traced.
    pub(crate) ready: Duration,
    /// How long it traced.
    pub(crate) traced: Duration,
    /// From Ctrl-C to its end.
    pub(crate) exit: Duration,
    /// CPU time since it traced.
    pub(crate) cpu_ns: u64,
    pub(crate) peak_bytes: Option<u64>,
}

/// What became of it.
pub(crate) enum Started {
    /// It traces.
    Ready(Running),
    /// It has ended before that, and said this.
    Refused(String),
}

impl Running {
    /// Starts it, and waits until `is_ready`. It runs on the CPU of this thread.
    pub(crate) fn start(
        mut command: Command,
        files: Files,
        is_ready: impl Fn(&Files) -> bool,
    ) -> Result<Started> {
        let watch = Watch::folder(files.folder())?;
        command.stdin(Stdio::null()).stderr(File::create(files.said())?);
        // SAFETY: the closure only makes a system call, which is allowed between fork and exec.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let begun = Instant::now();
        let program = command.get_program().to_string_lossy().into_owned();
        let child = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Started::Refused(format!("{program} is not installed")));
            }
            child => child.with_context(|| format!("cannot start {program}"))?,
        };
        let mut running = Self { child, files, begun, ready: Duration::ZERO, cpu_ns: 0 };
        let Self { child, files, .. } = &mut running;
        let waited = watch
            .wait(PATIENCE, || is_ready(files), || Ok(child.try_wait()?.is_some()))
            .with_context(|| format!("{program} does not start"))?;
        if waited == Waited::Over {
            let said = fs::read_to_string(running.files.said()).unwrap_or_default();
            return Ok(Started::Refused(said));
        }
        running.ready = begun.elapsed();
        running.cpu_ns = running.cpu_ns_so_far()?;
        Ok(Started::Ready(running))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// CPU time of all its threads.
    pub(crate) fn cpu_ns_so_far(&self) -> Result<u64> {
        let pid = self.child.id().cast_signed();
        let mut clock = 0;
        // SAFETY: the pointer is that of a variable.
        if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
            bail!("process {pid} has no clock");
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: as above.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot read the CPU time of a process");
        }
        Ok(u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec)?)
    }

    /// Ends it as Ctrl-C would.
    pub(crate) fn end(mut self) -> Result<Ended> {
        let traced = self.begun.elapsed().saturating_sub(self.ready);
        let peak_bytes = self.peak_bytes();
        let pid = self.child.id().cast_signed();
        let process = pidfd(pid)?;
        let asked = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        while let Err(error) = poll(&mut fds, PollTimeout::from(TO_END)) {
            if error != nix::Error::EINTR {
                return Err(error.into());
            }
        }
        let exit = asked.elapsed();
        // It is not waited for yet, so its clock is still there.
        let cpu_ns = self.cpu_ns_so_far().map_or(0, |ns| ns.saturating_sub(self.cpu_ns));
        let Some(status) = self.child.try_wait()? else { bail!("a tracer does not end") };
        let Self { files, ready, .. } = &mut self;
        let files = std::mem::replace(files, Files::new()?);
        Ok(Ended { status, files, ready: *ready, traced, exit, cpu_ns, peak_bytes })
    }

    fn peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended: then these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes readable when the process ends.
fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot wait for a process");
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}
