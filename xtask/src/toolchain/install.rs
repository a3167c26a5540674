//! Installing a toolchain: Debian's compiler through apt, bpf-linker through cargo.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{
    BPF_LINKER_VERSION, DEBIAN_RUSTC, Toolchain,
    find::{self, OLDEST_RUST},
    version,
};
use crate::{
    apt,
    privilege::Privilege,
    process::{cargo, forget_compiler_settings, on_path, step},
    workspace::Workspace,
};

/// Debian's packages: the compiler and its BPF core library. Stable releases keep a current compiler for their
/// browsers under the name with `-web`, beside the release's own, older one.
const FAMILIES: [[&str; 2]; 2] = [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

/// The toolchain that is there, else one that is installed now.
pub fn find_or_install(workspace: &Workspace) -> Result<Toolchain> {
    let missing = match find::find(workspace) {
        Ok(toolchain) => return Ok(toolchain),
        Err(missing) => missing,
    };
    step(&format!("no eBPF toolchain yet ({missing})"));
    if !apt::is_here() {
        bail!("no eBPF toolchain: {missing}. Type: {}", commands_for_nightly());
    }
    install(workspace).context("cannot install the eBPF toolchain")?;
    find::find(workspace).map_err(|missing| {
        anyhow::anyhow!("the eBPF toolchain does not work after its installation: {missing}")
    })
}

fn install(workspace: &Workspace) -> Result<()> {
    if find::debian().is_err() {
        let family = choose_family()?;
        apt::install(&family.map(String::from))?;
    }
    let rustc = find::debian().map_err(|missing| anyhow::anyhow!(missing))?;
    let llvm =
        version::llvm_major(&rustc).with_context(|| format!("`{DEBIAN_RUSTC} -vV` names no LLVM version"))?;
    let mut packages = vec![format!("llvm-{llvm}-dev")];
    if on_path("c++").is_none() {
        // LLVM is C++; linking with it needs the compiler's library.
        packages.push("g++".into());
    }
    apt::install(&packages)?;
    install_linker(workspace, llvm)
}

/// The first family that apt knows in a version that is new enough.
fn choose_family() -> Result<[&'static str; 2]> {
    let known = |[compiler, library]: [&str; 2]| {
        let new_enough = |package| {
            apt::candidate(package)
                .and_then(|version| version::major_minor(&version))
                .is_some_and(|version| version >= OLDEST_RUST)
        };
        new_enough(compiler) && new_enough(library)
    };
    let choose = || FAMILIES.into_iter().find(|family| known(*family));
    if let Some(family) = choose() {
        return Ok(family);
    }
    // A fresh machine has no package lists.
    match Privilege::any() {
        Some(privilege) => apt::update(privilege)?,
        None => bail!("type as root: {}; then: cargo xtask build", commands_for_debian()),
    }
    choose().with_context(|| {
        format!(
            "apt knows no Rust compiler with a BPF core library ({}) of version {}.{} or later; with rustup, type: {}",
            FAMILIES.map(|[_, library]| library).join(", "),
            OLDEST_RUST.0,
            OLDEST_RUST.1,
            commands_for_nightly()
        )
    })
}

/// Compiles bpf-linker into the workspace's tools, where nothing else on the machine is touched.
fn install_linker(workspace: &Workspace, llvm: u32) -> Result<()> {
    step(&format!(
        "compiling bpf-linker {BPF_LINKER_VERSION} for LLVM {llvm}, once: some minutes, cargo says how far it is"
    ));
    let mut command = cargo();
    forget_compiler_settings(&mut command);
    command
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
        .args(["install", "--locked", "--force", "--no-default-features"])
        .arg(format!("--features=llvm-{llvm}"))
        .arg("--root")
        .arg(workspace.tools())
        .arg("--target-dir")
        .arg(workspace.tools().join("build"))
        .arg(format!("bpf-linker@{BPF_LINKER_VERSION}"));
    if !command.status().is_ok_and(|status| status.success()) {
        bail!("cargo could not install bpf-linker {BPF_LINKER_VERSION}; check the network, then try again");
    }
    // Only the program itself is needed from now on; 200 MB of intermediate files are not.
    let _ = std::fs::remove_dir_all(workspace.tools().join("build"));
    Ok(())
}

/// What a user types where apt may not be run from here.
fn commands_for_debian() -> String {
    let [compiler, library] = FAMILIES[0];
    let llvm = format!(r#""llvm-$({DEBIAN_RUSTC} -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')-dev""#);
    format!(
        "apt-get update && {} && {}",
        apt::command_line(&[compiler.into(), library.into()]),
        apt::command_line(&[llvm])
    )
}

/// What a user types where there is no apt.
fn commands_for_nightly() -> String {
    let version = {
        let mut command = Command::new("rustup");
        forget_compiler_settings(&mut command);
        command.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc", "-vV"]);
        crate::process::output(&mut command, "asking for the nightly compiler").unwrap_or_default()
    };
    let features = match version::llvm_major(&version) {
        Some(llvm) => format!(" --no-default-features --features llvm-{llvm}"),
        None => String::new(),
    };
    format!(
        "rustup toolchain install nightly --component rust-src && cargo install bpf-linker@{BPF_LINKER_VERSION}{features}"
    )
}
