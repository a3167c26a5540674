//! One line of the kernel's list of symbols: `ADDRESS TYPE NAME[\t[MODULE]]`.

/// The parts of a line.
pub(super) struct Line<'a> {
    /// Hexadecimal digits; all of them zero where addresses are hidden.
    pub(super) address: &'a [u8],
    /// As in `nm`: `T` for code, `D` for data …; in lower case for what is local to its file.
    pub(super) kind: u8,
    pub(super) name: &'a [u8],
    pub(super) module: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let (address, rest) = line.split_at_checked(space)?;
        let [b' ', kind, b' ', rest @ ..] = rest else { return None };
        let end = rest.iter().position(|byte| matches!(byte, b'\t' | b'\n')).unwrap_or(rest.len());
        let (name, tail) = rest.split_at_checked(end)?;
        let module = tail.trim_ascii().strip_prefix(b"[").and_then(|tail| tail.strip_suffix(b"]"));
        Some(Self { address, kind: *kind, name, module })
    }

    /// Whether it names code.
    pub(super) fn is_code(&self) -> bool {
        matches!(self.kind, b't' | b'T' | b'w' | b'W')
    }

    /// The name up to the first dot, where what compilers append begins.
    pub(super) fn base(&self) -> &'a [u8] {
        self.name.split(|byte| *byte == b'.').next().unwrap_or_default()
    }

    /// The address as a number; `None` if it is none or hidden.
    pub(super) fn start(&self) -> Option<u64> {
        let digits = std::str::from_utf8(self.address).ok()?;
        // `from_str_radix` takes a sign, too.
        let start = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
        (start != 0).then_some(start)
    }
}
