//! The machine's package sources: which mirrors of Debian it uses, and the keys that it trusts them by.
//!
//! Other suites are fetched from the same mirrors, so no address is written down here and machines that use a mirror
//! of their own keep to it.

use std::{fs, path::Path};

use anyhow::{Result, bail};

/// One entry of the package sources, as far as it is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    /// The value of `Signed-By`: a file, or a key over several lines.
    signed_by: Option<String>,
}

const CODENAMES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

impl Source {
    /// An entry for another suite from this mirror, in the format of `.sources` files.
    pub(super) fn entry(&self, suite: &str) -> String {
        let mut entry = format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\n", self.uri);
        if let Some(key) = &self.signed_by {
            entry.push_str("Signed-By: ");
            entry.push_str(key);
            entry.push('\n');
        }
        entry
    }

    /// Whether this is Debian's own archive, or with `security` its archive of security updates. Mirrors have any
    /// address; the suites are what gives them away.
    fn is_debian(&self, security: bool) -> bool {
        let suffix = if security { "-security" } else { "" };
        self.components.iter().any(|component| component == "main")
            && self
                .suites
                .iter()
                .any(|suite| suite.strip_suffix(suffix).is_some_and(|suite| CODENAMES.contains(&suite)))
    }
}

/// The mirror of the machine that has the suite.
pub(super) fn mirror_for(suite: &str) -> Result<Source> {
    let folder = Path::new("/etc/apt");
    let mut files = vec![folder.join("sources.list")];
    files.extend(
        fs::read_dir(folder.join("sources.list.d")).into_iter().flatten().flatten().map(|f| f.path()),
    );
    let mut sources = Vec::new();
    for file in files {
        // Files with other endings are ignored by apt as well.
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => parse_sections,
            Some("list") => parse_lines,
            _ => continue,
        };
        sources.extend(parse(&fs::read_to_string(&file).unwrap_or_default()));
    }
    let security = suite.ends_with("-security");
    match sources.into_iter().find(|source| source.is_debian(security)) {
        Some(source) => Ok(source),
        None => {
            bail!("no Debian {}mirror in /etc/apt/sources.list*", if security { "security " } else { "" })
        }
    }
}

/// The format of `.sources` files: paragraphs of fields.
fn parse_sections(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).filter_map(parse_section).collect()
}

fn parse_section(lines: &[&str]) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(':')?;
            fields.push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words =
        |name| field(name).unwrap_or_default().split_whitespace().map(String::from).collect::<Vec<_>>();
    let enabled = field("enabled").is_none_or(|value| value != "no");
    let binary = words("types").iter().any(|kind| kind == "deb");
    (enabled && binary).then_some(())?;
    Some(Source {
        uri: words("uris").into_iter().next()?,
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(String::from),
    })
}

/// The format of `.list` files: `deb [options] URI suite component…`.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(String::from);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.map(String::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTIONS: &str = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\
        Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";

    #[test]
    fn sections_are_read() {
        let sources = parse_sections(SECTIONS);
        assert_eq!(sources.len(), 2);
        assert!(sources[0].is_debian(false) && !sources[0].is_debian(true));
        assert!(sources[1].is_debian(true) && !sources[1].is_debian(false));
        assert_eq!(
            sources[0].entry("trixie-backports"),
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n\
            Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        let entry = sources[1].entry("bullseye-security");
        assert!(entry.ends_with("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"), "{entry}");
    }

    #[test]
    fn sections_that_are_switched_off_or_for_sources_do_not_count() {
        assert_eq!(
            parse_sections("Enabled: no\nTypes: deb\nURIs: u\nSuites: bookworm\nComponents: main\n"),
            []
        );
        assert_eq!(parse_sections("Types: deb-src\nURIs: u\nSuites: bookworm\nComponents: main\n"), []);
        assert_eq!(parse_sections("nonsense\n"), []);
    }

    #[test]
    fn lines_are_read() {
        let text = "# deb http://old.example/debian buster main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main contrib # here\n\
            deb-src http://mirror.example/debian trixie main\n\
            deb http://mirror.example/security trixie-security main\n";
        let sources = parse_lines(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].signed_by.as_deref(), Some("/k.gpg"));
        assert!(sources[0].is_debian(false));
        assert!(sources[1].is_debian(true));
    }

    #[test]
    fn other_vendors_are_no_debian_mirrors() {
        let text = "deb http://other.example/linux/debian bookworm stable\n\
            deb http://other.example/apt cloud-sdk-bookworm main\ndeb http://other.example/ubuntu noble main\n";
        assert!(parse_lines(text).iter().all(|source| !source.is_debian(false) && !source.is_debian(true)));
    }
}
