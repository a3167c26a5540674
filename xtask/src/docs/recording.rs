//! The header of a recording, which tells what a run could attach to: see `tracer-user/src/store`.
//!
//! tracer-user has a reader, but its build script needs xtask, so xtask cannot need it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::kernels::{Answer, Kernels};

/// What recordings of every version begin with; the version is the byte behind it.
const MAGIC: &[u8] = b"PTHTRCE";

#[derive(Deserialize)]
struct Header {
    kernel: String,
    probe_points: Vec<(String, State)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Attached { backend: String, function: String },
    Refused(Vec<Refusal>),
    NotNeeded,
}

#[derive(Deserialize)]
struct Refusal {
    backend: String,
    reason: String,
}

/// Adds what a recording's header says.
pub(super) fn add(kernels: &mut Kernels, file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let header =
        header(&bytes).with_context(|| format!("{} has no header of a recording", file.display()))?;
    let header: Header = serde_json::from_slice(header)
        .with_context(|| format!("the header of {} is damaged", file.display()))?;
    for (hop, state) in header.probe_points {
        let mut add = |backend: &str, answer| kernels.add(&header.kernel, &hop, backend, answer);
        match state {
            State::Attached { backend, function } => add(&backend, Answer::Function(function)),
            State::Refused(refusals) => {
                for Refusal { backend, reason } in refusals {
                    add(&backend, Answer::Refused(reason));
                }
            }
            State::NotNeeded => {}
        }
    }
    Ok(())
}

/// The JSON in it: a length of four bytes stands between the version and the text.
fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (_version, rest) = bytes.strip_prefix(MAGIC)?.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::PathBuf;

    use tracer_common::probes::Backend;

    use super::*;

    #[test]
    fn recordings_of_real_kernels_are_understood() {
        let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer-user/tests/data"));
        let mut kernels = Kernels::default();
        for name in ["6.1-fentry.ptr", "6.1-kprobe.ptr"] {
            add(&mut kernels, &data.join(name)).unwrap();
        }
        let [kernel] = &*kernels.kernels else { panic!("one kernel") };
        assert_eq!(kernel.version(), "6.1");
        let function = |name: &str| Some(Answer::Function(name.into()));
        assert_eq!(kernel.answer("tcp_recvmsg", Backend::Kprobe).cloned(), function("tcp_rcv_space_adjust"));
        assert_eq!(kernel.answer("dev_queue_xmit", Backend::Fentry).cloned(), function("__dev_queue_xmit"));
        assert!(matches!(kernel.answer("ip6_xmit", Backend::Fentry), Some(Answer::Refused(_))));
        assert_eq!(kernel.answer("dev_queue_xmit", Backend::Tracepoint), None);
    }

    #[test]
    fn other_files_have_no_header() {
        for bytes in [&b""[..], b"PTHTRCE", b"PTHTRCE\x01\x05\0\0\0{}", b"{\"kernel\":\"6.1\"}"] {
            assert_eq!(header(bytes), None);
        }
        assert_eq!(header(b"PTHTRCE\x01\x02\0\0\0{}rest"), Some(&b"{}"[..]));
    }
}
