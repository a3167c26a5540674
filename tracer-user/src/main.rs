//! Parse, run, map the end to an exit status; nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use pathtrace::{cli::Cli, commands};

/// An error of any kind: usage (clap's own status is the same), privilege, kernel.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    match commands::run(&Cli::parse()) {
        Ok(outcome) => ExitCode::from(outcome.status()),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pathtrace: {failure}");
            ExitCode::from(ERROR)
        }
    }
}
