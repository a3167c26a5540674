//! From output arguments to writers.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::AsFd as _,
    path::Path,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Failure, reserved::Reserved};
use crate::{
    cli::{Color, Format, OutputArgs, Time},
    model::Coverage,
    render::{self, PathWriter, Style, SummaryOnly, TimeFormat},
    session::Output,
};

/// Room for many lines between two writes.
const BUFFER: usize = 256 * 1024;

/// The name of a file that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// As any other file of this user.
const MODE: u32 = 0o666;

/// Where data goes. If it is a file, it can be written, and what was there stays until the output is opened.
pub(super) enum Place<'a> {
    Stdout,
    File { path: &'a Path, reserved: Reserved },
}

impl<'a> Place<'a> {
    /// The one that the arguments name.
    pub(super) fn of(args: &'a OutputArgs) -> Result<Self, Failure> {
        let Some(path) = args.output.as_deref().filter(|path| *path != Path::new(STANDARD_OUTPUT)) else {
            return Ok(Self::Stdout);
        };
        let reserved = Reserved::open(path, MODE).map_err(|source| failed(path, source))?;
        Ok(Self::File { path, reserved })
    }
}

fn failed(path: &Path, source: io::Error) -> Failure {
    Failure::File { what: "create", path: path.to_owned(), source }
}

/// Opens what the arguments ask for.
pub(super) fn open(
    args: &OutputArgs,
    place: Place<'_>,
    coverage: &Coverage,
    realtime_offset_ns: i64,
) -> Result<Output, Failure> {
    let is_stdout = matches!(place, Place::Stdout);
    let to_terminal = is_stdout && io::stdout().is_terminal();
    let to: Box<dyn Write> = match place {
        Place::File { path, reserved } => {
            let file = reserved.emptied().map_err(|source| failed(path, source))?;
            Box::new(BufWriter::with_capacity(BUFFER, file))
        }
        Place::Stdout => Box::new(BufWriter::with_capacity(BUFFER, io::stdout())),
    };
    let color = match args.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_colored(to_terminal),
    };
    let time = match args.time {
        Time::Delta => TimeFormat::Delta,
        Time::Relative => TimeFormat::Relative,
        Time::Absolute => TimeFormat::Absolute,
    };
    let width = to_terminal.then(width_of_terminal).flatten();
    let style = Style { color, time, realtime_offset_ns, width };
    let form = match args.form() {
        Format::Table => render::Format::Table,
        Format::Tree => render::Format::Tree,
        Format::Json => render::Format::Json,
    };
    let writer = render::writer(form, style, coverage);
    let writer: Box<dyn PathWriter> = if args.summary { Box::new(SummaryOnly(writer)) } else { writer };
    Ok(Output { writer, to, is_stdout })
}

/// Whether whoever read standard output has gone (`pathtrace | head`): a pipe says so before anything is written to it.
pub(super) fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    // An error tells nothing, and writing will.
    let Ok(1..) = poll(&mut polled, PollTimeout::ZERO) else { return false };
    polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

/// Whether to use colours where nobody says so: on a terminal, unless <https://no-color.org> is set and not empty.
pub(super) fn is_colored(to_terminal: bool) -> bool {
    to_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The columns of the terminal that standard output is, if that can be told.
pub(super) fn width_of_terminal() -> Option<u16> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns)
}
