//! Kernel modules for the guest. None is loaded by itself; tests that need one run `insmod /modules/NAME.ko`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// What tests of real networks need, in the order in which they depend on each other.
const MODULES: [&str; 7] = ["veth", "dummy", "llc", "stp", "bridge", "sch_tbf", "sch_netem"];

/// Names more modules, separated by commas or spaces.
const VARIABLE: &str = "PATHTRACE_VM_EXTRA";

/// The file name if this is a module of the network code, which is all that is kept of a package.
pub(super) fn network_module(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    let path = file.to_str()?;
    let network = path.contains("/kernel/net/") || path.contains("/kernel/drivers/net/");
    let (_, ending) = name.split_once(".ko")?;
    (network && (ending.is_empty() || ending.starts_with('.'))).then_some(name)
}

/// The modules to put into the guest, as (name, content). One of the list in this file that the kernel lacks (some
/// have it built in) is left out; one that the user asked for must be there.
pub(super) fn load(folder: &Path, extra: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let variable = env::var(VARIABLE).unwrap_or_default();
    let words = variable.split([',', ' ']).filter(|word| !word.is_empty()).map(String::from);
    let mut modules = Vec::new();
    for name in MODULES {
        if let Some(file) = find(folder, name) {
            modules.push((name.to_owned(), read(&file)?));
        }
    }
    for name in words.chain(extra.iter().cloned()) {
        let Some(file) = find(folder, &name) else {
            bail!("the kernel's network modules in {} have no `{name}`", folder.display());
        };
        modules.push((name, read(&file)?));
    }
    Ok(modules)
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    ["ko", "ko.xz", "ko.zst", "ko.gz"]
        .iter()
        .map(|ending| folder.join(format!("{name}.{ending}")))
        .find(|file| file.is_file())
}

/// The module's content, decompressed: not every kernel can do that by itself.
fn read(file: &Path) -> Result<Vec<u8>> {
    let tool: &[&str] = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => &["busybox", "unxz", "-c"],
        Some("gz") => &["busybox", "gunzip", "-c"],
        Some("zst") => &["zstd", "-dc"],
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let output = Command::new(tool[0])
        .args(&tool[1..])
        .arg(file)
        .output()
        .with_context(|| format!("cannot start {} to decompress a kernel module", tool[0]))?;
    if !output.status.success() {
        bail!("cannot decompress {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_network_modules_are_kept() {
        let name = |path| network_module(Path::new(path));
        assert_eq!(name("/x/lib/modules/6.1/kernel/drivers/net/veth.ko"), Some("veth.ko"));
        assert_eq!(name("/x/usr/lib/modules/7.3/kernel/net/bridge/bridge.ko.xz"), Some("bridge.ko.xz"));
        assert_eq!(name("/x/lib/modules/6.1/kernel/fs/ext4/ext4.ko"), None);
        assert_eq!(name("/x/lib/modules/6.1/kernel/net/modules.order"), None);
    }
}
