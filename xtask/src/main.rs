//! `cargo xtask`: see the library.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Parser as _;
use xtask::{
    bench,
    browser::{self, Browser},
    build::{self, Linking},
    cli::{Arguments, BenchArguments, Task, VmArguments},
    demo, docs, lint, live,
    privilege::Privilege,
    process::step,
    test::{self, Selection},
    vm::{self, Readiness, Share},
    workspace::Workspace,
};

/// Something ran to its end and failed.
const EXIT_FAILED: u8 = 1;
/// Something could not be done at all.
const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            EXIT_ERROR.into()
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::locate();
    let passed = match task {
        Task::Build { target_static } => {
            let linking = if target_static { Linking::Static } else { Linking::Dynamic };
            let program = build::build(&workspace, linking)?;
            step(&format!("built {}", program.display()));
            true
        }
        Task::Setup => {
            build::setup(&workspace)?;
            match browser::prepare()? {
                Browser::Ready(program) => step(&format!("pictures are tested with {}", program.display())),
                Browser::Not(why) => step(&format!("no tests of pictures in a browser: {why}")),
            }
            match vm::prepare()? {
                Readiness::Ready { .. } => step("ready to build and to test, virtual machines included"),
                Readiness::Not(why) => step(&format!("ready to build; no virtual machines: {why}")),
            }
            true
        }
        Task::Lint => {
            lint::lint(&workspace)?;
            true
        }
        Task::Docs { measure } => {
            docs::docs(&workspace, measure)?;
            true
        }
        Task::Test(arguments) => {
            let kernels = vm::by_versions(&arguments.kernel)?;
            let share = match (arguments.every, arguments.kernel.is_empty()) {
                (true, _) => Share::Everything,
                // Who names a kernel wants to know all of that one.
                (false, false) => Share::Once,
                (false, true) => Share::Turns,
            };
            let selection = Selection { kernels, vm: !arguments.no_vm, share, live: !arguments.no_live };
            test::test(&workspace, &selection)?
        }
        Task::Vm(arguments) => return run_in_vm(&workspace, arguments),
        Task::Soak(arguments) => {
            let Some(privilege) = Privilege::any() else { bail!("tracing needs root, or sudo") };
            build::setup(&workspace)?;
            live::soak(&live::compile(&workspace)?, privilege, Duration::from_secs(60 * arguments.minutes))?
        }
        Task::Demo(arguments) => demo::demo(&workspace, arguments.port)?,
        Task::Bench(arguments) => {
            let gate = arguments.gate;
            let met = bench::bench(&workspace, &options(arguments))?;
            met || !gate
        }
    };
    Ok(if passed { ExitCode::SUCCESS } else { EXIT_FAILED.into() })
}

fn options(arguments: BenchArguments) -> bench::Options {
    let BenchArguments { rounds, only, variants, json, gate: _, write, keep, from } = arguments;
    bench::Options { rounds, only, variants, json, write, from, keep }
}

/// Exits as the command in the guest did.
fn run_in_vm(workspace: &Workspace, arguments: VmArguments) -> Result<ExitCode> {
    let kernels = vm::by_versions(&[arguments.kernel])?;
    let busybox = match vm::prepare()? {
        Readiness::Ready { busybox } => busybox,
        Readiness::Not(why) => bail!("no virtual machines here: {why}"),
    };
    build::setup(workspace)?;
    let programs = live::compile(workspace)?;
    let contents = vm::Contents {
        programs: vec![("pathtrace", programs.pathtrace), ("live", programs.tests)],
        files: arguments.file,
        modules: arguments.module,
    };
    let timeout = Duration::from_secs(arguments.timeout);
    let command = arguments.command.join(" ");
    Ok(vm::run_command(workspace, &kernels[0], &contents, &busybox, &command, timeout)?.into())
}
