//! Building and running the benchmarks, and what is shown of them.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::{
    document,
    page::{page, verdict_table},
    results::Results,
    verdicts::{Verdict, verdicts},
};
use crate::{
    apt,
    build::{self, Linking, cargo_build},
    live::executable,
    privilege::Privilege,
    process::{on_path, output, step},
    workspace::Workspace,
};

/// What is measured beside pathtrace, and Debian's package of it.
const ALTERNATIVES: [(&str, &str); 4] = [
    ("bpftrace", "bpftrace"),
    ("tcpdump", "tcpdump"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
];

/// The group, and the benchmark, that needs no kernel.
const CORRELATOR: &str = "correlator";

/// Streams of records: as many flows as there may be at once, and ten times as many events of the fewest and of the most.
const CORRELATED: [&[&str]; 2] = [&["events=1000000"], &["events=10000000", "flows=64", "flows=10000"]];

/// What to measure, and what to do with it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How often.
    pub rounds: u32,
    /// Only these groups of works; none: all.
    pub only: Vec<String>,
    /// Only these variants; none: all.
    pub variants: Vec<String>,
    /// Show JSON.
    pub json: bool,
    /// Renew the tables in docs/performance.md.
    pub write: bool,
    /// Do not measure, but read raw figures from this file.
    pub from: Option<PathBuf>,
    /// Keep the raw figures in this file.
    pub keep: Option<PathBuf>,
}

/// Measures, and shows what came out; says whether every verdict that there is is met.
pub fn bench(workspace: &Workspace, options: &Options) -> Result<bool> {
    let results = match &options.from {
        Some(file) => read(file)?,
        None => measure(workspace, options)?,
    };
    let verdicts = verdicts(&results);
    if options.json {
        println!("{}", serde_json::to_string(&Output { machine: &results.machine, verdicts: &verdicts })?);
    } else {
        print!("{}", page(&results, &verdicts));
        print!("{}", verdict_table(&verdicts));
    }
    if options.write {
        document::renew(workspace, &page(&results, &verdicts))?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.met != Some(false)))
}

#[derive(Serialize)]
struct Output<'a> {
    machine: &'a super::lines::Machine,
    verdicts: &'a [Verdict],
}

fn read(file: &Path) -> Result<Results> {
    let lines = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut results = Results::default();
    results.read(BufReader::new(lines), |_| Ok(()))?;
    Ok(results)
}

fn measure(workspace: &Workspace, options: &Options) -> Result<Results> {
    let Some(privilege) = Privilege::any() else {
        bail!("tracing needs root: run the benchmark as root, or where sudo works");
    };
    install()?;
    build::setup(workspace)?;
    let has_correlator = options.only.is_empty() || options.only.iter().any(|group| group == CORRELATOR);
    let others: Vec<&str> =
        options.only.iter().map(String::as_str).filter(|group| *group != CORRELATOR).collect();
    let mut kept = options.keep.as_ref().map(File::create).transpose().context("cannot keep the figures")?;
    let mut results = Results::default();

    let program = compile(workspace, "cost")?;
    // Without rounds it only says what machine this is.
    let rounds =
        if others.is_empty() && has_correlator && !options.only.is_empty() { 0 } else { options.rounds };
    step(&format!("measuring, {rounds} rounds"));
    let mut cost = privilege.command(&[] as &[(&str, &OsStr)], &program);
    cost.args(["--rounds", &rounds.to_string()]);
    let variants: Vec<&str> = options.variants.iter().map(String::as_str).collect();
    for (option, values) in [("--only", others), ("--variants", variants)] {
        if !values.is_empty() {
            cost.args([option, &values.join(",")]);
        }
    }
    read_all(&mut cost, &mut results, kept.as_mut())?;

    if has_correlator {
        let program = compile(workspace, CORRELATOR)?;
        step("measuring what pathtrace does with records");
        for chosen in CORRELATED {
            let mut correlator = Command::new(&program);
            correlator.args(["--json", "stream=tcp", "output=summary", "output=json"]).args(chosen);
            read_all(&mut correlator, &mut results, kept.as_mut())?;
        }
    }
    Ok(results)
}

/// Runs a benchmark and reads its lines.
fn read_all(benchmark: &mut Command, results: &mut Results, mut kept: Option<&mut File>) -> Result<()> {
    let mut child = benchmark.stdout(Stdio::piped()).spawn().context("cannot start the benchmark")?;
    let lines = child.stdout.take().context("the benchmark has no output")?;
    results.read(BufReader::new(lines), |line| {
        if let Some(kept) = &mut kept {
            writeln!(kept, "{line}")?;
        }
        Ok(())
    })?;
    let status = child.wait()?;
    if !status.success() {
        bail!("the benchmark has failed ({status})");
    }
    Ok(())
}

/// Installs the alternatives where that is possible. What is missing is shown as not available.
fn install() -> Result<()> {
    let missing: Vec<String> = ALTERNATIVES
        .iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if !missing.is_empty() && apt::is_here() && Privilege::any().is_some() {
        apt::install(&missing)?;
    }
    Ok(())
}

/// Compiles a benchmark; returns its program.
fn compile(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    step(&format!("compiling pathtrace and the benchmark {name} (some minutes the first time)"));
    let mut command = cargo_build(workspace, Linking::Dynamic, "bench");
    command
        .args(["--no-run", "--package", "tracer-user", "--bench", name])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let messages = output(&mut command, "compiling a benchmark")?;
    let program = executable(&messages, name, "bench").context("cargo made no benchmark")?;
    Ok(program.into())
}
