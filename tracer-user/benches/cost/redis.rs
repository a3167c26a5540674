//! A program that people use, with the load generator that comes with it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use tempfile::TempDir;

use crate::{
    group,
    traffic::Figures,
    watch::{Waited, Watch},
};

/// The processes' names, as far as the kernel keeps them.
pub(crate) const PROCESSES: [&str; 2] = ["redis-server", "redis-benchmark"];
/// Requests of a piece of work.
const REQUESTS: u64 = 20_000;
const CLIENTS: &str = "50";
const PATIENCE: Duration = Duration::from_secs(20);

/// A server. Dropping it ends it.
pub(crate) struct Redis {
    server: Child,
    _folder: TempDir,
    port: u16,
    cpu: usize,
}

impl Redis {
    /// Starts a server on a port that nobody uses. Server and clients run on this CPU.
    pub(crate) fn start(cpu: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let watch = Watch::folder(folder.path())?;
        let mut command = on(cpu, "redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(Stdio::null());
        // SAFETY: the closure only makes a system call, which is allowed between fork and exec.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let server = command.spawn().context("cannot start redis-server")?;
        let mut redis = Self { server, _folder: folder, port, cpu };
        let is_ready = || fs::read_to_string(&log).is_ok_and(|log| log.contains("Ready to accept"));
        let waited = watch.wait(PATIENCE, is_ready, || Ok(redis.server.try_wait()?.is_some()))?;
        if waited == Waited::Over {
            bail!("redis-server does not start");
        }
        Ok(redis)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Requests of many clients.
    pub(crate) fn requests(&self) -> Result<Figures> {
        let mut command = on(self.cpu, "redis-benchmark");
        command.args(["-p", &self.port.to_string(), "-n", &REQUESTS.to_string(), "-c", CLIENTS]);
        command.args(["-d", &group::VALUE.to_string(), "-t", "get", "--csv"]);
        let begun = Instant::now();
        let output = command.stdin(Stdio::null()).output().context("cannot start redis-benchmark")?;
        if !output.status.success() {
            bail!("redis-benchmark has failed ({})", output.status);
        }
        let took = begun.elapsed();
        figures(&String::from_utf8_lossy(&output.stdout), took).context("redis-benchmark said no figures")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended: then these do nothing.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn on(cpu: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &cpu.to_string(), program]);
    command
}

/// Two lines: names of the columns, and the values.
fn figures(csv: &str, took: Duration) -> Option<Figures> {
    let mut lines = csv.lines().filter(|line| line.starts_with('"'));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |name: &str| {
        let at = names.split(',').position(|it| it.trim_matches('"') == name)?;
        values.split(',').nth(at)?.trim_matches('"').parse::<f64>().ok()
    };
    let ns = |name| value(name).map(|ms| (ms * 1e6).round());
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are small and positive"
    )]
    let whole = |ns: f64| ns as u64;
    let seconds = REQUESTS as f64 / value("rps")?;
    Some(Figures {
        count: REQUESTS,
        seen: REQUESTS,
        ns: if seconds.is_finite() { whole(seconds * 1e9) } else { u64::try_from(took.as_nanos()).ok()? },
        p50_ns: ns("p50_latency_ms").map(whole),
        p99_ns: ns("p99_latency_ms").map(whole),
        bytes: None,
    })
}
