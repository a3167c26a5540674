//! A cgroup (version 2) of our own, below the one that this process is in.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

/// What the names of our cgroups begin with; the identifier of the process that made it follows.
const PREFIX: &str = "pathtrace-";

/// The file of a cgroup that names the processes in it, and moves those that are written into it.
const PROCESSES: &str = "cgroup.procs";

/// How often removing is tried. A process that was waited for may be counted for a moment longer, and one that is moved
/// may have begun to fork.
const TRIES: u32 = 100;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// There is no cgroup of our own.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of `/proc` cannot be read.
    #[error("cannot read {path}: {source} (is /proc mounted?)")]
    Read {
        /// The file.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Nothing to make one in.
    #[error(
        "no file system of type cgroup2 with this process's own cgroup is mounted (mount -t cgroup2 none /sys/fs/cgroup)"
    )]
    NotMounted,
    /// It cannot be made.
    #[error("cannot make the cgroup {}: {source}", path.display())]
    Make {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A cgroup of our own. Dropping it moves the processes that are still in it back to where this process is, and removes it.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    processes: PathBuf,
    directory: File,
}

impl Cgroup {
    /// Makes one, and removes those that former processes left behind.
    ///
    /// Whatever ends this process, a cgroup stays: the kernel has none that goes with a descriptor. So its name tells the
    /// process that made it, and the next run removes those of processes that are gone, which are empty by then as well.
    pub fn make() -> Result<Self, CgroupError> {
        let parent = own_folder()?;
        remove_leftovers(&parent);
        let folder = parent.join(format!("{PREFIX}{}", process::id()));
        let made = fs::create_dir(&folder).and_then(|()| File::open(&folder));
        let directory = made.map_err(|source| CgroupError::Make { path: folder.clone(), source })?;
        Ok(Self { processes: folder.join(PROCESSES), folder, directory })
    }

    /// Its folder, opened: what programs are attached to.
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// The file that takes processes: `0` moves the one that writes it. A socket belongs to the cgroup in which it was
    /// made, not to where its process goes later.
    pub fn processes(&self) -> &Path {
        &self.processes
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let parent = self.folder.parent().unwrap_or(&self.folder).join(PROCESSES);
        let mut removed = Ok(());
        for _ in 0..TRIES {
            // Those in it were started by this process, so they came from where it is. One that has ended meanwhile
            // cannot be moved, and need not be.
            for process in fs::read_to_string(&self.processes).unwrap_or_default().lines() {
                let _ = fs::write(&parent, process);
            }
            removed = fs::remove_dir(&self.folder);
            if removed.is_ok() {
                return;
            }
            thread::sleep(PAUSE);
        }
        if let Err(error) = removed {
            log::warn!("the cgroup {} stays: {error}", self.folder.display());
        }
    }
}

/// Removes the cgroups of processes that are gone. One with processes in it cannot be removed, and waits for a later run.
/// In containers a former process may have had this one's number.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if maker(&entry.file_name().to_string_lossy())
            .is_some_and(|process| process == process::id() || !is_alive(process))
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The process that made the cgroup of this name, if it is one of ours.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// The folder of the cgroup that this process is in.
fn own_folder() -> Result<PathBuf, CgroupError> {
    let read = |path| fs::read_to_string(path).map_err(|source| CgroupError::Read { path, source });
    let mounts = read("/proc/self/mountinfo")?;
    let own = read("/proc/self/cgroup")?;
    find(&mounts, &own).ok_or(CgroupError::NotMounted)
}

/// The folder that `/proc/self/mountinfo` and `/proc/self/cgroup` give to the cgroup of version 2.
fn find(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|mount| {
        let (place, kind) = mount.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        let (root, at) = (unescaped(place.next()?), unescaped(place.next()?));
        // A container may see a part of the tree only.
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(&at).join(below))
    })
}

/// A path of `/proc/self/mountinfo`, which writes blanks and backslashes as three octal digits.
fn unescaped(path: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n";

    fn found(mounts: &str, own: &str) -> Option<String> {
        find(mounts, own).map(|folder| folder.display().to_string())
    }

    #[test]
    fn the_own_cgroup_is_below_the_mount() {
        let own = "4:memory:/elsewhere\n0::/system.slice/ssh.service\n";
        assert_eq!(found(HYBRID, own).as_deref(), Some("/sys/fs/cgroup/unified/system.slice/ssh.service"));
        assert_eq!(found(HYBRID, "0::/\n").as_deref(), Some("/sys/fs/cgroup/unified/"));
    }

    #[test]
    fn a_mount_of_a_part_counts_from_there() {
        let mounts = "41 31 0:38 /a/b /cg\\040x rw - cgroup2 none rw\n";
        assert_eq!(found(mounts, "0::/a/b/c\n").as_deref(), Some("/cg x/c"));
        assert_eq!(found(mounts, "0::/elsewhere\n"), None);
    }

    #[test]
    fn without_version_2_there_is_none() {
        assert_eq!(found(HYBRID, "4:memory:/\n"), None);
        assert_eq!(found("35 31 0:32 / /cg rw - cgroup cgroup rw,memory\n", "0::/\n"), None);
        assert_eq!(found("nonsense\n", "0::/\n"), None);
    }

    #[test]
    fn only_our_cgroups_have_a_maker() {
        assert_eq!(maker("pathtrace-17"), Some(17));
        assert_eq!(maker("pathtrace-x"), None);
        assert_eq!(maker("system.slice"), None);
    }
}
