//! One run of one guest.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{console::Console, download::Fetched};
use crate::process::output;

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The command ended with this code.
    Exit(i32),
    /// The guest stopped before the command's end: a kernel panic, or QEMU itself failed.
    Died,
    /// The time was up.
    TimedOut,
}

/// How long to wait for a guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From start to end.
    pub(super) total: Duration,
    /// From one line on the console to the next.
    pub(super) silence: Duration,
}

/// Boots the guest and waits for its end. `show` gets every line of the command's output. The console is kept in
/// `console.log` of the run's folder, and what the command left in `/out` in `out`.
pub(super) fn boot(
    kernel: &Fetched,
    run: &Path,
    patience: Patience,
    show: impl Fn(&str) + Sync,
) -> Result<Ending> {
    let log = run.join("console.log");
    let back = run.join("back");
    let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut guest = command(kernel, run, &back)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone().context("cannot share the console log")?)
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let pipe = guest.stdout.take().context("QEMU has no console")?;
    let last_line = Mutex::new(Instant::now());
    let hear = |line: &str| {
        *last_line.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        show(line);
    };
    let (finished, exit) = thread::scope(|scope| {
        let reader = scope.spawn(|| follow(pipe, log, &hear));
        let finished = wait(&mut guest, patience, &last_line);
        (finished, reader.join())
    });
    let exit = exit.map_err(|_| anyhow!("reading the console failed"))??;
    take_files(&back, &run.join("out"))?;
    Ok(match (exit, finished?) {
        (Some(code), _) => Ending::Exit(code),
        (None, true) => Ending::Died,
        (None, false) => Ending::TimedOut,
    })
}

/// Emulation with one thread: `/dev/kvm` is not everywhere, and with a thread for each processor QEMU loses its way
/// when kprobes change code that another processor runs.
fn command(kernel: &Fetched, run: &Path, back: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=single", "-cpu", "max", "-M", "q35", "-m", "1G", "-smp", "2"])
        .args(["-nodefaults", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"])
        .args(["-append", "console=ttyS0 panic=-1 oops=panic quiet mitigations=off tsc=reliable"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(run.join("initrd"))
        // Input comes from /dev/null; signal=off keeps Ctrl-C for the user.
        .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-serial"])
        .arg(format!("file:{}", back.display()));
    command
}

/// Copies the console to the log and shows the command's part; returns the command's exit code.
fn follow(pipe: impl Read, mut log: File, show: &impl Fn(&str)) -> Result<Option<i32>> {
    let mut pipe = BufReader::new(pipe);
    let mut console = Console::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        // Bytes, because a crashing guest may print anything.
        if pipe.read_until(b'\n', &mut line).context("cannot read the console")? == 0 {
            return Ok(console.exit());
        }
        log.write_all(&line).context("cannot write the console log")?;
        if let Some(text) = console.line(&String::from_utf8_lossy(&line)) {
            show(text);
        }
    }
}

/// Whether the guest ended by itself; stops it when patience ends.
fn wait(guest: &mut Child, patience: Patience, last_line: &Mutex<Instant>) -> Result<bool> {
    let start = Instant::now();
    let silence = || last_line.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
    while start.elapsed() < patience.total && silence() < patience.silence {
        if guest.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    guest.kill().context("cannot stop QEMU")?;
    guest.wait().context("cannot wait for QEMU")?;
    Ok(false)
}

fn take_files(back: &Path, out: &Path) -> Result<()> {
    let text = fs::metadata(back).map_or(0, |metadata| metadata.len());
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    if text > 0 {
        let mut command = Command::new("sh");
        command.args(["-c", r#"base64 -d "$1" | tar -xz -C "$2""#, "sh"]).arg(back).arg(out);
        output(&mut command, "taking files from the guest")?;
    }
    Ok(())
}
