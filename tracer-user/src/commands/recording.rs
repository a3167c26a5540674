//! The file that `record` writes.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Failure, reserved::Reserved};
use crate::{
    model::Coverage,
    store::{Footer, Header, Writer},
};

/// The file of a recording that has not begun. What was there stays until it has.
pub(super) struct Blank {
    path: PathBuf,
    reserved: Reserved,
}

/// A recording that is being written. Its errors name the file, and none of them is a reader that went away.
pub(super) struct Recording {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
}

impl Blank {
    /// Opens the file, or makes one.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let reserved = Reserved::open(path, OWNER_ONLY).map_err(|source| failed(path, source))?;
        Ok(Self { path: path.to_owned(), reserved })
    }

    /// Begins the recording in it, for its owner alone.
    pub(super) fn begin(
        self,
        release: &str,
        coverage: &Coverage,
        realtime_offset_ns: i64,
        count: Option<u64>,
    ) -> Result<Recording, Failure> {
        let Self { path, reserved } = self;
        let failure = |source| failed(&path, source);
        let file = private(reserved).map_err(failure)?;
        let header = Header {
            pathtrace: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: release.to_owned(),
            little_endian: cfg!(target_endian = "little"),
            realtime_offset_ns,
            count,
            probe_points: coverage
                .all()
                .map(|(point, state)| (point.row().hop.to_owned(), state.clone()))
                .collect(),
        };
        let writer = Writer::new(BufWriter::with_capacity(1 << 20, file), &header).map_err(failure)?;
        Ok(Recording { path, writer })
    }
}

impl Recording {
    /// Writes one record.
    pub(super) fn record(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.record(bytes).map_err(|source| failed(&self.path, source))
    }

    /// From here on no path begins.
    pub(super) fn close(&mut self, time_ns: u64) -> Result<(), Failure> {
        self.writer.close(time_ns).map_err(|source| failed(&self.path, source))
    }

    /// Ends it: the file is whole.
    pub(super) fn finish(self, footer: &Footer) -> Result<(), Failure> {
        self.writer.finish(footer).map_err(|source| failed(&self.path, source))
    }
}

/// What a recording tells is who talks to whom: nobody but its owner may read it.
const OWNER_ONLY: u32 = 0o600;

fn private(reserved: Reserved) -> io::Result<File> {
    let Some(found) = reserved.found() else {
        let file = reserved.emptied()?;
        give_to_sudo_user(&file);
        return Ok(file);
    };
    // First this: what was recorded before must not be lost where it is refused. The permissions of a device such as /dev/null, or of
    // a pipe, are not ours to change.
    if found.metadata()?.is_file() {
        found.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    }
    reserved.emptied()
}

/// Whoever recorded with sudo reads the recording without. Only a file that was made here: an older one has its owner.
fn give_to_sudo_user(file: &File) {
    let id = |name| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        // Best effort: without it the file is root's, as any that root makes.
        let _ = std::os::unix::fs::fchown(file, Some(user), Some(group));
    }
}

fn failed(path: &Path, source: io::Error) -> Failure {
    Failure::File { what: "write", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn a_file_that_was_there_is_emptied_and_made_private() {
        let path = env::temp_dir().join(format!("pathtrace-private-{}", process::id()));
        fs::write(&path, "older").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        private(Reserved::open(&path, OWNER_ONLY).unwrap()).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.len()), (OWNER_ONLY, 0));
    }

    #[test]
    fn a_device_keeps_its_permissions() {
        let mode = || fs::metadata("/dev/null").unwrap().permissions().mode();
        let before = mode();
        private(Reserved::open(Path::new("/dev/null"), OWNER_ONLY).unwrap()).unwrap();
        assert_eq!(mode(), before);
    }
}
