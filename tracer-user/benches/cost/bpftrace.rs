//! bpftrace, told to do what pathtrace does.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::Command,
};

use anyhow::Result;
use xtask::bench::lines::Tracer;

use crate::{
    process::{Ended, Files, Running, Started},
    script,
    target::Target,
    variant::Variant,
};

/// What it prints first. It takes what its programs hand over only when all of them are attached.
const READY: &str = "ready";
const TRACEFS: &str = "/sys/kernel/tracing";

/// Starts it.
pub(crate) fn start(variant: Variant, target: &Target) -> Result<Started> {
    let files = Files::new()?;
    let path = files.folder().join("script.bt");
    let begin = format!("BEGIN {{ printf(\"{READY}\\n\"); }}\n");
    fs::write(&path, begin + &script::of(variant, target))?;
    let mut command = in_tracefs();
    // It writes line by line there, as it does on a terminal; to a file of its own it would not say that it is ready.
    command.arg(path).stdout(File::create(files.output())?);
    Running::start(command, files, |files| {
        fs::read_to_string(files.output()).is_ok_and(|output| output.contains(READY))
    })
}

/// Its tracepoints are those of tracefs. Where that is not mounted, it is mounted for bpftrace alone.
fn in_tracefs() -> Command {
    if Path::new(TRACEFS).join("events").exists() {
        return Command::new("bpftrace");
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(format!("mount -t tracefs tracefs {TRACEFS} && exec bpftrace \"$@\"")).arg("sh");
    command
}

/// Adds what it says of itself.
pub(crate) fn add(tracer: Tracer, variant: Variant, ended: &Ended) -> Result<Tracer> {
    let mut printed = 0;
    let mut counted = None;
    let mut lost = 0;
    for file in [ended.files.output(), ended.files.said()] {
        for line in BufReader::new(File::open(file)?).lines() {
            let line = line?;
            if let Some(number) = line.strip_prefix("Lost ").and_then(|line| line.strip_suffix(" events")) {
                lost += number.parse::<u64>().unwrap_or_default();
            } else if let Some(number) = line.strip_prefix(script::COUNTED) {
                counted = Some(counted.unwrap_or(0) + number.trim().parse::<u64>().unwrap_or_default());
            } else if line.starts_with(script::PRINTED) {
                printed += 1;
            }
        }
    }
    let events = if variant == Variant::BpftracePrint { Some(printed) } else { counted };
    Ok(Tracer { events, lost: Some(lost), ..tracer })
}
