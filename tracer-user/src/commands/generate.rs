//! Completions and the manual page, from the same definitions as the command line.

use std::io::{self, Write as _};

use clap_complete::Shell;

use super::{Failure, Outcome};

pub(super) fn completions(shell: Shell, mut command: clap::Command) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "pathtrace", &mut text);
    print(&text)
}

pub(super) fn man(command: clap::Command) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).map_err(Failure::Output)?;
    print(&text)
}

/// The generators write straight to standard output and panic when it is closed, hence the detour.
fn print(text: &[u8]) -> Result<Outcome, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(Failure::Output)?;
    Ok(Outcome::Done)
}
