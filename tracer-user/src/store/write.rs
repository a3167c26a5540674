//! Writing a recording.

use std::{
    io::{self, Write},
    mem::offset_of,
};

use tracer_common::event::UnixNameRecord;

use super::{Footer, Header, MAGIC, TAG_CLOSE, TAG_FOOTER, TAG_RECORD};
use crate::decode::{Record, decode};

/// Writes a recording.
pub struct Writer<W: Write> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn new(mut to: W, header: &Header) -> io::Result<Self> {
        let header = serde_json::to_vec(header)?;
        to.write_all(&MAGIC)?;
        to.write_all(&u32::try_from(header.len()).map_err(io::Error::other)?.to_le_bytes())?;
        to.write_all(&header)?;
        Ok(Self { to })
    }

    /// Writes the bytes of one record. What stands behind the name of a UNIX socket is left over from other uses of the
    /// kernel's memory and stays out of the file.
    pub fn record(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Ok(Record::UnixName(name)) = decode(bytes) {
            let mut clean = bytes.to_vec();
            let end = offset_of!(UnixNameRecord, path) + usize::from(name.len);
            clean.get_mut(end..).unwrap_or_default().fill(0);
            return self.frame(TAG_RECORD, &clean);
        }
        self.frame(TAG_RECORD, bytes)
    }

    /// From here on no path begins. `time_ns`: `CLOCK_MONOTONIC`.
    pub fn close(&mut self, time_ns: u64) -> io::Result<()> {
        self.frame(TAG_CLOSE, &time_ns.to_le_bytes())
    }

    /// Ends the recording.
    pub fn finish(mut self, footer: &Footer) -> io::Result<()> {
        let footer = serde_json::to_vec(footer)?;
        self.frame(TAG_FOOTER, &footer)?;
        self.to.flush()
    }

    fn frame(&mut self, tag: u8, bytes: &[u8]) -> io::Result<()> {
        let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.to.write_all(&[tag])?;
        self.to.write_all(&len.to_le_bytes())?;
        self.to.write_all(bytes)
    }
}
