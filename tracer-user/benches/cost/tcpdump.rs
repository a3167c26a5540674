//! tcpdump, which writes whole packets at one place.

use std::{fs, process::Command};

use anyhow::Result;
use xtask::bench::lines::Tracer;

use crate::{
    process::{Ended, Files, Running, Started},
    target::Target,
};

/// Starts it with the same filter.
pub(crate) fn start(target: &Target) -> Result<Started> {
    let files = Files::new()?;
    let mut command = Command::new("tcpdump");
    // It would become another user, who may not write into our folder.
    command.args(["-i", "lo", "-Z", "root", "-w"]).arg(files.output());
    let filter: Vec<String> = target.ports.iter().map(|port| format!("tcp port {port}")).collect();
    command.arg(filter.join(" or "));
    Running::start(command, files, |files| {
        fs::read_to_string(files.said()).is_ok_and(|said| said.contains("listening on"))
    })
}

/// Adds what it says of itself.
pub(crate) fn add(tracer: Tracer, ended: &Ended) -> Result<Tracer> {
    let said = fs::read_to_string(ended.files.said())?;
    Ok(Tracer {
        events: number_before(&said, " packets captured"),
        lost: number_before(&said, " packets dropped by kernel"),
        ..tracer
    })
}

/// The number at the beginning of the line that ends so.
fn number_before(said: &str, what: &str) -> Option<u64> {
    // One packet is no packets.
    let singular = what.replace("packets", "packet");
    said.lines().find_map(|line| {
        line.strip_suffix(what).or_else(|| line.strip_suffix(singular.as_str()))?.parse().ok()
    })
}
