//! Under which name the running kernel has a function, and in which function an address lies.
//!
//! Compilers rename what they change: gcc appends `.isra.N` where it changed the arguments, `.constprop.N` to a copy
//! for constant arguments, `.part.N` to the part of a function that was not inlined, `.cold` to its unlikely blocks;
//! clang appends `.llvm.N` to what link-time optimisation made global, and changes nothing.

mod functions;
mod line;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

pub use functions::{Function, Functions, LazyFunctions};
use line::Line;

/// Where the kernel lists its symbols (`CONFIG_KALLSYMS`). Without privilege the addresses are zero; the names are not.
pub const RUNNING_KERNEL: &str = "/proc/kallsyms";

/// The symbols of the running kernel cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the kernel's symbols from {}: {source}", path.display())]
pub struct SymbolError {
    path: PathBuf,
    source: io::Error,
}

/// A function that the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The name that was asked for.
    pub wanted: String,
    /// The kernel's name for it, to attach to.
    pub taken: String,
    /// The module that it is in, if not in the kernel itself.
    pub module: Option<String>,
    /// Whether it is the whole function with its arguments where the source has them. If not, arguments may have moved
    /// or be gone, and must not be read.
    pub exact: bool,
}

/// What was found of the names that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Symbols(Vec<Symbol>);

impl Symbols {
    /// Looks names up in the running kernel.
    pub fn running(wanted: &[&str]) -> Result<Self, SymbolError> {
        Self::from_file(Path::new(RUNNING_KERNEL), wanted)
    }

    /// Looks names up in a file in the format of `/proc/kallsyms`.
    pub fn from_file(path: &Path, wanted: &[&str]) -> Result<Self, SymbolError> {
        let failed = |source| SymbolError { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        Self::resolve(BufReader::with_capacity(64 << 10, file), wanted).map_err(failed)
    }

    /// Looks names up in lines `ADDRESS TYPE NAME[\t[MODULE]]`, in one pass that ends as soon as nothing better can
    /// come.
    pub fn resolve(mut reader: impl BufRead, wanted: &[&str]) -> io::Result<Self> {
        let mut best: HashMap<&[u8], Option<(Rank, Symbol)>> =
            wanted.iter().map(|name| (name.as_bytes(), None)).collect();
        let mut open = best.len();
        let mut line = Vec::with_capacity(256);
        while open > 0 {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Some(entry) = Entry::parse(&line) else { continue };
            let Some(slot) = best.get_mut(entry.base) else { continue };
            let Some(rank) = entry.rank() else { continue };
            if slot.as_ref().is_some_and(|(taken, _)| *taken <= rank) {
                continue;
            }
            let Some(symbol) = entry.symbol(rank) else { continue };
            open -= usize::from(rank == Rank::BEST);
            *slot = Some((rank, symbol));
        }
        Ok(Self(best.into_values().flatten().map(|(_, symbol)| symbol).collect()))
    }

    /// What the kernel has for a name.
    pub fn get(&self, wanted: &str) -> Option<&Symbol> {
        self.0.iter().find(|symbol| symbol.wanted == wanted)
    }
}

/// How far a symbol is from the function in the source; the least is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// Nothing, or the name alone.
    None,
    /// Arguments moved or removed.
    Isra,
    /// A copy for certain arguments: other calls may go to another copy.
    Constprop,
    /// A part of the function, which not every call passes.
    Part,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// A module may have a function of its own by the same name.
    in_module: bool,
    change: Change,
    renamed: bool,
}

impl Rank {
    const BEST: Self = Self { in_module: false, change: Change::None, renamed: false };
}

/// One line of the list, if it names a function.
struct Entry<'a> {
    /// The name up to the first dot.
    base: &'a [u8],
    name: &'a [u8],
    module: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = Line::parse(line).filter(Line::is_code)?;
        Some(Self { base: line.base(), name: line.name, module: line.module })
    }

    /// How good it is, or `None` if its suffix makes it something else than the function.
    fn rank(&self) -> Option<Rank> {
        let mut change = Change::None;
        let mut suffixes = self.name.split(|byte| *byte == b'.').skip(1);
        while let Some(suffix) = suffixes.next() {
            change = change.max(match suffix {
                b"llvm" => Change::None,
                b"isra" => Change::Isra,
                b"constprop" => Change::Constprop,
                b"part" => Change::Part,
                _ => return None,
            });
            suffixes.next().filter(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))?;
        }
        Some(Rank { change, in_module: self.module.is_some(), renamed: self.name.len() != self.base.len() })
    }

    /// `None` if a name is no text, as no name of a function is.
    fn symbol(&self, rank: Rank) -> Option<Symbol> {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        Some(Symbol {
            wanted: text(self.base)?,
            taken: text(self.name)?,
            module: self.module.and_then(text),
            exact: rank.change == Change::None,
        })
    }
}

#[cfg(test)]
mod tests;
