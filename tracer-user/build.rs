//! Puts the compiled kernel programs where the crate embeds them from: `OUT_DIR/pathtrace-bpf.o`.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use xtask::{build, workspace::Workspace};

/// Names an object that was compiled elsewhere, for machines without an eBPF toolchain.
const OBJECT_VARIABLE: &str = "PATHTRACE_EBPF_OBJECT";

fn main() -> ExitCode {
    match place_object() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn place_object() -> Result<()> {
    println!("cargo::rerun-if-env-changed={OBJECT_VARIABLE}");
    let workspace = Workspace::locate();
    let out = PathBuf::from(env::var_os("OUT_DIR").context("cargo set no OUT_DIR")?).join("pathtrace-bpf.o");
    if let Some(object) = env::var_os(OBJECT_VARIABLE).filter(|object| !object.is_empty()) {
        // Build scripts run in their package's folder; users start cargo in the workspace's.
        let object = workspace.root().join(object);
        println!("cargo::rerun-if-changed={}", object.display());
        return build::place_kernel_programs(&object, &out).context(OBJECT_VARIABLE);
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
