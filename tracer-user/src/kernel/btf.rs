//! A small reader of BTF, the kernel's own description of its types.
//!
//! It answers three questions: at which byte of a struct a member lies, which arguments a function or a tracepoint
//! takes, and what the values of an enumeration are called. The type section is walked once to build an index (4 bytes a type, 8 bytes a name that can be asked for);
//! types themselves are read in place. Any input is safe: what does not add up is a [`BtfError`], and each search is
//! bounded in depth and in work.
//!
//! The format: <https://docs.kernel.org/bpf/btf.html>, `include/uapi/linux/btf.h`.

mod enums;
mod error;
mod functions;
mod members;
mod parse;
mod skeleton;
#[cfg(test)]
pub(in crate::kernel) mod tests;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

pub use error::BtfError;
pub use functions::{ArgType, check_args};
use parse::{Kind, Type, read_u32};

/// Where the kernel shows its own BTF (`CONFIG_DEBUG_INFO_BTF`, 5.4 and later).
pub const RUNNING_KERNEL: &str = "/sys/kernel/btf/vmlinux";

/// The largest file that is read. Kernels stay below 20 MB; `--btf /dev/zero` does not.
const MAX_FILE: u64 = 64 << 20;

/// The types of one kernel.
#[derive(Debug)]
pub struct Btf {
    data: Data,
    /// Offset in `data` of the type with identifier `index + 1`. Identifier 0 is `void`.
    types: Vec<u32>,
    /// Start and end of the string section in `data`.
    strings: (usize, usize),
    /// Hash of the name and identifier of each complete struct, union and enumeration, function and `btf_trace_*` typedef,
    /// sorted.
    names: Vec<(u32, u32)>,
}

/// Where the types lie.
#[derive(Debug)]
enum Data {
    Read(Vec<u8>),
    /// The kernel's own memory.
    Mapped(Mmap),
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl Btf {
    /// The types of the running kernel.
    pub fn running() -> Result<Self, BtfError> {
        let path = Path::new(RUNNING_KERNEL);
        // Since 6.16 it can be mapped, which takes no time. To read it takes a call for each page, as it is a file of sysfs.
        if let Ok(file) = File::open(path)
            // SAFETY: it is the kernel's own file, which nobody writes to or cuts off.
            && let Ok(mapped) = unsafe { Mmap::map(&file) }
        {
            return Self::of(Data::Mapped(mapped));
        }
        Self::from_file(path).map_err(|error| match error {
            BtfError::Read { source, .. } if source.kind() == ErrorKind::NotFound => BtfError::NotBuilt,
            other => other,
        })
    }

    /// The types in a file that holds a bare BTF section, as [`RUNNING_KERNEL`] does.
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        let failed = |source| BtfError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // Sysfs reports the true size: one allocation instead of a dozen doublings.
        let size = file.metadata().map_err(failed)?.len().min(MAX_FILE);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
        file.take(MAX_FILE + 1).read_to_end(&mut data).map_err(failed)?;
        Self::from_bytes(data)
    }

    /// The full definition of a struct or union. A forward declaration has no members and does not count.
    fn find_struct(&self, name: &str) -> Option<Type> {
        self.find(name, |kind| matches!(kind, Kind::STRUCT | Kind::UNION))
    }

    /// The first indexed type of that name whose kind is `wanted`.
    fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<Type> {
        self.find_id(name, wanted).map(|(_, found)| found)
    }

    /// The same, with its identifier.
    fn find_id(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Option<(u32, Type)> {
        let hash = parse::hash(name.as_bytes());
        let start = self.names.partition_point(|(other, _)| *other < hash);
        self.names
            .iter()
            .skip(start)
            .take_while(|(other, _)| *other == hash)
            .filter_map(|(_, id)| Some((*id, self.by_id(*id)?)))
            .find(|(_, found)| wanted(found.kind) && self.name(found.name) == name.as_bytes())
    }

    /// The type with that identifier.
    fn by_id(&self, id: u32) -> Option<Type> {
        let Some(index) = id.checked_sub(1) else { return Some(Type::VOID) };
        let offset = self.types.get(usize::try_from(index).ok()?)?;
        Type::read(&self.data, usize::try_from(*offset).ok()?)
    }

    /// The type behind typedefs, `const`, `volatile`, `restrict` and type tags.
    fn unmodified(&self, id: u32) -> Result<Type, BtfError> {
        // Real chains have a handful of links; a chain that bites its own tail has no end.
        const LONGEST: usize = 32;
        let mut id = id;
        for _ in 0..LONGEST {
            let found =
                self.by_id(id).ok_or(BtfError::Malformed("a type refers to a type that is not there"))?;
            if !found.kind.is_modifier() {
                return Ok(found);
            }
            id = found.size_or_id;
        }
        Err(BtfError::Malformed("a chain of type modifiers has no end"))
    }

    /// The name at an offset in the string section, empty for what has no name.
    fn name(&self, offset: u32) -> &[u8] {
        parse::name_at(&self.data, self.strings, offset)
    }

    /// The word with that index after the header of a type.
    fn word(&self, of: Type, index: usize) -> Result<u32, BtfError> {
        index
            .checked_mul(4)
            .and_then(|bytes| of.body.checked_add(bytes))
            .and_then(|at| read_u32(&self.data, at))
            .ok_or(BtfError::Malformed("a type ends behind the end of the data"))
    }
}
