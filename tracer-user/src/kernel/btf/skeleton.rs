//! The same types, of which only a few have names.

use super::parse::{HEADER, Kind, MAGIC, TRACE_PREFIX, TYPE_HEADER};
use super::{Btf, Type};

impl Btf {
    /// A BTF section in which these functions and tracepoints have the identifiers that they have here, and nothing else has
    /// a name: who only asks for their identifiers gets the same answers, and finds them much sooner.
    pub fn skeleton(&self, functions: &[&str], tracepoints: &[&str]) -> Vec<u8> {
        // Every type takes one place, so a forward declaration without a name keeps the places of all others.
        let mut types: Vec<[u32; TYPE_HEADER / 4]> =
            vec![[0, u32::from(Kind::FWD.0) << 24, 0]; self.types.len()];
        // The first string is the empty one.
        let mut strings = vec![0];
        let functions = functions.iter().map(|name| ((*name).to_owned(), Kind::FUNC));
        let tracepoints = tracepoints.iter().map(|name| (format!("{TRACE_PREFIX}{name}"), Kind::TYPEDEF));
        for (name, kind) in functions.chain(tracepoints) {
            if let Some((id, Type { size_or_id, .. })) = self.find_id(&name, |found| found == kind)
                && let Ok(at) = u32::try_from(strings.len())
                && let Some(place) = id.checked_sub(1).and_then(|index| types.get_mut(index as usize))
            {
                *place = [at, u32::from(kind.0) << 24, size_or_id];
                strings.extend(name.bytes().chain([0]));
            }
        }
        section(&types, &strings)
    }
}

/// Puts a header in front of types and strings.
fn section(types: &[[u32; TYPE_HEADER / 4]], strings: &[u8]) -> Vec<u8> {
    // What is made of a section of less than 4 GiB, a place for each type and a few names, is no longer.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let (type_bytes, string_bytes) = (length(size_of_val(types)), length(strings.len()));
    let mut data = Vec::with_capacity(HEADER + size_of_val(types) + strings.len());
    data.extend(MAGIC.to_ne_bytes());
    // The version, and no flags.
    data.extend([1, 0]);
    for word in [length(HEADER), 0, type_bytes, type_bytes, string_bytes] {
        data.extend(word.to_ne_bytes());
    }
    for word in types.as_flattened() {
        data.extend(word.to_ne_bytes());
    }
    data.extend(strings);
    data
}
