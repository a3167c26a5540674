//! Reading a recording, which may be damaged or made to do harm.

use std::io::{self, Read};

use tracer_common::{event::is_hop, probes::Point};

use super::{Footer, Header, MAGIC, MAX_HEADER, TAG_CLOSE, TAG_FOOTER, TAG_RECORD};
use crate::model::Coverage;

/// A recording that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another file.
    #[error("not a pathtrace recording")]
    NotARecording,
    /// A later version.
    #[error("a recording of format version {0}, this pathtrace reads version {reads}", reads = MAGIC[7])]
    Version(u8),
    /// The header makes no sense.
    #[error("the recording's header is damaged: {0}")]
    Header(String),
    /// From a machine of the other byte order.
    #[error("the recording is from a machine of the other byte order")]
    ByteOrder,
    /// A frame makes no sense.
    #[error("the recording is damaged: frame of unknown kind {0}")]
    Frame(u8),
    /// The end is missing.
    #[error("the recording is cut off; what stands before the cut was read")]
    CutOff,
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
}

/// What a recording holds, one at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The bytes of a record.
    Record(&'a [u8]),
    /// From here on no path begins. `CLOCK_MONOTONIC`, ns.
    Close(u64),
    /// The end.
    Footer(Footer),
}

/// Reads a recording.
pub struct Reader<R: Read> {
    from: R,
    header: Header,
    /// This version's number of each point of the recording's table; `u8::MAX` where it has none.
    points: Vec<u8>,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    pub fn new(mut from: R) -> Result<Self, StoreError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).map_err(|_| StoreError::NotARecording)?;
        if magic[..7] != MAGIC[..7] {
            return Err(StoreError::NotARecording);
        }
        if magic[7] != MAGIC[7] {
            return Err(StoreError::Version(magic[7]));
        }
        let mut len = [0; 4];
        from.read_exact(&mut len).map_err(|_| StoreError::CutOff)?;
        let len = u32::from_le_bytes(len);
        if len > MAX_HEADER {
            return Err(StoreError::Header(format!("{len} bytes long")));
        }
        let mut text = Vec::new();
        let read = (&mut from).take(u64::from(len)).read_to_end(&mut text)?;
        if read != len as usize {
            return Err(StoreError::CutOff);
        }
        let header: Header =
            serde_json::from_slice(&text).map_err(|error| StoreError::Header(error.to_string()))?;
        if header.little_endian != cfg!(target_endian = "little") {
            return Err(StoreError::ByteOrder);
        }
        let points =
            header.probe_points.iter().map(|(hop, _)| point_named(hop).map_or(u8::MAX, |point| point as u8));
        Ok(Self { from, points: points.collect(), header, buffer: Vec::new() })
    }

    /// What stands before the records.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which points the recording run saw. Points that this version does not know are left out.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        for (hop, state) in &self.header.probe_points {
            if let Some(point) = point_named(hop) {
                coverage.set(point, state.clone());
            }
        }
        coverage
    }

    /// The next frame. After the footer there is none.
    pub fn next_frame(&mut self) -> Result<Frame<'_>, StoreError> {
        let mut head = [0; 3];
        self.from.read_exact(&mut head).map_err(cut_off)?;
        let [tag, low, high] = head;
        self.buffer.resize(usize::from(u16::from_le_bytes([low, high])), 0);
        self.from.read_exact(&mut self.buffer).map_err(cut_off)?;
        match tag {
            TAG_RECORD => {
                // Tables grow, so a point's number in a recording is its place in the recording's header.
                if let [kind, point, ..] = &mut *self.buffer
                    && is_hop(*kind)
                {
                    *point = self.points.get(usize::from(*point)).copied().unwrap_or(u8::MAX);
                }
                Ok(Frame::Record(&self.buffer))
            }
            TAG_CLOSE => {
                let bytes = self.buffer.as_slice().try_into().map_err(|_| StoreError::Frame(tag))?;
                Ok(Frame::Close(u64::from_le_bytes(bytes)))
            }
            TAG_FOOTER => {
                serde_json::from_slice(&self.buffer).map(Frame::Footer).map_err(|_| StoreError::Frame(tag))
            }
            tag => Err(StoreError::Frame(tag)),
        }
    }
}

fn point_named(hop: &str) -> Option<Point> {
    Point::ALL.iter().copied().find(|point| point.row().hop == hop)
}

fn cut_off(error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::UnexpectedEof { StoreError::CutOff } else { StoreError::Io(error) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracer_common::{
        event::{KIND_HOP, KIND_UNIX_NAME},
        probes::Backend,
    };

    use super::{super::Writer, *};
    use crate::model::{Attached, Losses, State};

    fn header() -> Header {
        let attached =
            State::Attached(Attached { backend: Backend::Kprobe, function: "__dev_queue_xmit".into() });
        Header {
            pathtrace: "0.1.0".into(),
            kernel: "6.18".into(),
            little_endian: cfg!(target_endian = "little"),
            realtime_offset_ns: -5,
            count: Some(5),
            probe_points: vec![
                ("dev_queue_xmit".into(), attached),
                ("not_yet_known".into(), State::NotNeeded),
            ],
        }
    }

    fn recording() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &header()).unwrap();
        writer.record(&[KIND_HOP, 0, 3]).unwrap();
        writer.record(&[KIND_HOP, 1, 3]).unwrap();
        writer.close(99).unwrap();
        let losses = Losses { hops: 1, others: 2, missed: None };
        writer.finish(&Footer { losses, duration_ns: 7, ..Footer::default() }).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = recording();
        let mut reader = Reader::new(&*bytes).unwrap();
        assert_eq!(*reader.header(), header());
        assert!(reader.coverage().sees(Point::DevQueueXmit));
        // Point 0 of the recording is another number here, point 1 is none at all.
        assert_eq!(reader.next_frame().unwrap(), Frame::Record(&[KIND_HOP, Point::DevQueueXmit as u8, 3]));
        assert_eq!(reader.next_frame().unwrap(), Frame::Record(&[KIND_HOP, u8::MAX, 3]));
        assert_eq!(reader.next_frame().unwrap(), Frame::Close(99));
        let Frame::Footer(footer) = reader.next_frame().unwrap() else { panic!("a footer") };
        assert_eq!((footer.losses.hops, footer.duration_ns), (1, 7));
    }

    #[test]
    fn nothing_behind_a_name_is_recorded() {
        let mut name = [0x55; 128];
        (name[0], name[1]) = (KIND_UNIX_NAME, 7);
        let mut bytes = Vec::new();
        Writer::new(&mut bytes, &header()).unwrap().record(&name).unwrap();
        let mut reader = Reader::new(&*bytes).unwrap();
        let Frame::Record(read) = reader.next_frame().unwrap() else { panic!("a record") };
        assert_eq!(read[..23], name[..23]);
        assert_eq!(read[23..], [0; 105]);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(Reader::new(&b"{}"[..]), Err(StoreError::NotARecording)));
        assert!(matches!(Reader::new(&b"PTHTRCE\x09...."[..]), Err(StoreError::Version(9))));
        let huge = [&MAGIC[..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(Reader::new(&*huge), Err(StoreError::Header(_))));
    }

    proptest! {
        #[test]
        fn damage_ends_in_an_error_or_a_footer(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = recording();
            let end = bytes.len();
            bytes[at % end] = byte;
            bytes.truncate(cut.max(1));
            if let Ok(mut reader) = Reader::new(&*bytes) {
                while let Ok(frame) = reader.next_frame() {
                    if matches!(frame, Frame::Footer(_)) {
                        break;
                    }
                }
            }
        }
    }
}
