//! Looking for a toolchain that is there already. Nothing here changes the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Compiler, DEBIAN_RUSTC, Missing, Toolchain, version};
use crate::{
    process::{forget_compiler_settings, on_path, output},
    workspace::{BPF_TARGET, Workspace},
};

/// The oldest compiler that the workspace supports (`rust-version` in its manifest).
pub(super) const OLDEST_RUST: (u32, u32) = (1, 88);

/// The first way that works here, or why none does.
pub fn find(workspace: &Workspace) -> Result<Toolchain, Missing> {
    let nightly = match nightly() {
        Ok(rustc) => match linker(workspace, version::llvm_major(&rustc)) {
            Ok(linker) => {
                let why = format!("rustup's nightly compiler with rust-src, {}", linker.display());
                return Ok(Toolchain { compiler: Compiler::Nightly, linker, why });
            }
            Err(missing) => format!("rustup's nightly compiler has {missing}"),
        },
        Err(missing) => missing,
    };
    let debian = match debian() {
        Ok(rustc) => match linker(workspace, version::llvm_major(&rustc)) {
            Ok(linker) => {
                let name = rustc.lines().next().unwrap_or(DEBIAN_RUSTC);
                let name = name.split(" (").next().unwrap_or(name);
                let why =
                    format!("Debian's {name} with its BPF core library, {} ({nightly})", linker.display());
                return Ok(Toolchain { compiler: Compiler::Debian, linker, why });
            }
            Err(missing) => format!("Debian's compiler has {missing}"),
        },
        Err(missing) => missing,
    };
    Err(Missing(vec![nightly, debian]))
}

/// `rustc -vV` of rustup's nightly toolchain if it can build `core`.
fn nightly() -> Result<String, String> {
    if on_path("rustup").is_none() {
        return Err("rustup is not on PATH".into());
    }
    let rustc = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        forget_compiler_settings(&mut command);
        // Looking must not install.
        command.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc"]).args(arguments);
        output(&mut command, "asking for the nightly compiler")
    };
    let missing = |_| String::from("rustup has no nightly toolchain");
    let sysroot = rustc(&["--print", "sysroot"]).map_err(missing)?;
    if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
        return Err("rustup's nightly toolchain lacks the component rust-src".into());
    }
    rustc(&["-vV"]).map_err(missing)
}

/// `rustc -vV` of Debian's compiler if it is new enough and has the BPF core library.
pub(super) fn debian() -> Result<String, String> {
    let rustc = |arguments: &[&str]| {
        let mut command = Command::new(DEBIAN_RUSTC);
        forget_compiler_settings(&mut command);
        output(command.args(arguments), "asking for Debian's compiler")
            .map_err(|_| format!("there is no {DEBIAN_RUSTC}"))
    };
    let version = rustc(&["-vV"])?;
    if version::release(&version).is_none_or(|release| release < OLDEST_RUST) {
        return Err(format!("{DEBIAN_RUSTC} is older than {}.{}", OLDEST_RUST.0, OLDEST_RUST.1));
    }
    let library = Path::new(rustc(&["--print", "sysroot"])?.trim()).join("lib/rustlib").join(BPF_TARGET);
    let libraries = fs::read_dir(library.join("lib"));
    let has_core = libraries.is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core { Ok(version) } else { Err(format!("{DEBIAN_RUSTC} has no core library for {BPF_TARGET}")) }
}

/// A bpf-linker that runs: one that xtask installed for this LLVM, else one on `PATH`.
fn linker(workspace: &Workspace, llvm: Option<u32>) -> Result<PathBuf, String> {
    let tools = workspace.tools();
    let installed = tools.join("bin/bpf-linker");
    // Cargo notes down the features that it installed with.
    let note = fs::read_to_string(tools.join(".crates2.json")).unwrap_or_default();
    let fits = llvm.is_none_or(|major| note.contains(&format!("\"llvm-{major}\"")));
    let own = (installed.is_file() && fits).then_some(installed);
    // One whose libLLVM was removed since is there, but does not start.
    let runs = |linker: &PathBuf| output(Command::new(linker).arg("--version"), "asking bpf-linker").is_ok();
    own.into_iter().chain(on_path("bpf-linker")).find(runs).ok_or_else(|| match llvm {
        Some(major) => format!("no bpf-linker for LLVM {major}"),
        None => "no bpf-linker".into(),
    })
}
