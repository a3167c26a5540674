//! What can be wrong with BTF, or missing from it.

use std::io;
use std::path::PathBuf;

use super::RUNNING_KERNEL;

/// Why a question about the kernel's types has no answer.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The running kernel does not describe its types.
    #[error(
        "this kernel has no type information: {RUNNING_KERNEL} is missing, which needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF; with --btf FILE the types can be read from a file made for this very kernel"
    )]
    NotBuilt,
    /// The file cannot be read.
    #[error("cannot read kernel types from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data does not start as BTF does.
    #[error(
        "no BTF: the data must be a bare .BTF section, as {RUNNING_KERNEL} is, and not an ELF file or an archive"
    )]
    NotBtf,
    /// The data was made for a machine of the other byte order.
    #[error("BTF of the other byte order: it was made for a different kind of machine")]
    ForeignEndian,
    /// A version of the format that does not exist yet.
    #[error("BTF version {0} is not known, only version 1")]
    UnknownVersion(u8),
    /// A kind of type whose length nothing tells.
    #[error("type {id} in BTF is of kind {kind}, which is not known and whose length the data does not tell")]
    UnknownKind {
        /// The kind.
        kind: u8,
        /// The type's identifier.
        id: usize,
    },
    /// The data contradicts itself.
    #[error("broken BTF: {0}")]
    Malformed(&'static str),
    /// No complete struct or union of that name.
    #[error("this kernel has no struct {0}")]
    NoStruct(String),
    /// The struct has no such member.
    #[error("struct {parent} has no member {member} in this kernel")]
    NoMember {
        /// The struct's name.
        parent: String,
        /// The path to the missing member.
        member: String,
    },
    /// A path goes on behind a member that has no members.
    #[error(
        "member {member} of struct {parent} is {what} in this kernel: it has no members at a fixed offset"
    )]
    NotAStruct {
        /// The struct's name.
        parent: String,
        /// The path to the member.
        member: String,
        /// What it is instead.
        what: &'static str,
    },
    /// The member does not start at a byte.
    #[error("member {member} of struct {parent} is a bit field in this kernel: it has no byte offset")]
    Bitfield {
        /// The struct's name.
        parent: String,
        /// The path to the member.
        member: String,
    },
    /// Fields that the programs need and the kernel does not have, each with its own reason.
    #[error("{}", list(.0))]
    Fields(Vec<BtfError>),
}

fn list(errors: &[BtfError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
