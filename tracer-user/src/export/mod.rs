//! Paths for other programs. A format is a file or a folder here.

mod extra;
pub mod json;
mod names;

pub use extra::Extra;
pub use names::{Printable, Refusals, UnixName, first_line};
