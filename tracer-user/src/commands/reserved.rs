//! A file that is looked for before a trace begins, and written when it has begun.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat},
};

/// It can be written, as far as that can be told without doing so: what ends before anything is attached, in whatever way, has
/// changed nothing.
pub(super) struct Reserved {
    path: PathBuf,
    /// The permissions of a file that is made here.
    mode: u32,
    /// The file, if it is there.
    found: Option<File>,
}

impl Reserved {
    /// Looks for it. `mode`: the permissions of a file that is made here.
    pub(super) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let found = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                can_be_made(path)?;
                None
            }
            found => Some(found?),
        };
        Ok(Self { path: path.to_owned(), mode, found })
    }

    /// The file, if it is there.
    pub(super) fn found(&self) -> Option<&File> {
        self.found.as_ref()
    }

    /// The file, which is empty now. (A device or a pipe is as it was.)
    pub(super) fn emptied(self) -> io::Result<File> {
        let Some(file) = self.found else {
            // In folders such as /tmp, root may not "make" a file that is there by now and another's (fs.protected_regular).
            return OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(self.mode)
                .open(&self.path);
        };
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    }
}

/// Whether both name the same place for a file, which need not be there.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| Some((folder_of(path).canonicalize().ok()?, path.file_name()?.to_owned()));
    place(one).is_some_and(|one| place(other) == Some(one))
}

/// The folder that a file is in, or would be.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether there is a folder in which this file can be made. What the kernel does not want to say, trying will.
pub(super) fn can_be_made(path: &Path) -> io::Result<()> {
    match faccessat(AT_FDCWD, folder_of(path), AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Err(errno @ (Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EROFS)) => Err(errno.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

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
        assert!(reserved.found().is_some());
        reserved.emptied().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_new_file_is_made_when_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let reserved = Reserved::open(&path, MODE).unwrap();
        assert!(reserved.found().is_none() && !path.exists());
        reserved.emptied().unwrap().write_all(b"new").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read(&path).unwrap()), (MODE, b"new".to_vec()));
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
