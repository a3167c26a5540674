//! Namespaces as files of the kernel's.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

/// `PROC_PID_INIT_INO`: the inode number of the first PID namespace.
const INITIAL_PID: u64 = 0xEFFF_FFFC;

/// `NS_GET_NSTYPE`, which gives the `CLONE_NEW*` of a namespace (4.11 and later).
const GET_TYPE: libc::Ioctl = 0xb703;

/// Whether this process has the numbers of processes that the kernel's programs see.
pub fn sees_all_processes() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino() == INITIAL_PID)
}

/// The inode number of the network namespace that a file stands for.
pub fn network(path: &Path) -> io::Result<u32> {
    let file = File::open(path)?;
    // Whatever file it is, only one of nsfs is asked: what another makes of the number is not known.
    let is_network = is_namespace(&file)? && {
        // SAFETY: the call takes no pointer.
        unsafe { libc::ioctl(file.as_raw_fd(), GET_TYPE) == libc::CLONE_NEWNET }
    };
    if !is_network {
        return Err(io::Error::other("this is no network namespace"));
    }
    u32::try_from(file.metadata()?.ino())
        .map_err(|_| io::Error::other("its inode number is none of a namespace"))
}

fn is_namespace(file: &File) -> io::Result<bool> {
    // SAFETY: `statfs` is plain data, and zeroes are a value of it.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `about` lives through the call, which fills it.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(about.f_type == libc::NSFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_namespaces_are_some() {
        let own = Path::new("/proc/self/ns/net");
        assert_eq!(network(own).ok().map(u64::from), fs::metadata(own).ok().map(|meta| meta.ino()));
        for other in ["/proc/self/ns/pid", "/proc/self/status", "/etc/hosts", "/proc"] {
            assert!(network(Path::new(other)).is_err(), "{other}");
        }
    }
}
