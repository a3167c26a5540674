//! Where it runs, for whoever reads the figures later.

use std::{fs, process::Command};

use xtask::bench::lines::Machine;

use crate::places::Places;

/// The alternatives, and how each is asked for its version.
const ALTERNATIVES: [(&str, &str); 3] =
    [("bpftrace", "--version"), ("tcpdump", "--version"), ("redis-server", "--version")];

/// This machine.
pub(crate) fn machine(places: Places, rounds: u32) -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned());
    Machine {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        processor,
        cpus: places.count,
        work_cpu: places.work,
        other_cpu: places.other,
        tracer_cpu: places.tracer,
        load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        rounds,
        programs: ALTERNATIVES.iter().filter_map(|(program, option)| version(program, option)).collect(),
    }
}

/// The first line of what a program says of itself.
fn version(program: &str, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}
