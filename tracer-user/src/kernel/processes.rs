//! Processes and their threads, as `/proc` has them.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// `PROC_PID_INIT_INO`: the inode number of the first PID namespace.
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What a number of `/proc` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// Nothing.
    Nobody,
    /// A process.
    Process,
    /// A thread of a process other than its first.
    ThreadOf {
        /// The process.
        process: u32,
        /// The thread's name.
        name: String,
    },
}

/// Whether this process has the numbers of processes that the kernel's programs see.
pub fn have_their_first_numbers() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino() == INITIAL_NAMESPACE)
}

/// What is running under a number. `/proc/TID` is there for threads too, though no list shows it.
pub fn number(pid: u32) -> Number {
    let status = Path::new("/proc").join(pid.to_string()).join("status");
    fs::read(status).map_or(Number::Nobody, |status| parse(pid, &String::from_utf8_lossy(&status)))
}

fn parse(pid: u32, status: &str) -> Number {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("Tgid:").and_then(|tgid| tgid.parse().ok()) {
        Some(process) if process != pid => {
            Number::ThreadOf { process, name: field("Name:").unwrap_or_default().to_owned() }
        }
        _ => Number::Process,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_known_by_its_process() {
        let status = "Name:\tworker\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t70\nNgid:\t0\nPid:\t71\n";
        assert_eq!(parse(71, status), Number::ThreadOf { process: 70, name: "worker".to_owned() });
        assert_eq!(parse(70, status), Number::Process);
        assert_eq!(number(std::process::id()), Number::Process);
        assert_eq!(number(u32::MAX), Number::Nobody);
    }
}
