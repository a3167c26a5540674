//! What the values of an enumeration are called.

use super::{Btf, Kind};

/// The most values of one enumeration that are read. The kernel's largest have some hundreds; `vlen` has room for
/// millions, each of which may have a name as long as names can be.
const MAX_VALUES: usize = 1 << 16;

impl Btf {
    /// The values of an enumeration with their names, in the order of the source; several names may have one value.
    /// `None` if the kernel describes no such enumeration in full, or if what it describes makes no sense.
    ///
    /// Whether values are signed, and whether they have 32 bits or 64, is the enumeration's own business: `i128` holds
    /// them all.
    pub fn enum_values(&self, name: &str) -> Option<Vec<(i128, &str)>> {
        let found = self.find(name, |kind| matches!(kind, Kind::ENUM | Kind::ENUM64))?;
        // struct btf_enum { name_off, val }, struct btf_enum64 { name_off, val_lo32, val_hi32 }
        let is_wide = found.kind == Kind::ENUM64;
        let words = if is_wide { 3 } else { 2 };
        let count = usize::try_from(found.vlen).ok().filter(|count| *count <= MAX_VALUES)?;
        (0..count)
            .map(|index| {
                let word = |nth| self.word(found, index * words + nth).ok();
                let low = word(1)?;
                let value =
                    if is_wide { wide(low, word(2)?, found.kind_flag) } else { short(low, found.kind_flag) };
                let name = std::str::from_utf8(self.name(word(0)?)).ok().filter(|name| !name.is_empty())?;
                Some((value, name))
            })
            .collect()
    }
}

/// Kernels before 6.0 say of no enumeration that it is signed: their negative values come out as large ones.
fn short(word: u32, is_signed: bool) -> i128 {
    if is_signed { word.cast_signed().into() } else { word.into() }
}

fn wide(low: u32, high: u32, is_signed: bool) -> i128 {
    let value = u64::from(high) << 32 | u64::from(low);
    if is_signed { value.cast_signed().into() } else { value.into() }
}
