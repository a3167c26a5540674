//! Network namespaces: the one this process is in, and others that it can move into.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// Where `ip netns` keeps the namespaces that it has named.
const NAMED: &str = "/run/netns";

/// The namespace of this thread. `/proc/self` would be that of the process's first one.
const OWN: &str = "/proc/thread-self/ns/net";

/// `NS_GET_NSTYPE`, which gives the `CLONE_NEW*` of a namespace (4.11 and later).
const GET_TYPE: libc::Ioctl = 0xb703;

/// The file that stands for a namespace: of a name of `ip netns`, or a path.
pub fn file_of(name_or_path: &str) -> PathBuf {
    if name_or_path.contains('/') { PathBuf::from(name_or_path) } else { Path::new(NAMED).join(name_or_path) }
}

/// The inode number of the network namespace that a file stands for.
pub fn inode_of(path: &Path) -> io::Result<u32> {
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

/// The inode number of the network namespace that this thread is in.
pub fn own_inode() -> io::Result<u32> {
    inode_of(Path::new(OWN))
}

/// Moves this thread, and all threads that it starts from now on, into a network namespace. Sockets that exist stay where
/// they are.
pub fn enter(file: &Path) -> io::Result<()> {
    let namespace = File::open(file)?;
    // SAFETY: no memory is involved, and the descriptor lives through the call.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file of the namespace with this inode number: a named one, or that of a process.
pub fn file_with_inode(inode: u32) -> Option<PathBuf> {
    let named = entries(NAMED);
    let of_processes = entries("/proc").filter_map(|process| {
        let is_process = process.file_name()?.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        is_process.then(|| process.join("ns/net"))
    });
    named.chain(of_processes).find(|file| inode_of(file).ok() == Some(inode))
}

/// What a folder holds; nothing if it cannot be read.
fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_is_found_by_its_number() {
        let own = own_inode().unwrap();
        let file = file_with_inode(own).unwrap();
        assert_eq!(inode_of(&file).ok(), Some(own));
        assert_eq!(file_with_inode(1), None);
    }

    #[test]
    fn a_name_is_one_of_ip_netns() {
        assert_eq!(file_of("web"), Path::new("/run/netns/web"));
        assert_eq!(file_of("/proc/1/ns/net"), Path::new("/proc/1/ns/net"));
    }

    #[test]
    fn only_network_namespaces_are_some() {
        let own = Path::new("/proc/self/ns/net");
        assert_eq!(inode_of(own).ok().map(u64::from), fs::metadata(own).ok().map(|meta| meta.ino()));
        for other in ["/proc/self/ns/pid", "/proc/self/status", "/etc/hosts", "/proc"] {
            assert!(inode_of(Path::new(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        assert!(enter(Path::new("/proc/version")).is_err());
        assert!(enter(Path::new("/run/netns/no-such-namespace")).is_err());
    }
}
