//! The live tests: they trace real traffic, so they need root and run the program that users run.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{Linking, cargo_build},
    privilege::Privilege,
    process::{output, step},
    workspace::Workspace,
};

/// The live test that can last for longer.
const SOAK: &str = "memory::memory_is_flat_while_connections_come_and_go";

/// Both programs, linked statically so that one build serves this machine and every guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// What the tests run.
    pub pathtrace: PathBuf,
    /// The tests, if they exist.
    pub tests: PathBuf,
}

/// Compiles pathtrace and its live tests.
pub fn compile(workspace: &Workspace) -> Result<Programs> {
    step("compiling pathtrace and the live tests, linked statically");
    let mut command = cargo_build(workspace, Linking::Static, "test");
    command
        .args(["--no-run", "--release", "--package", "tracer-user", "--test", "live"])
        // Cargo says here which files it made; errors and progress go to the terminal as usual.
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let messages = output(&mut command, "compiling the live tests")?;
    let tests = executable(&messages, "live", "test").context("cargo made no live tests")?;
    let pathtrace = executable(&messages, "pathtrace", "bin").context("cargo made no pathtrace")?;
    Ok(Programs { pathtrace: pathtrace.into(), tests: tests.into() })
}

/// The names of all live tests.
pub fn list(programs: &Programs) -> Result<Vec<String>> {
    let mut command = Command::new(&programs.tests);
    let listed = output(command.args(["--list", "--format", "terse"]), "listing the live tests")?;
    let names: Vec<String> =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    if names.is_empty() {
        bail!("{} lists no tests", programs.tests.display());
    }
    Ok(names)
}

/// Runs the live tests on the running kernel; says whether they passed.
pub fn run_here(programs: &Programs, privilege: Privilege) -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    step(&format!("live tests on this kernel ({})", release.trim()));
    let variables =
        [("PATHTRACE_LIVE", OsStr::new("1")), ("PATHTRACE_BIN", Path::as_os_str(&programs.pathtrace))];
    let mut command = privilege.command(&variables, &programs.tests);
    // Tests that see all of the machine's traffic would see each other's.
    let status = command.arg("--test-threads=1").status().context("cannot start the live tests")?;
    Ok(status.success())
}

/// Runs the test of memory for so long; says whether it passed.
pub fn soak(programs: &Programs, privilege: Privilege, lasts: Duration) -> Result<bool> {
    step(&format!("tracing for {} s", lasts.as_secs()));
    let seconds = lasts.as_secs().to_string();
    let variables = [
        ("PATHTRACE_LIVE", OsStr::new("1")),
        ("PATHTRACE_BIN", Path::as_os_str(&programs.pathtrace)),
        ("PATHTRACE_SOAK_SECONDS", OsStr::new(&seconds)),
    ];
    let mut command = privilege.command(&variables, &programs.tests);
    command.args(["--exact", SOAK, "--nocapture"]);
    let status = command.status().context("cannot start the live tests")?;
    Ok(status.success())
}

/// The path of a target's program in cargo's messages: one JSON object a line, of which two fields are needed.
pub(crate) fn executable<'a>(messages: &'a str, name: &str, kind: &str) -> Option<&'a str> {
    let name = format!(r#""name":"{name}""#);
    let kind = format!(r#""kind":["{kind}"]"#);
    let line = messages.lines().find(|line| {
        line.contains(&name) && line.contains(&kind) && line.contains(r#""reason":"compiler-artifact""#)
    })?;
    let (_, rest) = line.split_once(r#""executable":""#)?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_found_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"pathtrace"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"pathtrace"},"executable":"/t/pathtrace","fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"live"},"executable":"/t/deps/live-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "pathtrace", "bin"), Some("/t/pathtrace"));
        assert_eq!(executable(messages, "live", "test"), Some("/t/deps/live-1"));
        assert_eq!(executable(messages, "other", "test"), None);
    }
}
