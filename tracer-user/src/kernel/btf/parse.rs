//! From bytes to the index: the header, the walk over the type section, single records.

use super::{Btf, BtfError, Data};

pub(super) const MAGIC: u16 = 0xeb9f;
/// Bytes of the header up to and with `str_len`; a longer header has the layout section as well.
pub(super) const HEADER: usize = 24;
/// `struct btf_type`.
pub(super) const TYPE_HEADER: usize = 12;
/// `KSYM_NAME_LEN` since 6.1, 128 before: no name that is looked up is longer. The bound keeps hostile data, in which
/// every type may point to one string of megabytes, linear.
const MAX_NAME: usize = 512;
/// Typedefs are the kinds of names that only tracepoints need, and only theirs start with this.
pub(super) const TRACE_PREFIX: &str = "btf_trace_";

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

impl Kind {
    pub(super) const VOID: Self = Self(0);
    pub(super) const INT: Self = Self(1);
    pub(super) const PTR: Self = Self(2);
    pub(super) const ARRAY: Self = Self(3);
    pub(super) const STRUCT: Self = Self(4);
    pub(super) const UNION: Self = Self(5);
    pub(super) const ENUM: Self = Self(6);
    pub(super) const FWD: Self = Self(7);
    pub(super) const TYPEDEF: Self = Self(8);
    pub(super) const VOLATILE: Self = Self(9);
    pub(super) const CONST: Self = Self(10);
    pub(super) const RESTRICT: Self = Self(11);
    pub(super) const FUNC: Self = Self(12);
    pub(super) const FUNC_PROTO: Self = Self(13);
    pub(super) const TYPE_TAG: Self = Self(18);
    pub(super) const ENUM64: Self = Self(19);

    /// Whether any type of this kind is asked for by its name.
    fn has_names_of_interest(self) -> bool {
        matches!(self, Self::STRUCT | Self::UNION | Self::ENUM | Self::ENUM64 | Self::FUNC | Self::TYPEDEF)
    }

    pub(super) fn is_modifier(self) -> bool {
        matches!(self, Self::TYPEDEF | Self::VOLATILE | Self::CONST | Self::RESTRICT | Self::TYPE_TAG)
    }
}

/// What follows the header of a type of each kind: bytes once, and bytes for each of its `vlen` elements.
/// INT to ENUM64, from kind 1.
const SIZES: [(u8, u8); 19] = [
    (4, 0),  // INT
    (0, 0),  // PTR
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),  // FWD
    (0, 0),  // TYPEDEF
    (0, 0),  // VOLATILE
    (0, 0),  // CONST
    (0, 0),  // RESTRICT
    (0, 0),  // FUNC
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),  // FLOAT
    (4, 0),  // DECL_TAG
    (0, 0),  // TYPE_TAG
    (0, 12), // ENUM64
];

/// One `struct btf_type`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) kind: Kind,
    /// Whether the members of a struct carry the size of a bit field, or the values of an enumeration are signed.
    pub(super) kind_flag: bool,
    /// Number of members, values or parameters.
    pub(super) vlen: u32,
    pub(super) name: u32,
    pub(super) size_or_id: u32,
    /// Where in the data its members, values or parameters start.
    pub(super) body: usize,
}

impl Type {
    pub(super) const VOID: Self =
        Self { kind: Kind::VOID, kind_flag: false, vlen: 0, name: 0, size_or_id: 0, body: 0 };

    pub(super) fn read(data: &[u8], at: usize) -> Option<Self> {
        let body = at.checked_add(TYPE_HEADER)?;
        let info = read_u32(data, at + 4)?;
        Some(Self {
            // `vlen` had 16 bits and the kind 5 until the layout section came; the bits between were always zero.
            kind: Kind((info >> 24 & 0x7f) as u8),
            kind_flag: info >> 31 != 0,
            vlen: info & 0x00ff_ffff,
            name: read_u32(data, at)?,
            size_or_id: read_u32(data, at + 8)?,
            body,
        })
    }

    /// Whether the index needs its name.
    fn is_indexed(self, name: &[u8]) -> bool {
        match self.kind {
            Kind::STRUCT | Kind::UNION => self.size_or_id > 0 && !name.is_empty(),
            // Without values it is a forward declaration.
            Kind::ENUM | Kind::ENUM64 => self.vlen > 0 && !name.is_empty(),
            Kind::FUNC => true,
            Kind::TYPEDEF => name.starts_with(TRACE_PREFIX.as_bytes()),
            _ => false,
        }
    }
}

/// The sections, as ranges of the data.
struct Sections {
    types: (usize, usize),
    strings: (usize, usize),
    layout: (usize, usize),
}

impl Sections {
    fn read(data: &[u8]) -> Result<Self, BtfError> {
        let magic = data.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)).ok_or(BtfError::NotBtf)?;
        match magic {
            MAGIC => {}
            _ if magic == MAGIC.swap_bytes() => return Err(BtfError::ForeignEndian),
            _ => return Err(BtfError::NotBtf),
        }
        match data.get(2) {
            Some(1) => {}
            Some(other) => return Err(BtfError::UnknownVersion(*other)),
            None => return Err(BtfError::NotBtf),
        }
        let word = |at| read_u32(data, at).and_then(|word| usize::try_from(word).ok());
        let header = word(4)
            .filter(|length| (HEADER..=data.len()).contains(length))
            .ok_or(BtfError::Malformed("the header is cut off"))?;
        let section = |offset_at: usize| {
            let start = word(offset_at)?.checked_add(header)?;
            let end = word(offset_at + 4)?.checked_add(start)?;
            (end <= data.len()).then_some((start, end))
        };
        let outside = BtfError::Malformed("a section lies outside of the data");
        let (Some(types), Some(strings)) = (section(8), section(16)) else { return Err(outside) };
        // `layout_off` and `layout_len` follow in kernels that describe their own kinds (7.1 and later).
        let layout = if header >= HEADER + 8 { section(HEADER).ok_or(outside)? } else { (0, 0) };
        Ok(Self { types, strings, layout })
    }

    /// Bytes that follow the header of a type.
    fn body_size(&self, data: &[u8], of: Type) -> Option<usize> {
        let index = usize::from(of.kind.0.checked_sub(1)?);
        let (once, each) = if let Some(known) = SIZES.get(index) {
            *known
        } else {
            // `struct btf_layout { u8 info_sz; u8 elem_sz; u16 flags; }`, one for each kind from 0.
            let entry = data.get(self.layout.0..self.layout.1)?.chunks_exact(4).nth(index + 1)?;
            (*entry.first()?, *entry.get(1)?)
        };
        usize::try_from(of.vlen).ok()?.checked_mul(usize::from(each))?.checked_add(usize::from(once))
    }
}

impl Btf {
    /// The types in a bare BTF section.
    pub fn from_bytes(data: Vec<u8>) -> Result<Self, BtfError> {
        Self::of(Data::Read(data))
    }

    /// Walks the types once.
    pub(super) fn of(data: Data) -> Result<Self, BtfError> {
        let sections = Sections::read(&data)?;
        let (mut at, end) = sections.types;
        let mut types = Vec::with_capacity((end - at) / 20);
        let mut names = Vec::with_capacity((end - at) / 40);
        while at < end {
            let id = types.len() + 1;
            let cut_off = BtfError::Malformed("the type section ends within a type");
            let Some(found) = Type::read(&data, at) else { return Err(cut_off) };
            let Some(size) = sections.body_size(&data, found) else {
                return Err(BtfError::UnknownKind { kind: found.kind.0, id });
            };
            let Some(next) = found.body.checked_add(size).filter(|next| *next <= end) else {
                return Err(cut_off);
            };
            let too_big = BtfError::Malformed("it is larger than 4 GiB");
            let (Ok(offset), Ok(short_id)) = (u32::try_from(at), u32::try_from(id)) else {
                return Err(too_big);
            };
            types.push(offset);
            if found.kind.has_names_of_interest() {
                let name = name_at(&data, sections.strings, found.name);
                if found.is_indexed(name) {
                    names.push((hash(name), short_id));
                }
            }
            at = next;
        }
        // By identifier among equal hashes: of two structs with one name, the first counts, as in libbpf.
        names.sort_unstable();
        Ok(Self { data, types, strings: sections.strings, names })
    }
}

pub(super) fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The name at an offset in the string section; empty if there is none, or if it is longer than any real name.
pub(super) fn name_at(data: &[u8], strings: (usize, usize), offset: u32) -> &[u8] {
    let bytes = usize::try_from(offset)
        .ok()
        .and_then(|offset| strings.0.checked_add(offset))
        .and_then(|start| data.get(start..strings.1))
        .unwrap_or_default();
    let length = bytes.iter().take(MAX_NAME).position(|byte| *byte == 0).unwrap_or(0);
    bytes.get(..length).unwrap_or_default()
}

/// FNV-1a: it only has to spread the kernel's own names; equal hashes cost a comparison.
pub(super) fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
