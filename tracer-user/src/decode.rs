//! Bytes from the ring buffer, or from a recording, to records.

use tracer_common::event::{
    DeviceRecord, FlowRecord, HopRecord, KIND_DEVICE, KIND_FLOW, KIND_HOP, KIND_LOSS, KIND_NAME, KIND_ROUTE,
    KIND_TASK, KIND_UNIX, KIND_UNIX_NAME, LossRecord, NameRecord, RouteRecord, TaskRecord, UnixNameRecord,
    UnixRecord,
};

/// A record. The long kinds are rare, and apart: each record is moved, and many are kept at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A probe point fired.
    Hop(HopRecord),
    /// A flow was given a number.
    Flow(FlowRecord),
    /// A process has this name.
    Task(TaskRecord),
    /// A device has this name.
    Device(DeviceRecord),
    /// A UNIX socket has this name.
    UnixName(Box<UnixNameRecord>),
    /// A probe point fired for a UNIX socket.
    Unix(UnixRecord),
    /// A routing table has answered.
    Route(RouteRecord),
    /// A number of the kernel's has this name.
    Name(Box<NameRecord>),
    /// Records were lost here, or none is any more.
    Loss(LossRecord),
}

// A record of a hop, and which kind it is.
const _: () = assert!(size_of::<Record>() == size_of::<HopRecord>() + 8);

impl Record {
    /// Whether it says that a probe point fired; the others are names and numbers for those that do.
    pub fn is_hop(&self) -> bool {
        matches!(self, Self::Hop(_) | Self::Unix(_) | Self::Route(_))
    }
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No bytes at all.
    #[error("an empty record")]
    Empty,
    /// A kind that this version does not know.
    #[error("a record of unknown kind {0}")]
    Kind(u8),
    /// Too few or too many bytes for its kind.
    #[error("a record of kind {kind} with {len} bytes")]
    Length {
        /// The kind.
        kind: u8,
        /// How many bytes there were.
        len: usize,
    },
}

/// Reads one record. The length must be exactly that of its kind.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
    match *bytes.first().ok_or(Malformed::Empty)? {
        KIND_HOP => copy(bytes).map(Record::Hop),
        KIND_FLOW => copy(bytes).map(Record::Flow),
        KIND_TASK => copy(bytes).map(Record::Task),
        KIND_DEVICE => copy(bytes).map(Record::Device),
        KIND_UNIX_NAME => copy(bytes).map(Box::new).map(Record::UnixName),
        KIND_UNIX => copy(bytes).map(Record::Unix),
        KIND_ROUTE => copy(bytes).map(Record::Route),
        KIND_NAME => copy(bytes).map(Box::new).map(Record::Name),
        KIND_LOSS => copy(bytes).map(Record::Loss),
        kind => Err(Malformed::Kind(kind)),
    }
}

/// Copies, as recordings and the ring buffer promise no alignment.
#[inline]
fn copy<T: plain::Plain + Copy>(bytes: &[u8]) -> Result<T, Malformed> {
    let wrong_length = || Malformed::Length { kind: bytes.first().copied().unwrap_or(0), len: bytes.len() };
    if bytes.len() != size_of::<T>() {
        return Err(wrong_length());
    }
    // SAFETY: `T: Plain` says that any bytes are a value, zeroes among them.
    let mut record: T = unsafe { std::mem::zeroed() };
    record.copy_from_bytes(bytes).map_err(|_| wrong_length())?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_of_known_kinds_are_read() {
        assert_eq!(decode(&[]), Err(Malformed::Empty));
        assert_eq!(decode(&[0; 64]), Err(Malformed::Kind(0)));
        assert_eq!(decode(&[KIND_HOP; 63]), Err(Malformed::Length { kind: KIND_HOP, len: 63 }));
        assert_eq!(decode(&[KIND_FLOW; 64]), Err(Malformed::Length { kind: KIND_FLOW, len: 64 }));
        for (kind, len) in [
            (KIND_HOP, 64),
            (KIND_FLOW, 56),
            (KIND_TASK, 24),
            (KIND_DEVICE, 32),
            (KIND_UNIX_NAME, 128),
            (KIND_UNIX, 64),
            (KIND_ROUTE, 56),
            (KIND_NAME, 80),
            (KIND_LOSS, 16),
        ] {
            assert!(decode(&vec![kind; len]).is_ok(), "kind {kind}");
        }
    }

    #[test]
    fn fields_lie_where_the_kernel_puts_them() {
        let mut bytes = [0u8; 64];
        bytes[0] = KIND_HOP;
        bytes[1] = 6;
        bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
        bytes[60..].copy_from_slice(&9u32.to_ne_bytes());
        let Ok(Record::Hop(hop)) = decode(&bytes) else { panic!("a hop") };
        assert_eq!((hop.point, hop.time_ns, hop.aux), (6, 77, 9));
    }
}
