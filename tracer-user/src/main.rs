//! Parse, run, map the end to an exit status; nothing else.

use std::process::ExitCode;

use pathtrace::{cli::Cli, commands};

/// An error of any kind: usage (clap's own status is the same), privilege, kernel.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match commands::run(&cli) {
        Ok(outcome) => ExitCode::from(outcome.status()),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            commands::say(&format!("pathtrace: {failure}\n"));
            ExitCode::from(ERROR)
        }
    }
}
