//! `cargo xtask lint`: clippy on everything, the kernel programs included, which only compile for their own target; and
//! whether generated documentation is what it should be.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    apt,
    build::{self, Linking, bpf_cargo, cargo_build},
    docs,
    privilege::Privilege,
    process::{output, run, step},
    toolchain::{self, Compiler, DEBIAN_RUSTC, Toolchain},
    workspace::Workspace,
};

const DEBIAN_CLIPPY: &str = "/usr/bin/clippy-driver";

/// Checks the documentation, then runs clippy; a warning is an error.
pub fn lint(workspace: &Workspace) -> Result<()> {
    docs::check(workspace)?;
    // The build script of tracer-user needs the kernel programs.
    build::setup(workspace)?;
    step("linting");
    let mut command = cargo_build(workspace, Linking::Dynamic, "clippy");
    run(command.args(["--all-targets", "--", "-D", "warnings"]), "linting")?;
    match toolchain::find(workspace) {
        Ok(toolchain) => lint_kernel_programs(workspace, &toolchain),
        Err(missing) => bail!("no eBPF toolchain: {missing}"),
    }
}

fn lint_kernel_programs(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    step("linting the kernel programs");
    // As a compiler's flag: dependencies are exempt from it, the workspace is not.
    let deny = ["-Dwarnings"];
    let mut command = match toolchain.compiler {
        Compiler::Nightly => bpf_cargo(workspace, toolchain, "clippy", &deny),
        Compiler::Debian => {
            if !install_debian_clippy()? {
                return Ok(());
            }
            // What cargo-clippy does; Debian's own would look for Debian's cargo.
            let mut command = bpf_cargo(workspace, toolchain, "check", &deny);
            command.env("RUSTC_WORKSPACE_WRAPPER", DEBIAN_CLIPPY);
            command
        }
    };
    run(&mut command, "linting the kernel programs")
}

/// clippy works with the very compiler that it was built with, so it comes from the same source package. Says whether
/// it is there; a machine where it cannot be installed can still lint the rest.
fn install_debian_clippy() -> Result<bool> {
    if Path::new(DEBIAN_CLIPPY).exists() {
        return Ok(true);
    }
    let mut owner = Command::new("dpkg");
    let owner = output(owner.args(["--search", DEBIAN_RUSTC]), "asking which package the compiler is from")?;
    let package = if owner.starts_with("rustc-web:") { "rust-web-clippy" } else { "rust-clippy" };
    if Privilege::any().is_none() {
        step(&format!("skipped, clippy is missing; type as root: {}", apt::command_line(&[package.into()])));
        return Ok(false);
    }
    apt::install(&[package.into()])?;
    Ok(true)
}
