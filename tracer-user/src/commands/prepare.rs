//! What is looked for before a trace, and said: nothing is attached yet, and no file made.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::sys::stat::fstat;

use super::{
    Failure,
    reserved::{can_be_made, is_same},
    traced,
};
use crate::{cli::TraceArgs, kernel::features::Features};

/// Looks for what stands in the way of a trace while nothing is attached. `output`: the file that it writes, if it writes one.
pub(super) fn prepare(args: &TraceArgs, output: Option<&Path>) -> Result<(), Failure> {
    start_log(args.verbose);
    check_privileges(&Features::running()?)?;
    if let Some(path) = &args.ready_file {
        let failure = |what, source| Failure::File { what, path: path.clone(), source };
        if output.is_some_and(|output| is_same(path, output)) {
            return Err(failure("create", io::Error::other("it is the output")));
        }
        remove_left(path).map_err(|source| failure("replace", source))?;
        can_be_made(path).map_err(|source| failure("create", source))?;
    }
    traced::look_for(&args.exec)
}

/// Removes a ready file: one left by an earlier run must not say that this one is ready. It is an empty file, so what is not is something
/// else.
fn remove_left(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let is_written = [io::stdout().as_fd(), io::stderr().as_fd()]
        .into_iter()
        .any(|to| fstat(to).is_ok_and(|to| (to.st_dev, to.st_ino) == (found.dev(), found.ino())));
    let why = if !found.is_file() {
        "it is no regular file"
    } else if found.len() > 0 {
        "it is not empty, so no ready file of an earlier run"
    } else if is_written {
        "it is the output"
    } else {
        return fs::remove_file(path);
    };
    Err(io::Error::other(why))
}

pub(super) fn check_privileges(features: &Features) -> Result<(), Failure> {
    let missing = features.privileges.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let command = command_line();
    let program = quoted(&program());
    Err(Failure::Privilege { missing, command, program })
}

/// The command line as it was typed, quoted for a shell.
pub(super) fn command_line() -> String {
    let words = std::iter::once(program()).chain(std::env::args_os().skip(1));
    words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// This program's file.
fn program() -> OsString {
    std::env::current_exe().map_or_else(|_| "pathtrace".into(), PathBuf::into_os_string)
}

/// A word as a shell reads it back.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `-v` says what was tried, `-vv` all that there is, the kernel programs' own log included.
pub(super) fn start_log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    // The loader's own log says every relocation; ours, and that of the kernel programs, is what helps.
    let mut builder = env_logger::Builder::new();
    builder.filter_module("pathtrace", level).filter_module("pathtrace_bpf", level).format_timestamp_micros();
    // Fails only if there is a logger already.
    let _ = builder.try_init();
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        let quoted = |word: &str| quoted(OsStr::new(word));
        assert_eq!(quoted("--port=80"), "--port=80");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("a b; rm *"), "'a b; rm *'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(super::quoted(OsStr::from_bytes(b"\xff")), "'\u{fffd}'");
    }
}
