//! pathtrace as users run it.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use xtask::bench::lines::Tracer;

use crate::{
    process::{Ended, Files, Running, Started},
    target::Target,
    variant::Variant,
};

/// One message of so many.
const SAMPLE: &str = "64";

/// Longer than the summary.
const TAIL: u64 = 256 * 1024;

/// Starts it.
pub(crate) fn start(variant: Variant, target: &Target) -> Result<Started> {
    let files = Files::new()?;
    let mut command = command(&files);
    match variant {
        Variant::Summary => command.arg("--summary"),
        Variant::Sample => command.args(["--sample", SAMPLE]),
        _ => &mut command,
    };
    command.args(match variant {
        Variant::Excluded => target.other_filter(),
        Variant::JsonAny => target.filter_of_any_protocol(),
        _ => target.filter(),
    });
    Running::start(command, files, |files| files.ready().exists())
}

/// Whether there can be no figures without it.
pub(crate) fn must_start(variant: Variant) -> bool {
    matches!(variant, Variant::Json | Variant::Summary | Variant::Excluded)
}

/// Without a filter.
pub(crate) fn command(files: &Files) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathtrace"));
    command.args(["--json", "--output"]).arg(files.output()).arg("--ready-file").arg(files.ready());
    command
}

/// What is needed of the last line that it writes.
#[derive(Deserialize)]
struct Summary {
    events: u64,
    lost: Option<u64>,
    paths: Paths,
}

#[derive(Deserialize)]
struct Paths {
    complete: u64,
    incomplete: u64,
}

/// Adds what it says of itself.
pub(crate) fn add(tracer: Tracer, ended: &Ended) -> Result<Tracer> {
    if !ended.status.success() {
        let said = std::fs::read_to_string(ended.files.said()).unwrap_or_default();
        bail!("pathtrace has failed ({}): {said}", ended.status);
    }
    let line = last_line(&ended.files.output()).context("pathtrace left no summary")?;
    let summary: Summary = serde_json::from_slice(&line).context("pathtrace's last line is no summary")?;
    Ok(Tracer {
        events: Some(summary.events),
        lost: summary.lost,
        complete: Some(summary.paths.complete),
        incomplete: Some(summary.paths.incomplete),
        ..tracer
    })
}

/// The file may be large, and its last line is enough.
fn last_line(path: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let line = tail.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    line.map(<[u8]>::to_vec).context("the file is empty")
}
