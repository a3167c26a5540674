//! The names of UNIX sockets that are wanted.

use std::{fmt, str::FromStr};

use tracer_common::settings::{UNIX_WORDS, UnixPattern};

/// A name of UNIX sockets: a path, `@name` for an abstract one, and a `*` at the end for all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixName {
    /// `sun_path` without the NUL byte at the end of a path.
    bytes: Vec<u8>,
    is_prefix: bool,
}

impl UnixName {
    /// One abstract name, given without the NUL before it.
    pub fn of_abstract(name: &[u8]) -> Self {
        Self { bytes: [&[0], name].concat(), is_prefix: false }
    }

    /// The path that must be bound, if it is one path.
    pub fn path(&self) -> Option<&[u8]> {
        (!self.is_prefix && self.bytes.first() != Some(&0)).then_some(&self.bytes)
    }

    /// Whether a bound name is one of those meant. `name` as the kernel keeps it: an abstract one begins with NUL, a path
    /// has none.
    pub fn matches(&self, name: &[u8]) -> bool {
        if self.is_prefix { name.starts_with(&self.bytes) } else { name == self.bytes }
    }

    pub(super) fn pattern(&self) -> UnixPattern {
        let is_abstract = self.bytes.first() == Some(&0);
        // A path counts with the NUL behind it, whatever length it was bound with; an abstract name has its length.
        let counted = if self.is_prefix || is_abstract { self.bytes.len() } else { self.bytes.len() + 1 };
        let mut pattern = UnixPattern::default();
        for at in 0..(UNIX_WORDS * 8).min(counted) {
            let (word, shift) = (at / 8, at % 8 * 8);
            pattern.mask[word] |= 0xff << shift;
            pattern.name[word] |= u64::from(self.bytes.get(at).copied().unwrap_or(0)) << shift;
        }
        for word in pattern.mask.iter_mut().chain(&mut pattern.name) {
            *word = word.to_le();
        }
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        pattern.least = len;
        pattern.most = if !self.is_prefix && is_abstract { len } else { u32::MAX };
        pattern
    }
}

impl FromStr for UnixName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        let bytes = match text.strip_prefix('@') {
            Some(name) => [&[0], name.as_bytes()].concat(),
            None => text.as_bytes().to_vec(),
        };
        if bytes.is_empty() && !is_prefix {
            return Err(
                "a socket's name is a path, @name for an abstract one, or either with a * at the end"
                    .to_owned(),
            );
        }
        if bytes.len() > 108 {
            return Err("the name of a UNIX socket has at most 108 bytes".to_owned());
        }
        Ok(Self { bytes, is_prefix })
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bytes) = match self.bytes.split_first() {
            Some((0, name)) => ("@", name),
            _ => ("", self.bytes.as_slice()),
        };
        write!(f, "{sign}{}{}", String::from_utf8_lossy(bytes), if self.is_prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unix_sockets() {
        let name = |text: &str| text.parse::<UnixName>().unwrap();
        assert!(name("/run/a").matches(b"/run/a") && !name("/run/a").matches(b"/run/ab"));
        assert!(name("/run/a*").matches(b"/run/ab"));
        assert!(name("@a").matches(b"\0a") && !name("@a").matches(b"\0ab"));
        let lengths = |text: &str| (name(text).pattern().least, name(text).pattern().most);
        assert_eq!((lengths("@a"), lengths("/a")), ((2, 2), (2, u32::MAX)));
        // A socket without a name has zeroes, and is not meant.
        assert_eq!((lengths("@*"), lengths("*")), ((1, u32::MAX), (0, u32::MAX)));
        assert_eq!(
            name("/run/a").pattern().mask[0],
            u64::from_ne_bytes([255, 255, 255, 255, 255, 255, 255, 0])
        );
        assert_eq!(
            (name("/run/a").path(), name("/run/a*").path(), name("@a").path()),
            (Some(&b"/run/a"[..]), None, None)
        );
        assert_eq!(name("@a*").to_string(), "@a*");
        assert!("".parse::<UnixName>().is_err());
        assert!("x".repeat(109).parse::<UnixName>().is_err());
    }
}
