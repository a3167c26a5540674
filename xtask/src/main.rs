//! `cargo xtask`: see the library.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use xtask::{
    build::{self, Linking},
    cli::{Arguments, Task},
    process::step,
    workspace::Workspace,
};

/// What could not be done at all, as opposed to tests that ran and failed.
const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    match run(&Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            EXIT_ERROR.into()
        }
    }
}

fn run(task: &Task) -> Result<ExitCode> {
    let workspace = Workspace::locate();
    match task {
        Task::Build { target_static } => {
            let linking = if *target_static { Linking::Static } else { Linking::Dynamic };
            let program = build::build(&workspace, linking)?;
            step(&format!("built {}", program.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}
