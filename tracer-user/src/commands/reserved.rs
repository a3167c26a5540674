//! A file that is opened before a trace begins, and written when it has begun.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use tempfile::TempPath;

/// It can be written. Until it is, what was there stays, and a file that was not there goes again: a trace that cannot begin
/// changes nothing.
pub(super) struct Reserved {
    file: File,
    /// It was made here.
    new: Option<TempPath>,
}

impl Reserved {
    /// Opens it. `mode`: the permissions of a file that is made here.
    pub(super) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).mode(mode);
        // First without making one: in folders such as /tmp, root may not "make" a file that is there and another's
        // (fs.protected_regular).
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return Ok(Self { file: found?, new: None }),
        }
        match options.clone().create_new(true).open(path) {
            Ok(file) => Ok(Self { file, new: Some(TempPath::try_from_path(path)?) }),
            // A link to a file that is not there.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(Self { file: options.create(true).open(path)?, new: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it was made here.
    pub(super) fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// The file, which is empty now and stays. (A device or a pipe is as it was.)
    pub(super) fn emptied(self) -> io::Result<File> {
        match self.new {
            Some(new) => _ = new.keep()?,
            None if self.file.metadata()?.is_file() => self.file.set_len(0)?,
            None => {}
        }
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    const MODE: u32 = 0o600;

    #[test]
    fn what_was_there_stays_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old");
        fs::write(&path, "older and longer").unwrap();
        drop(Reserved::open(&path, MODE).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"older and longer");
        let reserved = Reserved::open(&path, MODE).unwrap();
        assert!(!reserved.is_new());
        reserved.emptied().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_new_file_stays_only_if_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let reserved = Reserved::open(&path, MODE).unwrap();
        assert!(reserved.is_new() && path.exists());
        drop(reserved);
        assert!(!path.exists());
        drop(Reserved::open(&path, MODE).unwrap().emptied().unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_link_may_lead_to_a_file_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link"), folder.path().join("new"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Reserved::open(&link, MODE).unwrap().emptied().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_device_has_no_length() {
        assert!(Reserved::open(Path::new("/dev/null"), MODE).unwrap().emptied().is_ok());
        assert!(Reserved::open(Path::new("/no/such/folder/x"), MODE).is_err());
    }
}
