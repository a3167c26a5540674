//! What is unusual about a path, in a few words.

use std::fmt;

use crate::{
    export::IcmpMessage,
    model::{Path, Unix},
};

/// That a segment is sent again, what an ICMP message says, what a message on a UNIX socket carries; between `start` and
/// `end`.
pub(super) struct Notes<'a> {
    path: &'a Path,
    start: &'static str,
    end: &'static str,
}

impl<'a> Notes<'a> {
    /// What is to be said of a path, if there is anything.
    pub(super) fn of(path: &'a Path, start: &'static str, end: &'static str) -> Option<Self> {
        let carries = |unix: &Unix| unix.descriptors > 0 || unix.reads > 1;
        let is_unusual = path.retransmitted || path.icmp.is_some() || path.unix.as_ref().is_some_and(carries);
        is_unusual.then_some(Self { path, start, end })
    }
}

impl fmt::Display for Notes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, start, end } = *self;
        let mut separator = start;
        let mut note =
            |note: fmt::Arguments<'_>| write!(f, "{}{note}", std::mem::replace(&mut separator, ", "));
        if path.retransmitted {
            note(format_args!("RETRANSMITTED"))?;
        }
        if let Some(message) = IcmpMessage::of(path) {
            note(format_args!("{message}"))?;
        }
        if let Some(Unix { descriptors, reads, .. }) = path.unix {
            match descriptors {
                0 => {}
                1 => note(format_args!("passes a file descriptor"))?,
                several => note(format_args!("passes {several} file descriptors"))?,
            }
            if reads > 1 {
                note(format_args!("read in {reads} parts"))?;
            }
        }
        f.write_str(end)
    }
}
