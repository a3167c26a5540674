//! A file per verb. Each takes its arguments, does its work and says how it ended.

mod compare;
mod doctor;
mod failure;
mod generate;
mod hosts;
mod live;
mod names_of_drops;
mod outcome;
mod output;
mod prepare;
mod prove;
mod recording;
mod report;
mod reserved;
mod stop;
mod trace;
mod traced;
mod tracer;
mod wanted;

use std::io::{self, Write as _};

use clap::CommandFactory as _;

pub use self::{failure::Failure, outcome::Outcome};
use crate::cli::{Cli, Command};

/// Does what was asked for.
pub fn run(cli: &Cli) -> Result<Outcome, Failure> {
    match &cli.command {
        None => live::live(&cli.live),
        Some(Command::Record(args)) => live::record(args),
        Some(Command::Report(args)) => report::report(args),
        Some(Command::Prove(args)) => prove::prove(args),
        Some(Command::Compare(args)) => compare::compare(args),
        Some(Command::Doctor(args)) => doctor::doctor(args),
        Some(Command::Completions { shell }) => generate::completions(*shell, Cli::command()),
        Some(Command::Man) => generate::man(Cli::command()),
    }
}

/// Says something on standard error, which may be closed or full: then nobody listens.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
