//! Compiling: the kernel programs, and the program that users run.

use std::{
    env::consts::ARCH,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{cargo, forget_compiler_settings, run, step},
    toolchain::{self, Compiler, DEBIAN_RUSTC, Toolchain},
    workspace::{BPF_OBJECTS, BPF_TARGET, Workspace},
};

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linking {
    /// As usual on this machine.
    Dynamic,
    /// Without shared libraries, so that it runs in any virtual machine and on any distribution.
    Static,
}

/// Compiles the kernel programs and pathtrace in release mode; returns the path of pathtrace.
pub fn build(workspace: &Workspace, linking: Linking) -> Result<PathBuf> {
    setup(workspace)?;
    step("compiling pathtrace (some minutes the first time)");
    let mut command = cargo_build(workspace, linking, "build");
    run(command.args(["--release", "--package", "tracer-user"]), "compiling pathtrace")?;
    Ok(match linking {
        Linking::Dynamic => workspace.pathtrace(),
        Linking::Static => workspace.target().join(static_target()).join("release/pathtrace"),
    })
}

/// Makes sure that there is a toolchain, and compiles the kernel programs: their compiler's messages are better seen
/// here than in the middle of a build script's.
pub fn setup(workspace: &Workspace) -> Result<()> {
    let toolchain = toolchain::find_or_install(workspace)?;
    step(&format!("eBPF toolchain: {}", toolchain.why));
    step("compiling the kernel programs (a minute the first time)");
    compile_kernel_programs(workspace, &toolchain)?;
    Ok(())
}

/// For the build script of tracer-user: compiles the kernel programs with the toolchain that is there. It installs
/// nothing, because `cargo build` must not change the machine.
pub fn kernel_programs_for_build_script(workspace: &Workspace) -> Result<PathBuf> {
    match toolchain::find(workspace) {
        Ok(toolchain) => compile_kernel_programs(workspace, &toolchain),
        Err(missing) => bail!("no eBPF toolchain ({missing}): run `cargo xtask build`, which installs one"),
    }
}

/// Compiles the kernel programs; returns the folder of the objects.
pub fn compile_kernel_programs(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    // Debug information is what the BTF is made from: without it the kernel knows no names and map types.
    let mut command = bpf_cargo(workspace, toolchain, "build", &["-Cdebuginfo=2", "-Clink-arg=--btf"]);
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker);
    run(&mut command, "compiling the kernel programs")?;
    let folder = workspace.bpf_objects();
    if let Some(missing) = BPF_OBJECTS.map(|name| folder.join(name)).iter().find(|object| !object.is_file()) {
        bail!("compiling the kernel programs left no {}", missing.display());
    }
    Ok(folder)
}

/// `cargo SUBCOMMAND` for the kernel programs, with the compiler that has a `core` for them.
pub(crate) fn bpf_cargo(
    workspace: &Workspace,
    toolchain: &Toolchain,
    subcommand: &str,
    flags: &[&str],
) -> Command {
    let mut command = match toolchain.compiler {
        Compiler::Nightly => {
            // Not `cargo +nightly`: the cargo on PATH may be a toolchain's own, which knows no `+`.
            let mut command = Command::new("rustup");
            forget_compiler_settings(&mut command);
            command.args(["run", "nightly", "cargo", subcommand, "-Z", "build-std=core"]);
            command
        }
        Compiler::Debian => {
            let mut command = cargo();
            forget_compiler_settings(&mut command);
            // aya-ebpf switches on an unstable feature (inline assembly for BPF); this lets a stable compiler take it.
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").arg(subcommand);
            command
        }
    };
    // aya-ebpf wants to know whose registers kprobes find.
    let mut all_flags = vec![format!("--cfg=bpf_target_arch=\"{ARCH}\"")];
    all_flags.extend(flags.iter().map(ToString::to_string));
    command
        .env("CARGO_ENCODED_RUSTFLAGS", all_flags.join("\u{1f}"))
        .args(["--release", "--package", "tracer-ebpf", "--target", BPF_TARGET, "--target-dir"])
        .arg(workspace.bpf_target())
        .current_dir(workspace.root());
    command
}

/// `cargo SUBCOMMAND` for this workspace, with the target folder that [`Workspace`] says.
pub fn cargo_build(workspace: &Workspace, linking: Linking, subcommand: &str) -> Command {
    let mut command = cargo();
    command.current_dir(workspace.root()).arg(subcommand).arg("--target-dir").arg(workspace.target());
    if linking == Linking::Static {
        // With a target named, the flags are for the program alone and not for build scripts, which must stay dynamic.
        command.env("RUSTFLAGS", "-C target-feature=+crt-static").args(["--target", &static_target()]);
        command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    }
    command
}

/// glibc's target: musl's is rarely installed.
pub fn static_target() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

/// Copies the objects with the kernel programs, made now or named by the user, to the folder that the crate embeds them from.
pub fn place_kernel_programs(from: &Path, to: &Path) -> Result<()> {
    for name in BPF_OBJECTS {
        let (from, to) = (from.join(name), to.join(name).with_extension("o"));
        std::fs::copy(&from, &to).with_context(|| {
            format!("cannot copy the kernel programs from {} to {}", from.display(), to.display())
        })?;
    }
    Ok(())
}
