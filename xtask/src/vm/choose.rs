//! Choosing the newest point release among the names of a package list.

use super::kernels::{FLAVOUR, Kernel};

/// The full names of the kernel's packages, of the newest point release that has them all.
pub(super) fn newest<'a>(kernel: &Kernel, available: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let available: Vec<&str> = available.collect();
    let name = |package: &str, release: &str| format!("{package}-{}.{release}{FLAVOUR}", kernel.version);
    let first = format!("{}-{}.", kernel.packages.first()?, kernel.version);
    let mut releases: Vec<&str> = available
        .iter()
        .filter_map(|package| package.strip_prefix(&first)?.strip_suffix(FLAVOUR))
        .filter(|release| {
            kernel.packages.iter().all(|package| available.contains(&name(package, release).as_str()))
        })
        .collect();
    releases.sort_by_key(|release| numbers(release));
    let release = releases.pop()?;
    Some(kernel.packages.iter().map(|package| name(package, release)).collect())
}

/// The numbers in a release like `117+deb12`: they count, whatever stands between them.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The package names in what `apt-cache dumpavail` prints.
pub(super) fn names(dump: &str) -> impl Iterator<Item = &str> {
    dump.lines().filter_map(|line| line.strip_prefix("Package: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Kernel = Kernel { version: "6.1", suite: "s", packages: &["linux-image"] };

    #[test]
    fn the_newest_of_the_right_version_is_taken() {
        let dump = "Package: linux-image-6.1.0-9-cloud-amd64\nVersion: 1\n\nPackage: linux-image-6.1.0-56-cloud-amd64\n\
            Package: linux-image-6.1.0-99-cloud-amd64-unsigned\nPackage: linux-image-6.1.0-99-cloud-amd64-dbg\n\
            Package: linux-image-6.1.0-99-amd64\nPackage: linux-image-6.12.117+deb12-cloud-amd64\n\
            Package: linux-image-6.1-cloud-amd64\nPackage: linux-image-6.1.0-100-rt-amd64\n";
        assert_eq!(newest(&IMAGE, names(dump)), Some(vec!["linux-image-6.1.0-56-cloud-amd64".into()]));
        let kernel = Kernel { version: "6.12", ..IMAGE };
        assert_eq!(newest(&kernel, names(dump)), Some(vec!["linux-image-6.12.117+deb12-cloud-amd64".into()]));
        let kernel = Kernel { version: "5.10", ..IMAGE };
        assert_eq!(newest(&kernel, names(dump)), None);
    }

    #[test]
    fn a_release_that_lacks_a_package_is_passed_over() {
        let kernel = Kernel { version: "7.3", suite: "s", packages: &["linux-binary", "linux-modules"] };
        let names = [
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
            "linux-binary-7.3.11+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.12+deb13-cloud-amd64",
        ];
        let expected = ["linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64"];
        assert_eq!(newest(&kernel, names.into_iter()), Some(expected.map(String::from).to_vec()));
    }
}
