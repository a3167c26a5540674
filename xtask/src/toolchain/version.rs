//! Reading version numbers out of what compilers and package tools print.

/// The major version of LLVM that a compiler was built with, from `rustc -vV`.
pub(super) fn llvm_major(rustc_version: &str) -> Option<u32> {
    let line = rustc_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.trim().split('.').next()?.parse().ok()
}

/// A compiler's release as (major, minor), from `rustc -vV`.
pub(super) fn release(rustc_version: &str) -> Option<(u32, u32)> {
    major_minor(rustc_version.lines().find_map(|line| line.strip_prefix("release: "))?)
}

/// The first two numbers of a version like `1.96.0+dfsg1-1~deb12u2`, an epoch left out.
pub(super) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let version = version.trim();
    let version = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_llvm_version_is_read() {
        assert_eq!(llvm_major(DEBIAN), Some(22));
        assert_eq!(llvm_major("release: 1.88.0-nightly\nLLVM version: 20\n"), Some(20));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
    }

    #[test]
    fn the_release_is_read() {
        assert_eq!(release(DEBIAN), Some((1, 96)));
        assert_eq!(release("release: 1.97.0-nightly"), Some((1, 97)));
        assert_eq!(release(""), None);
    }

    #[test]
    fn package_versions_are_read() {
        assert_eq!(major_minor("1.85.0+dfsg3-1~deb12u3"), Some((1, 85)));
        assert_eq!(major_minor("1:22.1.8-1~deb12u1"), Some((22, 1)));
        assert_eq!(major_minor("(none)"), None);
    }
}
