//! Starting other programs, with errors that name the program and what it was for.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Says on stderr what happens next.
pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Runs a program that shares this terminal, and fails if it does.
pub fn run(command: &mut Command, purpose: &str) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command, purpose))?;
    if !status.success() {
        bail!("{purpose}: `{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a program silently and returns what it wrote on stdout.
pub fn output(command: &mut Command, purpose: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command, purpose))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no message").trim();
        bail!("{purpose}: `{}` failed ({}): {last}", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program runs and exits with 0; its output is discarded.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The first file of this name on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    // A user's PATH often lacks the folders of system programs.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The cargo that started this program, else the one on `PATH`.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_running_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Removes what a surrounding cargo, rustup or user says about how *other* code is compiled; what they say about
/// registries and the network stays.
pub fn forget_compiler_settings(command: &mut Command) {
    let names: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    for name in names {
        if name.to_str().is_some_and(is_compiler_setting) {
            command.env_remove(name);
        }
    }
}

/// Variables that cargo sets for the program it runs. Handing them to another cargo makes build scripts that watch
/// them run again.
fn describes_running_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn is_compiler_setting(name: &str) -> bool {
    const NETWORK: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_TERM_"];
    const COMPILER: [&str; 8] = [
        "RUSTC",
        "RUSTC_BOOTSTRAP",
        "RUSTC_LINKER",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ];
    COMPILER.contains(&name)
        || (name.starts_with("CARGO_") && !NETWORK.iter().any(|prefix| name.starts_with(prefix)))
}

/// The command line, for messages.
pub fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

fn cannot_start(command: &Command, purpose: &str) -> String {
    format!("{purpose}: cannot start `{}`", command.get_program().to_string_lossy())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn compiler_settings_are_told_from_network_settings() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "RUSTUP_TOOLCHAIN",
            "CARGO_MAKEFLAGS",
        ] {
            assert!(is_compiler_setting(name), "{name}");
        }
        for name in
            ["PATH", "CARGO", "CARGO_HOME", "CARGO_REGISTRIES_X_INDEX", "CARGO_NET_OFFLINE", "RUSTUP_HOME"]
        {
            assert!(!is_compiler_setting(name), "{name}");
        }
    }

    #[test]
    fn a_failure_names_the_purpose_and_the_command() {
        let error = run(&mut Command::new("false"), "doing nothing").unwrap_err();
        assert_eq!(format!("{error:#}"), "doing nothing: `false` failed (exit status: 1)");
        let error = output(Command::new("/nonexistent/program").arg("x"), "trying").unwrap_err();
        assert!(
            format!("{error:#}").starts_with("trying: cannot start `/nonexistent/program`: "),
            "{error:#}"
        );
    }
}
