//! The recording format: what the kernel sent, unchanged, with what is needed to read it elsewhere.
//!
//! A file is the eight bytes of [`MAGIC`], a header, frames, and a footer. Header and footer are JSON, as they are read
//! by people too. All numbers are little-endian; records inside frames are in the byte order of the machine that
//! recorded them, which the header names. A frame is a tag byte, a length of two bytes, and that many bytes.

mod read;
mod write;

pub use read::{Frame, Reader, StoreError};
pub use write::Writer;

use crate::model::{Audit, Cost, Losses, State};

/// The first bytes of a recording; the last one is the version.
pub const MAGIC: [u8; 8] = *b"PTHTRCE\x01";

const TAG_RECORD: u8 = 1;
const TAG_CLOSE: u8 = 2;
const TAG_FOOTER: u8 = 3;

/// The longest header that is read, bytes.
const MAX_HEADER: u32 = 1 << 20;

/// What stands before the records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Header {
    /// Version of pathtrace that recorded.
    pub pathtrace: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Whether records are little-endian.
    pub little_endian: bool,
    /// Added to a time of `CLOCK_MONOTONIC` gives the time since 1970, ns.
    pub realtime_offset_ns: i64,
    /// At most so many of its paths are shown, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The state of each probe point, by the stable name of its hop.
    pub probe_points: Vec<(String, State)>,
}

/// What stands behind them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Footer {
    /// What was lost.
    pub losses: Losses,
    /// From the first moment of the trace to the last, ns.
    pub duration_ns: u64,
    /// What tracing has cost.
    #[serde(default)]
    pub cost: Cost,
    /// The accounts of all records, if they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// One of so many messages was traced, where not all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
}
