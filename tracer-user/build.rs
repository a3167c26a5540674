//! Puts the compiled kernel programs where the crate embeds them from: `OUT_DIR/*.o`.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use xtask::{build, workspace::Workspace};

/// Names a folder with objects that were compiled elsewhere, for machines without an eBPF toolchain.
const OBJECTS_VARIABLE: &str = "PATHTRACE_EBPF_OBJECTS";

fn main() -> ExitCode {
    match place_objects() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn place_objects() -> Result<()> {
    println!("cargo::rerun-if-env-changed={OBJECTS_VARIABLE}");
    let workspace = Workspace::locate();
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo set no OUT_DIR")?);
    if let Some(folder) = env::var_os(OBJECTS_VARIABLE).filter(|folder| !folder.is_empty()) {
        // Build scripts run in their package's folder; users start cargo in the workspace's.
        let folder = workspace.root().join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        return build::place_kernel_programs(&folder, &out).context(OBJECTS_VARIABLE);
    }
    for source in [
        "tracer-ebpf/src",
        "tracer-ebpf/Cargo.toml",
        "tracer-common/src",
        "tracer-common/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.root().join(source).display());
    }
    build::place_kernel_programs(&build::kernel_programs_for_build_script(&workspace)?, &out)
}
