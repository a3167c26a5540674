//! Where things lie: one place that knows the paths.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The target that the kernel programs are compiled for. Both CPU families supported here are little-endian.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// The files with the compiled kernel programs: those that trace, those that short-cut TCP, and those that the tracing ones
/// are measured against.
pub const BPF_OBJECTS: [&str; 3] = ["pathtrace-bpf", "sockmap-bpf", "yardstick-bpf"];

/// The folders of this workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this code was compiled in, with `CARGO_TARGET_DIR` as cargo reads it.
    pub fn locate() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        // `join` keeps an absolute folder as it is. A relative one counts from the root, because build scripts run
        // in their package's folder and must reach the same place.
        let target = root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        Self { root, target }
    }

    /// The folder of the workspace's manifest.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where tools for the build are installed; kept apart from `CARGO_TARGET_DIR` so that every build shares them.
    pub fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// Where kernels for the virtual machines are kept; shared in the same way.
    pub fn vm(&self) -> PathBuf {
        self.root.join("target/vm")
    }

    /// The target folder of the kernel programs. A folder of its own: the outer cargo holds the lock on the usual one
    /// while the build script runs.
    pub fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// Where the [objects](BPF_OBJECTS) are compiled to.
    pub fn bpf_objects(&self) -> PathBuf {
        self.bpf_target().join(BPF_TARGET).join("release")
    }

    /// The release binary for this machine.
    pub fn pathtrace(&self) -> PathBuf {
        self.target.join("release/pathtrace")
    }
}
