//! Where the members of structs lie.

use tracer_common::fields::FIELDS;

use super::{Btf, BtfError, Kind, Type};

/// How deep anonymous structs may lie in each other. The kernel's deepest nest is well below ten.
const MAX_DEPTH: u32 = 16;
/// How many members one search may look at. The kernel's largest structs have a few hundred; a struct that contains
/// itself many times would keep a search busy for ever.
const MAX_VISITS: u32 = 100_000;

/// A member that was found.
struct Member {
    /// Its type.
    id: u32,
    /// Bits from the start of the struct in which the search began.
    bit_offset: u64,
    is_bitfield: bool,
}

impl Btf {
    /// The byte offset of a member. `path` joins member names with dots (`"__sk_common.skc_dport"`); members of
    /// anonymous structs and unions count as members of the struct around them, as in C.
    pub fn field_offset(&self, parent: &str, path: &str) -> Result<u32, BtfError> {
        let mut owner = self.find_struct(parent).ok_or_else(|| BtfError::NoStruct(parent.to_owned()))?;
        let mut bits = 0u64;
        let mut seen = 0;
        for name in path.split('.') {
            let before = path.get(..seen).unwrap_or_default().trim_end_matches('.');
            let here = path.get(..seen + name.len()).unwrap_or(path);
            let own = |path: &str| (parent.to_owned(), path.to_owned());
            if let Some(what) = not_a_struct(owner.kind) {
                let (parent, member) = own(before);
                return Err(BtfError::NotAStruct { parent, member, what });
            }
            let mut visits = MAX_VISITS;
            let Some(member) = self.member(owner, name.as_bytes(), MAX_DEPTH, &mut visits)? else {
                let (parent, member) = own(here);
                return Err(BtfError::NoMember { parent, member });
            };
            bits = bits.saturating_add(member.bit_offset);
            if member.is_bitfield || !bits.is_multiple_of(8) {
                let (parent, member) = own(here);
                return Err(BtfError::Bitfield { parent, member });
            }
            owner = self.unmodified(member.id)?;
            seen += name.len() + 1;
        }
        u32::try_from(bits / 8).map_err(|_| BtfError::Malformed("a member lies behind the end of its struct"))
    }

    /// The offset of every field in [`FIELDS`], with the name of the global that it belongs into; or all that are
    /// missing ([`BtfError::Fields`]).
    pub fn offsets(&self) -> Result<Vec<(&'static str, u32)>, BtfError> {
        let mut found = Vec::with_capacity(FIELDS.len());
        let mut missing = Vec::new();
        for field in FIELDS {
            match self.field_offset(field.parent, field.path) {
                Ok(offset) => found.push((field.global, offset)),
                Err(error) => missing.push(error),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(BtfError::Fields(missing)) }
    }

    /// The member of that name in a struct or in the anonymous structs in it.
    fn member(
        &self,
        owner: Type,
        name: &[u8],
        depth: u32,
        visits: &mut u32,
    ) -> Result<Option<Member>, BtfError> {
        const WORDS: usize = 3; // struct btf_member { name_off, type, offset }
        for index in 0..usize::try_from(owner.vlen).unwrap_or(0) {
            *visits = visits.checked_sub(1).ok_or(BtfError::Malformed("a struct has members without end"))?;
            let id = self.word(owner, index * WORDS + 1)?;
            let offset = self.word(owner, index * WORDS + 2)?;
            // BTF_MEMBER_BITFIELD_SIZE and BTF_MEMBER_BIT_OFFSET.
            let (bit_offset, is_bitfield) =
                if owner.kind_flag { (offset & 0x00ff_ffff, offset >> 24 != 0) } else { (offset, false) };
            let bit_offset = u64::from(bit_offset);
            let member_name = self.name(self.word(owner, index * WORDS)?);
            if member_name == name && !name.is_empty() {
                return Ok(Some(Member { id, bit_offset, is_bitfield }));
            }
            if !member_name.is_empty() {
                continue;
            }
            let inner = self.unmodified(id)?;
            // What is anonymous and no struct is the padding `int : 4`.
            if not_a_struct(inner.kind).is_some() {
                continue;
            }
            let deeper = depth.checked_sub(1).ok_or(BtfError::Malformed("structs are nested too deeply"))?;
            if let Some(found) = self.member(inner, name, deeper, visits)? {
                return Ok(Some(Member { bit_offset: bit_offset.saturating_add(found.bit_offset), ..found }));
            }
        }
        Ok(None)
    }
}

/// What a type is instead of a struct or union.
fn not_a_struct(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::STRUCT | Kind::UNION => None,
        Kind::ARRAY => Some("an array"),
        Kind::PTR => Some("a pointer"),
        _ => Some("no struct"),
    }
}
