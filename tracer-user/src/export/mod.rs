//! Paths for other programs, and comparisons as pictures. A format is a file or a folder here.

pub mod comparison;
mod extra;
mod human;
mod icmp;
pub mod json;
mod names;
pub mod picture;
pub mod proof;

pub use extra::{Extra, route_type_name, table_name};
pub use human::Human;
pub(crate) use human::rounded;
pub use icmp::IcmpMessage;
pub use names::{Printable, Refusals, UnixName, first_line};
