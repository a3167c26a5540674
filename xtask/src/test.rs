//! `cargo xtask test`: all tests that can run here, and a summary that says which could not.

use anyhow::{Context as _, Result};

use crate::{
    browser::{self, Browser},
    build::{self, Linking, cargo_build},
    live,
    privilege::Privilege,
    process::step,
    vm::{self, Kernel, Readiness, Share, Verdict},
    workspace::Workspace,
};

/// Which tests to run.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The kernels for the virtual machines.
    pub kernels: Vec<Kernel>,
    /// Whether to run virtual machines.
    pub vm: bool,
    /// How much of the live tests each of them runs.
    pub share: Share,
    /// Whether to run the live tests on the running kernel.
    pub live: bool,
}

/// Runs the tests; says whether all passed. A test that fails does not keep the others from running.
pub fn test(workspace: &Workspace, selection: &Selection) -> Result<bool> {
    build::setup(workspace)?;
    let mut passed = true;
    let mut summary = Vec::new();

    let browser = browser::prepare()?;
    let ok = without_root(workspace, &browser)?;
    passed &= ok;
    summary.push(format!("tests without root: {}", word(ok)));
    if let Browser::Not(why) = browser {
        summary.push(format!("tests of pictures in a browser skipped: {why}"));
    }

    let privilege = if selection.live { Privilege::silent() } else { None };
    let busybox = match selection.vm.then(vm::prepare).transpose()? {
        Some(Readiness::Ready { busybox }) => Some(busybox),
        Some(Readiness::Not(why)) => {
            summary.push(format!("VM tests skipped: {why}"));
            None
        }
        None => {
            summary.push("VM tests skipped: --no-vm".into());
            None
        }
    };
    let programs =
        if privilege.is_some() || busybox.is_some() { Some(live::compile(workspace)?) } else { None };

    match (&programs, privilege) {
        (Some(programs), Some(privilege)) => {
            let ok = live::run_here(programs, privilege)?;
            passed &= ok;
            summary.push(format!("live tests on this kernel: {}", word(ok)));
        }
        _ if selection.live => {
            summary
                .push("live tests on this kernel skipped: they need root, or sudo without a password".into());
        }
        _ => summary.push("live tests on this kernel skipped: --no-live".into()),
    }
    if let (Some(programs), Some(busybox)) = (programs, busybox) {
        let tests = live::list(&programs)?;
        let contents = vm::Contents {
            programs: vec![("pathtrace", programs.pathtrace), ("live", programs.tests)],
            ..vm::Contents::default()
        };
        let what = (&tests[..], selection.share);
        let verdicts = vm::run_live_tests(workspace, &selection.kernels, &contents, &busybox, what)?;
        passed &= verdicts.iter().all(|verdict| verdict.passed);
        summary.extend(describe(&verdicts));
    }

    step("summary");
    for line in summary {
        println!("{line}");
    }
    Ok(passed)
}

/// Unit, property, snapshot and command line tests, and those of pictures in a browser. The live tests are among them, and
/// return at once.
fn without_root(workspace: &Workspace, browser: &Browser) -> Result<bool> {
    step("tests without root");
    let mut command = cargo_build(workspace, Linking::Dynamic, "test");
    if let Browser::Ready(program) = browser {
        command.env("PATHTRACE_CHROMIUM", program);
    }
    let status = command.env_remove("PATHTRACE_LIVE").status().context("cannot start cargo")?;
    Ok(status.success())
}

fn word(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

/// A line for each kernel, and one that counts them.
fn describe(verdicts: &[Verdict]) -> Vec<String> {
    let passed = verdicts.iter().filter(|verdict| verdict.passed).count();
    let line = |verdict: &Verdict| {
        format!("kernel {}: {} ({:.1} s)", verdict.kernel, verdict.ending, verdict.took.as_secs_f64())
    };
    let mut lines: Vec<String> = verdicts.iter().map(line).collect();
    let noun = if verdicts.len() == 1 { "kernel" } else { "kernels" };
    lines.push(format!("{} {noun}: {passed} passed, {} failed", verdicts.len(), verdicts.len() - passed));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_summary_counts_kernels() {
        let verdict = |passed| Verdict {
            kernel: "6.1.0".into(),
            passed,
            ending: word(passed).into(),
            took: Duration::from_millis(12_340),
        };
        let lines = describe(&[verdict(true), verdict(false)]);
        assert_eq!(lines[0], "kernel 6.1.0: passed (12.3 s)");
        assert_eq!(lines[2], "2 kernels: 1 passed, 1 failed");
        assert_eq!(describe(&[verdict(true)])[1], "1 kernel: 1 passed, 0 failed");
    }
}
