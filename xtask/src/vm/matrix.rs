//! The same on every kernel: the live tests on as many guests at once as there are processors, or one command.

use std::{
    cmp::Reverse,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    download::{Fetched, fetch},
    guest::{Base, Contents},
    kernels::{KERNELS, Kernel},
    qemu::{Ending, Patience},
    run::run,
    turns::{Share, Turn, turns},
};
use crate::{process::step, workspace::Workspace};

/// A test that prints nothing for so long hangs: the longest takes a minute and a half, and twice that on a machine that has other
/// things to do.
const TEST_SILENCE: Duration = Duration::from_secs(6 * 60);

/// How long a guest may take.
fn test_time(share: Share) -> Duration {
    let minutes = match share {
        Share::Turns | Share::Once => 60,
        Share::Everything => 120,
    };
    Duration::from_secs(minutes * 60)
}

/// Runs the tests of each turn. Emulated processors share one thread, so tests would only wait for each other. Such a machine may stand
/// still at any moment, for longer than a test allows for: what fails is run once more, and the console says so.
///
/// Names of what failed are taken from the list at the end: what a test's own processes say may stand between a test's name and its
/// result. A name that no test has would pass, so the passes are counted.
const TEST_COMMAND: &str = r#"
CODE=0
turn() {
    export PATHTRACE_TEST_BACKENDS=$1
    shift
    LIVE="/live --test-threads=1 --color=never --exact"
    $LIVE "$@" 2>&1 | tee /tmp/first
    grep -q "^test result: ok. $# passed" /tmp/first && return
    FAILED=$(awk '/^failures:$/ { names = "" } /^    [a-z0-9_:]+$/ { names = names " " $1 } END { print names }' /tmp/first)
    set -- $FAILED
    [ $# -gt 0 ] || exit 101
    echo "once more:" "$@"
    $LIVE "$@" 2>&1 | tee /tmp/again
    grep -q "^test result: ok. $# passed" /tmp/again || CODE=101
}
"#;

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

/// Runs the live tests, or this share of them, on these kernels.
pub fn run_live_tests(
    workspace: &Workspace,
    kernels: &[Kernel],
    contents: &Contents,
    busybox: &Path,
    (tests, share): (&[String], Share),
) -> Result<Vec<Verdict>> {
    // All downloads come first: a missing kernel should not show after minutes of tests only.
    let mut guests = Vec::new();
    let mut verdicts = Vec::new();
    for kernel in kernels {
        match fetch(workspace, kernel) {
            Ok(fetched) => guests.push((turns(tests, kernel, share), kernel, fetched)),
            Err(error) => verdicts.push(not_fetched(kernel, &error)),
        }
    }
    let base = contents.load(busybox, &workspace.vm())?;
    // The longest come first, and short ones fill the time at the end.
    guests.sort_by_key(|(turns, ..)| Reverse(runs(turns)));
    // A guest keeps one processor busy.
    let at_once = thread::available_parallelism().map_or(1, NonZero::get).min(guests.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut verdicts = Vec::new();
        while let Some((turns, kernel, fetched)) = guests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let patience = Patience { total: test_time(share), silence: TEST_SILENCE };
            verdicts.push(test_one(kernel, fetched, &base, turns, patience)?);
        }
        Ok(verdicts)
    };
    let run: Result<Vec<Vec<Verdict>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().map_err(|_| anyhow!("a virtual machine's thread failed"))?
        };
        workers.into_iter().map(join).collect()
    });
    let mut run = run?.concat();
    guests.sort_by_key(|(_, kernel, _)| KERNELS.iter().position(|known| known.version == kernel.version));
    run.sort_by_key(|verdict| guests.iter().position(|(.., fetched)| fetched.release == verdict.kernel));
    verdicts.extend(run);
    Ok(verdicts)
}

/// How many runs of tests these are: by each backend.
fn runs(turns: &[Turn]) -> usize {
    turns.iter().map(|turn| turn.tests.len() * turn.backends.split(',').count()).sum()
}

/// Lines of several guests mix, so each says whose it is.
fn test_one(
    kernel: &Kernel,
    fetched: &Fetched,
    base: &Base,
    turns: &[Turn],
    patience: Patience,
) -> Result<Verdict> {
    step(&format!("live tests on kernel {}, {} runs", fetched.release, runs(turns)));
    let start = Instant::now();
    let show = |line: &str| println!("{:>4} | {line}", kernel.version);
    let turn = |turn: &Turn| format!("turn {} {}\n", turn.backends, turn.tests.join(" "));
    let turns: String = turns.iter().map(turn).collect();
    let command = format!("{TEST_COMMAND}\n{turns}exit $CODE\n");
    let ending = run(fetched, base, &command, patience, show)?;
    let verdict = verdict(fetched, ending, start.elapsed());
    if !verdict.passed {
        print_tail(fetched)?;
    }
    println!("kernel {}: {} after {:.1} s", fetched.release, verdict.ending, verdict.took.as_secs_f64());
    Ok(verdict)
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
    let patience = Patience { total: timeout, silence: timeout };
    let ending = run(&fetched, &base, &format!("{command}\n"), patience, |line| println!("{line}"))?;
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

/// Where the files are that the last command on a kernel left in `/out`.
pub fn came_back(workspace: &Workspace, kernel: &Kernel) -> PathBuf {
    workspace.vm().join(kernel.version).join("out")
}

/// A kernel that cannot be had is a failure of its own, and does not keep the others from being tested.
fn not_fetched(kernel: &Kernel, error: &anyhow::Error) -> Verdict {
    eprintln!("error: {error:#}");
    let ending = "failed (not fetched)".into();
    Verdict { kernel: kernel.version.into(), passed: false, ending, took: Duration::ZERO }
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
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    // In one piece, so that no other guest's lines come in between.
    eprintln!("--- the end of {}:\n{tail}\n---", file.display());
    Ok(())
}
