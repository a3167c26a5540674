//! Names as the kernel has them are bytes that any program may choose. What is shown of them steers no terminal.

use std::fmt::{self, Write as _};

use crate::model::{Comm, Refusal};

/// Bytes as text: what is not UTF-8, controls, or reorders or breaks lines is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl<'a> Printable<'a> {
    /// The name of a process, up to its NUL byte.
    pub fn comm(comm: &'a Comm) -> Self {
        let end = comm.0.iter().position(|byte| *byte == 0).unwrap_or(comm.0.len());
        Self(&comm.0[..end])
    }

    /// The text, if all of it can stay: most names are printable ASCII.
    pub fn as_plain(self) -> Option<&'a str> {
        let is_plain = self.0.iter().all(|byte| matches!(byte, b' '..=b'~'));
        std::str::from_utf8(self.0).ok().filter(|_| is_plain)
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            write_safe(chunk.valid(), f)?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

fn write_safe(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !text.contains(steers) {
        return f.write_str(text);
    }
    text.chars().try_for_each(|c| f.write_char(if steers(c) { char::REPLACEMENT_CHARACTER } else { c }))
}

/// Control characters, line and paragraph separators, and the marks that change the direction of text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name of a UNIX socket as `/proc/net/unix` shows it: a path, or `@` and an abstract name.
#[derive(Clone, Copy, Debug)]
pub struct UnixName<'a>(&'a [u8]);

impl<'a> UnixName<'a> {
    /// From `sun_path`; `None` if that is empty, as it is for sockets without a name.
    pub fn new(sun_path: &'a [u8]) -> Option<Self> {
        (!sun_path.is_empty()).then_some(Self(sun_path))
    }
}

impl fmt::Display for UnixName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.split(|byte| *byte == 0).enumerate() {
            if index > 0 {
                f.write_char('@')?;
            }
            Printable(part).fmt(f)?;
        }
        Ok(())
    }
}

/// Why a probe point could not be attached: the first line of what each backend said.
#[derive(Clone, Copy, Debug)]
pub struct Refusals<'a>(pub &'a [Refusal]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Refusal { backend, reason }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", backend.name(), first_line(reason))?;
        }
        Ok(())
    }
}

/// The first line of a message: the rest, if any, is a log.
pub fn first_line(message: &str) -> Printable<'_> {
    Printable(message.trim_start().lines().next().unwrap_or_default().trim_end().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay() {
        for name in ["server", "kworker/0:1-ev", "größe", "日本"] {
            assert_eq!(Printable(name.as_bytes()).to_string(), name);
        }
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        let hostile = b"a\x1b[2J\r\nb\x7f\xc2\x9b\xe2\x80\xaec\xff";
        assert_eq!(
            Printable(hostile).to_string(),
            "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}\u{fffd}\u{fffd}c\u{fffd}"
        );
    }

    #[test]
    fn unix_names_are_written_as_the_kernel_writes_them() {
        let text = |name| UnixName::new(name).map(|name| name.to_string());
        assert_eq!(text(b"/run/app.sock").as_deref(), Some("/run/app.sock"));
        assert_eq!(text(b"\0demo").as_deref(), Some("@demo"));
        assert_eq!(text(b"\0a\0b").as_deref(), Some("@a@b"));
        assert_eq!(text(b""), None);
    }
}
