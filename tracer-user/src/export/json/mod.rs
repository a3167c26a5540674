//! JSON Lines: an object for each path, and the summary as the last line.
//!
//! The structs are the contract, field by field and in its order. They borrow from the model, so that nothing is
//! allocated for a path. Times are integers in ns, what is not known is `null`.

mod comparison;
mod doctor;
mod flow;
mod hop;
mod path;
mod proof;
mod summary;
#[cfg(test)]
mod tests;

use std::{fmt::Display, io};

use serde::{Serialize, Serializer};

use super::Printable;

pub use comparison::{read_former, write_comparison};
pub use doctor::write_diagnosis;
pub use path::PathLines;
pub use proof::write_verdict;
pub use summary::write_summary;

/// Version of the contract. Fields may be added to a version; none is removed or changes its meaning.
pub const SCHEMA: u32 = 1;

/// Adds the fields of `object` to the object that `out` ends in, which stays open.
fn add_fields(object: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let begins = out.len();
    serde_json::to_writer(&mut *out, object)?;
    // Its own braces go.
    if let Some(brace) = out.get_mut(begins) {
        *brace = b',';
    }
    out.pop();
    Ok(())
}

/// Serializes what it displays.
struct Shown<T>(T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// Serializes a name.
struct Text<'a>(Printable<'a>);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.as_plain() {
            Some(text) => to.serialize_str(text),
            None => to.collect_str(&self.0),
        }
    }
}
