//! In which function of the running kernel an address lies.
//!
//! The list has 100 000 to 300 000 lines and no lengths: a function ends where the next symbol begins. Reading it takes
//! 50 to 100 ms, so it is read once, and not before an address is asked for. What is kept is small: 16 bytes and the
//! name for each function, 1 to 3 MB.
//!
//! Types are no help with the kernel's own symbols: Debian's 6.18 lists half of its data as code (`t rcu_state`). What
//! tells code from data are the linker's marks: code lies before `_etext`, and from `_sinittext` to `_einittext`.

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::mem;
use std::ops::Range;
use std::path::Path;

use super::line::Line;
use super::{RUNNING_KERNEL, SymbolError};

/// The largest list that is read. Real ones have 5 to 20 MB.
const MAX_BYTES: u64 = 128 << 20;
/// Longer than any function: those of Debian's kernels end at 20 KiB. What is further behind the start of the last
/// function of a section or of a module is not in it.
const LONGEST: u64 = 256 << 10;
/// Padding in front of functions (`CONFIG_PREFIX_SYMBOLS`, clang's CFI): half of all lines, and never executed.
const PADDING: [&[u8]; 2] = [b"__pfx_", b"__cfi_"];
/// [`Row::module`] of the kernel itself.
const NO_MODULE: u16 = u16::MAX;

/// A function of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name in the source: without what compilers append to its parts and copies.
    pub name: &'a str,
    /// The module that it is in, if not in the kernel itself.
    pub module: Option<&'a str>,
}

/// As the kernel prints it: `ovs_vport_receive [openvswitch]`.
impl fmt::Display for Function<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.module.map_or(Ok(()), |module| write!(f, " [{module}]"))
    }
}

/// The functions of the running kernel, read when the first address is asked for.
#[derive(Debug, Default)]
pub struct LazyFunctions(OnceCell<Functions>);

impl LazyFunctions {
    /// The function that an address is in. `None` as well if the list cannot be read, which is logged.
    pub fn containing(&self, address: u64) -> Option<Function<'_>> {
        let read = || {
            Functions::running().unwrap_or_else(|error| {
                log::warn!("places in the kernel will have no names: {error}");
                Functions::default()
            })
        };
        self.0.get_or_init(read).containing(address)
    }
}

/// The functions of a kernel, by address.
#[derive(Debug, Default)]
pub struct Functions {
    /// Sorted by `start`, each of which is there once.
    rows: Vec<Row>,
    names: String,
    modules: Vec<String>,
}

/// Where the kernel's own code ends and begins again, as far as the list says so.
#[derive(Debug, Default)]
struct Sections {
    etext: Option<u64>,
    sinittext: Option<u64>,
    einittext: Option<u64>,
}

impl Sections {
    fn note(&mut self, name: &[u8], start: u64) {
        match name {
            b"_etext" => self.etext = Some(start),
            b"_sinittext" => self.sinittext = Some(start),
            b"_einittext" => self.einittext = Some(start),
            _ => {}
        }
    }

    /// Whether what begins there can be code.
    fn may_hold_code(&self, start: u64) -> bool {
        let (Some(etext), Some(sinittext), Some(einittext)) = (self.etext, self.sinittext, self.einittext)
        else {
            return true;
        };
        start < etext || (sinittext..einittext).contains(&start)
    }
}

/// What begins at an address.
#[derive(Clone, Copy, Debug)]
struct Row {
    start: u64,
    /// Where its name begins in `names`.
    name: u32,
    /// Zero for what is no function, and only ends the one before.
    name_len: u16,
    /// Index in `modules`, or [`NO_MODULE`].
    module: u16,
}

impl Row {
    /// Where its name is in `names`.
    fn range(self) -> Option<Range<usize>> {
        let start = usize::try_from(self.name).ok()?;
        Some(start..start.checked_add(usize::from(self.name_len))?)
    }
}

impl Functions {
    /// Reads the list of the running kernel. Without the privilege to see addresses (`kernel.kptr_restrict`; also
    /// `CAP_SYSLOG` where `kernel.perf_event_paranoid` is above 1) it comes out empty.
    pub fn running() -> Result<Self, SymbolError> {
        Self::from_file(Path::new(RUNNING_KERNEL))
    }

    /// Reads a file in the format of `/proc/kallsyms`.
    pub fn from_file(path: &Path) -> Result<Self, SymbolError> {
        let failed = |source| SymbolError { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        Self::read(BufReader::with_capacity(64 << 10, file)).map_err(failed)
    }

    /// Reads lines `ADDRESS TYPE NAME[\t[MODULE]]`. Lines that are none are left out.
    pub fn read(reader: impl BufRead) -> io::Result<Self> {
        let mut reader = reader.take(MAX_BYTES);
        let mut functions = Self::default();
        let mut sections = Sections::default();
        let mut line = Vec::with_capacity(256);
        while reader.read_until(b'\n', &mut line)? > 0 {
            if let Some(parsed) = Line::parse(&line)
                && let Some(start) = parsed.start()
            {
                sections.note(parsed.name, start);
                let row = functions.row(&parsed, start);
                functions.rows.extend(row);
            }
            line.clear();
        }
        functions.finish(&sections);
        Ok(functions)
    }

    /// The function that an address is in: that of code, or one that was taken as `__builtin_return_address(0)`. As
    /// nothing that returns is called at the very end of a function, the address behind the call is still in it.
    pub fn containing(&self, address: u64) -> Option<Function<'_>> {
        let index = self.rows.partition_point(|row| row.start <= address).checked_sub(1)?;
        let row = self.rows.get(index).filter(|row| address - row.start < LONGEST)?;
        let name = self.names.get(row.range()?).filter(|name| !name.is_empty())?;
        Some(Function { name, module: self.modules.get(usize::from(row.module)).map(String::as_str) })
    }

    /// Whether there are none: the kernel hides addresses.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Keeps what a line says, if that is of use.
    fn row(&mut self, line: &Line<'_>, start: u64) -> Option<Row> {
        if PADDING.iter().any(|prefix| line.name.starts_with(prefix)) {
            return None;
        }
        let name = u32::try_from(self.names.len()).ok()?;
        let end = Row { start, name, name_len: 0, module: NO_MODULE };
        if !line.is_code() || is_mark(line.name) {
            return Some(end);
        }
        let text = std::str::from_utf8(line.base()).ok()?;
        let name_len = u16::try_from(text.len()).ok()?;
        let module = line.module.map_or(Some(NO_MODULE), |module| self.module(module))?;
        self.names.push_str(text);
        Some(Row { name_len, module, ..end })
    }

    /// The index of a module. The list has the symbols of a module next to each other.
    fn module(&mut self, name: &[u8]) -> Option<u16> {
        let name = std::str::from_utf8(name).ok()?;
        if self.modules.last().is_none_or(|last| last != name) {
            if self.modules.len() >= usize::from(NO_MODULE) {
                return None;
            }
            self.modules.push(name.to_owned());
        }
        u16::try_from(self.modules.len() - 1).ok()
    }

    /// Of several symbols at one address the first function counts: the kernel puts the best known name first, and
    /// those that the linker made last (`compare_symbols` in scripts/kallsyms.c).
    fn finish(&mut self, sections: &Sections) {
        for row in &mut self.rows {
            if row.module == NO_MODULE && !sections.may_hold_code(row.start) {
                row.name_len = 0;
            }
        }
        self.rows.sort_by_key(|row| (row.start, row.name_len == 0));
        self.rows.dedup_by_key(|row| row.start);
        // One end is enough: data makes up half of the list where the kernel lists it (`CONFIG_KALLSYMS_ALL`).
        self.rows.dedup_by(|next, previous| next.name_len == 0 && previous.name_len == 0);
        self.rows.shrink_to_fit();
        self.drop_unused_names();
    }

    fn drop_unused_names(&mut self) {
        let all = mem::take(&mut self.names);
        for row in &mut self.rows {
            let name = row.range().and_then(|range| all.get(range)).unwrap_or_default();
            // Names only become fewer, so this fits as it did before.
            row.name = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
            self.names.push_str(name);
        }
        self.names.shrink_to_fit();
    }
}

/// What the linker marks the ends of sections with is listed as code and is none: `_etext`, `__sched_text_start`,
/// `__indirect_thunk_end`.
fn is_mark(name: &[u8]) -> bool {
    let ends = ["_text_start", "_text_end", "_thunk_start", "_thunk_end"];
    matches!(name, b"_text" | b"_stext" | b"_etext" | b"_sinittext" | b"_einittext")
        || (name.starts_with(b"__") && ends.iter().any(|end| name.ends_with(end.as_bytes())))
}

#[cfg(test)]
mod tests;
