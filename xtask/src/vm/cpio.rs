//! Writing the guest's root file system: a cpio archive in the "newc" format, which the kernel unpacks into memory.

/// An archive under construction.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

impl Archive {
    /// Adds an empty folder. Its parent must come first.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// Adds a file that everybody may execute.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK, target.as_bytes());
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.trim_start_matches('/');
        self.entries += 1;
        let header = [
            self.entries,                       // inode
            mode,                               //
            0,                                  // user
            0,                                  // group
            1,                                  // links
            0,                                  // modification time
            length(content.len()),              //
            0,                                  // device, major and minor
            0,                                  //
            0,                                  // device that the file stands for
            0,                                  //
            length(path.len()).wrapping_add(1), // with the zero at its end
            0,                                  // checksum, unused in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in header {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The format has 32 bits for a length. A guest with a file beyond 4 GiB would not boot anyway.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut archive = Archive::default();
        archive.program("/init", b"#!/bin/sh\n");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        // Six characters of magic, 13 numbers of eight characters.
        assert!(text.starts_with("07070100000001000081ed"), "{text}");
        assert_eq!(&bytes[6 + 6 * 8..6 + 7 * 8], b"0000000a");
        assert_eq!(&bytes[6 + 11 * 8..6 + 12 * 8], b"00000005");
        assert_eq!(&bytes[110..116], b"init\0\0");
        assert_eq!(&bytes[116..126], b"#!/bin/sh\n");
        assert_eq!(&bytes[128..134], b"070701");
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
