//! Parse, run, map the end to an exit status; nothing else.

use std::process::ExitCode;

use pathtrace::{cli::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::from_args(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match commands::run(&cli) {
        Ok(outcome) => ExitCode::from(outcome.status()),
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            commands::say(&format!("pathtrace: {failure}\n"));
            ExitCode::from(failure.status())
        }
    }
}
