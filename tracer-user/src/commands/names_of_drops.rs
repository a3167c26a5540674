//! Names for where and why packets are dropped, put into the stream of records in front of the first record that needs
//! them: so a recording has them as well.

use std::collections::HashSet;

use tracer_common::{
    event::{
        AUX_UNKNOWN, HopRecord, KIND_HOP, KIND_NAME, NAME_LEN, NAMES_DROP_REASON, NAMES_FUNCTION, NameRecord,
    },
    probes::Point,
};

use crate::{
    decode::{Record, decode},
    kernel::{drop_reasons::DropReasons, symbols::LazyFunctions},
};

/// What was said already.
pub(super) struct NamesOfDrops {
    reasons: DropReasons,
    functions: LazyFunctions,
    said: HashSet<(u8, u64)>,
}

impl NamesOfDrops {
    /// `reasons`: those of the running kernel.
    pub(super) fn new(reasons: DropReasons) -> Self {
        Self { reasons, functions: LazyFunctions::default(), said: HashSet::new() }
    }

    /// Hands the names over that a record needs and that were not said yet.
    pub(super) fn before(&mut self, record: &[u8], mut say: impl FnMut(&[u8])) {
        const DROP: u8 = Point::KfreeSkb as u8;
        let [KIND_HOP, DROP, ..] = record else { return };
        let Ok(Record::Hop(HopRecord { sk: location, aux: reason, .. })) = decode(record) else { return };
        if self.said.insert((NAMES_FUNCTION, location))
            && let Some(function) = self.functions.containing(location)
        {
            say(&name(NAMES_FUNCTION, location, &function.to_string()));
        }
        if reason != AUX_UNKNOWN
            && self.said.insert((NAMES_DROP_REASON, reason.into()))
            && let Some(reason_name) = self.reasons.name(reason)
        {
            say(&name(NAMES_DROP_REASON, reason.into(), &reason_name));
        }
    }
}

/// A [`NameRecord`] as bytes.
fn name(of: u8, number: u64, text: &str) -> Vec<u8> {
    let mut name = [0; NAME_LEN];
    let len = text.len().min(NAME_LEN);
    name[..len].copy_from_slice(&text.as_bytes()[..len]);
    let len = u8::try_from(len).unwrap_or(u8::MAX);
    let record = NameRecord { kind: KIND_NAME, of, len, pad: 0, pad2: 0, number, name };
    // SAFETY: `NameRecord` is `Plain`: `repr(C)` without padding, so all its bytes are initialised.
    unsafe { plain::as_bytes(&record) }.to_vec()
}
