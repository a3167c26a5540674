//! Paths for other programs. A format is a file or a folder here.

mod extra;
mod icmp;
pub mod json;
mod names;
pub mod proof;

pub use extra::{Extra, route_type_name, table_name};
pub use icmp::IcmpMessage;
pub use names::{Printable, Refusals, UnixName, first_line};
