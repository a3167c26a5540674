//! What kernel programs take, as the kernel itself counts it (`kernel.bpf_stats_enabled`).

use std::{collections::BTreeMap, fs, os::fd::OwnedFd};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

/// The kernel counts as long as this lives.
pub(crate) struct Statistics {
    _enabled: OwnedFd,
}

impl Statistics {
    pub(crate) fn enable() -> Result<Self> {
        let enabled = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of programs")?;
        Ok(Self { _enabled: enabled })
    }
}

/// What a program has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    runs: u64,
    ns: u64,
}

impl Used {
    /// Runs and ns since then.
    pub(crate) fn since(self, before: Self) -> (u64, u64) {
        (self.runs.saturating_sub(before.runs), self.ns.saturating_sub(before.ns))
    }
}

/// What the programs of a process have used so far, by the tracepoint at which they are. Names of programs are cut off in the
/// kernel, but its links know the tracepoint.
pub(crate) fn of(pid: u32) -> Result<BTreeMap<String, Used>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut programs = BTreeMap::new();
    let mut tracepoints = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let Some(id) = field(&text, "prog_id") else { continue };
        if let Some(tracepoint) = field(&text, "tp_name") {
            tracepoints.push((id.to_owned(), tracepoint.to_owned()));
        } else if let Some((runs, ns)) = field(&text, "run_cnt").zip(field(&text, "run_time_ns")) {
            programs.insert(id.to_owned(), Used { runs: runs.parse()?, ns: ns.parse()? });
        }
    }
    let of = |(id, tracepoint): (String, String)| programs.get(&id).map(|used| (tracepoint, *used));
    Ok(tracepoints.into_iter().filter_map(of).collect())
}

/// The value of a line `name:<tab>value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}
