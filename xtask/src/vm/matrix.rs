//! The kernels one after the other: side by side, their clocks would run even less evenly.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    download::{Fetched, fetch},
    guest::Contents,
    kernels::Kernel,
    qemu::Ending,
    run::run,
};
use crate::{process::step, workspace::Workspace};

/// Ample: a guest boots in five seconds and runs the tests in twenty.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

/// Emulated processors share one thread, so tests would only wait for each other.
const TEST_COMMAND: &str = "exec /live --test-threads=1 --color=never\n";

/// How many lines of the console explain a failure.
const TAIL: usize = 40;

/// The live tests' result on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The kernel's own name, as `uname -r` prints it.
    pub kernel: String,
    /// Whether every test passed.
    pub passed: bool,
    /// How it ended, for people.
    pub ending: String,
    /// From the start of QEMU to its end.
    pub took: Duration,
}

/// Runs the live tests on these kernels.
pub fn run_live_tests(
    workspace: &Workspace,
    kernels: &[Kernel],
    contents: &Contents,
    busybox: &Path,
) -> Result<Vec<Verdict>> {
    // All downloads come first: a missing kernel should not show after minutes of tests.
    let fetched = kernels.iter().map(|kernel| fetch(workspace, kernel)).collect::<Result<Vec<_>>>()?;
    let base = contents.load(busybox, &workspace.vm())?;
    let mut verdicts = Vec::new();
    for (kernel, fetched) in kernels.iter().zip(fetched) {
        step(&format!("live tests on kernel {}", fetched.release));
        let start = Instant::now();
        let show = |line: &str| println!("{:>4} | {line}", kernel.version);
        let ending = run(&fetched, &base, TEST_COMMAND, TEST_TIMEOUT, show)?;
        let verdict = verdict(&fetched, ending, start.elapsed());
        if !verdict.passed {
            print_tail(&fetched)?;
        }
        println!("kernel {}: {} after {:.1} s", fetched.release, verdict.ending, verdict.took.as_secs_f64());
        verdicts.push(verdict);
    }
    Ok(verdicts)
}

/// Runs one shell command on one kernel and returns its exit code.
pub fn run_command(
    workspace: &Workspace,
    kernel: &Kernel,
    contents: &Contents,
    busybox: &Path,
    command: &str,
    timeout: Duration,
) -> Result<u8> {
    let fetched = fetch(workspace, kernel)?;
    let base = contents.load(busybox, &workspace.vm())?;
    let start = Instant::now();
    let ending = run(&fetched, &base, &format!("{command}\n"), timeout, |line| println!("{line}"))?;
    let verdict = verdict(&fetched, ending, start.elapsed());
    step(&format!(
        "kernel {}: {} after {:.1} s; files in {}",
        verdict.kernel,
        verdict.ending,
        verdict.took.as_secs_f64(),
        fetched.folder.join("out").display()
    ));
    match ending {
        Ending::Exit(code) => Ok(u8::try_from(code).unwrap_or(1)),
        Ending::Died | Ending::TimedOut => {
            print_tail(&fetched)?;
            Ok(1)
        }
    }
}

fn verdict(kernel: &Fetched, ending: Ending, took: Duration) -> Verdict {
    let (passed, ending) = match ending {
        Ending::Exit(0) => (true, "passed".into()),
        Ending::Exit(code) => (false, format!("failed (exit code {code})")),
        Ending::Died => (false, "failed (the guest died)".into()),
        Ending::TimedOut => (false, "failed (the time was up)".into()),
    };
    Verdict { kernel: kernel.release.clone(), passed, ending, took }
}

fn print_tail(kernel: &Fetched) -> Result<()> {
    let file = kernel.folder.join("console.log");
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- the end of {}:", file.display());
    for line in &lines[lines.len().saturating_sub(TAIL)..] {
        eprintln!("{line}");
    }
    eprintln!("---");
    Ok(())
}
