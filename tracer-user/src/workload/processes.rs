//! The two processes of a measurement. Threads of one would share what processes do not: a switch between processes
//! changes the address space.

use std::{
    io::{self, ErrorKind},
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CpuSet, sched_setaffinity},
    sys::{
        prctl::{set_name, set_pdeathsig},
        signal::{SigHandler, Signal, kill, signal},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

use super::{
    Pair,
    job::{Job, Role, Shape, read_report, write_report},
    pair::End,
};

/// Two processes, each with one end of each connection. They end with this.
pub struct Ends {
    client: Process,
    server: Process,
}

/// The signal that has asked this process to end; 0 before.
static STOP: AtomicI32 = AtomicI32::new(0);

/// The signal that has asked this process to end, if [`Ends::heed_signals`] has seen one.
pub fn stop_signal() -> Option<i32> {
    Some(STOP.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// What both ends say of a job: see [`Ends::wait`].
#[derive(Debug)]
pub struct Report {
    /// The client's moments.
    pub client: Vec<u64>,
    /// The server's.
    pub server: Vec<u64>,
}

struct Process {
    pid: Pid,
    control: UnixStream,
}

impl Ends {
    /// Starts both, each on its CPU if one is given.
    ///
    /// # Safety
    /// This process must have only one thread.
    pub unsafe fn start(pairs: Vec<Pair>, client: Option<usize>, server: Option<usize>) -> io::Result<Self> {
        let (asking, answering): (Vec<_>, Vec<_>) =
            pairs.into_iter().map(|pair| (pair.client, pair.server)).unzip();
        // SAFETY: the caller's promise.
        let (client, answering) = unsafe { Process::start(Role::Client, asking, answering, client) }?;
        // SAFETY: the caller's promise; the process that has just been started is none of our threads.
        let (server, _) = unsafe { Process::start(Role::Server, answering, Vec::new(), server) }?;
        Ok(Self { client, server })
    }

    /// From now on a signal that asks this process to end is an error of [`wait`](Self::wait): what has to be tidied up can
    /// be. A second one ends it at once.
    pub fn heed_signals(&self) -> io::Result<()> {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let handler = move || {
                if STOP.swap(signal, Ordering::Relaxed) != 0 {
                    // SAFETY: `_exit` may be called anywhere and does not return.
                    unsafe { libc::_exit(128 + signal) }
                }
            };
            // SAFETY: the handler only uses an atomic and `_exit`, both of which signal handlers may.
            unsafe { signal_hook_registry::register(signal, handler) }?;
        }
        Ok(())
    }

    /// Lets both begin with a job.
    pub fn begin(&mut self, job: Job) -> io::Result<()> {
        // The server first: what it waits for cannot come before.
        job.write(&self.server.control)?;
        job.write(&self.client.control)
    }

    /// Returns what both say of the job when they have done it. `meanwhile` is called again and again until then, and
    /// decides how long to wait before the next call.
    pub fn wait(
        &mut self,
        job: Job,
        patience: Duration,
        mut meanwhile: impl FnMut() -> Duration,
    ) -> io::Result<Report> {
        let most = match job.shape {
            Shape::RoundTrips => u64::from(job.count) + 1,
            Shape::Stream => 1,
        };
        let begun = Instant::now();
        let (mut client, mut server) = (None, None);
        while client.is_none() || server.is_none() {
            let pause = meanwhile();
            if stop_signal().is_some() {
                return Err(ErrorKind::Interrupted.into());
            }
            if begun.elapsed() > patience {
                return Err(ErrorKind::TimedOut.into());
            }
            for (process, report) in [(&self.client, &mut client), (&self.server, &mut server)] {
                if report.is_none() && process.has_said_something(pause)? {
                    *report = Some(read_report(io::BufReader::new(&process.control), most)?);
                }
            }
        }
        Ok(Report { client: client.unwrap_or_default(), server: server.unwrap_or_default() })
    }
}

impl Process {
    /// Starts a process that holds `ends`; closes `others` in it, and hands them back.
    ///
    /// # Safety
    /// This process must have only one thread.
    unsafe fn start(
        role: Role,
        ends: Vec<End>,
        others: Vec<End>,
        cpu: Option<usize>,
    ) -> io::Result<(Self, Vec<End>)> {
        let (control, theirs) = UnixStream::pair()?;
        let parent = nix::unistd::getpid();
        // SAFETY: with one thread, no lock is held by a thread that the child has not.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok((Self { pid: child, control }, others)),
            ForkResult::Child => {
                drop((control, others));
                let _ = serve(role, ends, &theirs, cpu, parent);
                // SAFETY: `_exit` ends this process without running what the parent has registered for its own end.
                unsafe { libc::_exit(0) }
            }
        }
    }

    fn has_said_something(&self, pause: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, pause) {
            Ok(count) => Ok(count > 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is our child and was not waited for, so the number is its.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// What a process does until nobody gives it work any more.
fn serve(
    role: Role,
    mut ends: Vec<End>,
    control: &UnixStream,
    cpu: Option<usize>,
    parent: Pid,
) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Ok(());
    }
    // Ctrl-C goes to the whole group of processes, but it is pathtrace that decides when to end.
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }?;
    set_name(match role {
        Role::Client => c"pathtrace-ask",
        Role::Server => c"pathtrace-reply",
    })?;
    if let Some(cpu) = cpu {
        pin(cpu)?;
    }
    while let Some(job) = Job::read(control)? {
        let result = match ends.get_mut(job.pair as usize) {
            Some(end) => job.run(role, end),
            None => Err(ErrorKind::InvalidInput.into()),
        };
        write_report(&result, control)?;
    }
    Ok(())
}

/// Keeps this thread on a CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    Ok(())
}

/// The CPUs that this thread may run on.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect())
}
