//! Asking the kernels: each is booted, pathtrace records there for a moment by each backend, and the recordings' headers
//! tell what it could attach to.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use tracer_common::probes::Backend;

use super::{kernels::Kernels, recording};
use crate::{
    build::{self, Linking},
    vm::{self, KERNELS, Kernel, Readiness},
    workspace::Workspace,
};

/// Far more than a guest needs, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Boots all kernels, one after the other.
pub(super) fn measure(workspace: &Workspace) -> Result<Kernels> {
    let busybox = match vm::prepare()? {
        Readiness::Ready { busybox } => busybox,
        Readiness::Not(why) => bail!("no virtual machines here: {why}"),
    };
    let pathtrace = build::build(workspace, Linking::Static)?;
    let contents = vm::Contents { programs: vec![("pathtrace", pathtrace)], ..vm::Contents::default() };
    let mut kernels = Kernels::default();
    for kernel in &KERNELS {
        let code = vm::run_command(workspace, kernel, &contents, &busybox, &command(), TIMEOUT)?;
        if code != 0 {
            bail!("kernel {} did not answer", kernel.version);
        }
        read(workspace, kernel, &mut kernels)?;
    }
    Ok(kernels)
}

/// Without filters, so that every point is tried. A backend that attaches nowhere leaves no recording.
fn command() -> String {
    let record = |backend: Backend| {
        let name = backend.name();
        format!("/pathtrace record --quiet --duration 100ms --backend {name} --write /out/{name}.ptr")
    };
    Backend::ALL.map(record).join("; ") + "; ls /out/*.ptr"
}

fn read(workspace: &Workspace, kernel: &Kernel, kernels: &mut Kernels) -> Result<()> {
    let folder = vm::came_back(workspace, kernel);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    files.iter().try_for_each(|file| recording::add(kernels, file))
}
