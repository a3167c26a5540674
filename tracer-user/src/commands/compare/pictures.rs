//! A comparison as a picture and as a page.

use std::{
    fs::{File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tempfile::NamedTempFile;

use crate::{
    cli::CompareArgs,
    commands::{Failure, prepare::command_line},
    comparison::Comparison,
    export::{
        comparison::Conclusion,
        picture::{Facts, write_html, write_svg},
    },
    kernel::features::Features,
    workload::Link,
};

/// How a comparison is written to a file.
type Form = fn(&Comparison, &Facts<'_>, &mut dyn Write) -> io::Result<()>;

/// The files that were asked for.
pub(super) struct Pictures(Vec<(PathBuf, Form)>);

impl Pictures {
    /// Looks whether they can be written: that must not be found out after minutes of measuring.
    pub(super) fn check(args: &CompareArgs) -> Result<Self, Failure> {
        let forms: [(_, Form); 2] = [(&args.svg, write_svg), (&args.html, write_html)];
        let asked: Vec<_> =
            forms.into_iter().filter_map(|(path, form)| Some((path.clone()?, form))).collect();
        if let [(svg, _), (html, _)] = asked.as_slice()
            && svg == html
        {
            let why = "it is the file of --html as well".to_owned();
            return Err(Failure::Value { option: "--svg", value: svg.display().to_string(), why });
        }
        for (path, _) in &asked {
            drop(Draft::of(path).map_err(|source| Failure::File {
                what: "create",
                path: path.clone(),
                source,
            })?);
        }
        Ok(Self(asked))
    }

    /// Writes them.
    pub(super) fn draw(self, comparison: &Comparison) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let kernel = format!("Linux {}", Features::running()?.release);
        let time = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        let conclusions: Vec<String> = comparison
            .sizes
            .iter()
            .map(|size| {
                let others = size.runs.iter().map(|run| run.link).filter(|link| *link != Link::Tcp);
                let each = others.map(|to| Conclusion { size, to }.to_string().trim_start().to_owned());
                each.collect::<Vec<_>>().join("\n")
            })
            .collect();
        let command = command_line();
        let facts = Facts { kernel: &kernel, time: &time, command: &command, conclusions: &conclusions };
        for (path, form) in self.0 {
            let written =
                Draft::of(&path).and_then(|draft| draft.fill(&path, |to| form(comparison, &facts, to)));
            written.map_err(|source| Failure::File { what: "write", path, source })?;
        }
        Ok(())
    }
}

/// A file that takes its place when it is whole; what was there stays until then.
enum Draft {
    Beside(NamedTempFile),
    /// No regular file: a terminal, a pipe.
    Itself(File),
}

impl Draft {
    fn of(path: &Path) -> io::Result<Self> {
        if path.exists() && !path.is_file() {
            return File::options().write(true).open(path).map(Self::Itself);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // As any other file of this user.
        let mode = Permissions::from_mode(0o666);
        let draft =
            tempfile::Builder::new().permissions(mode).tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Self::Beside(draft))
    }

    fn fill(self, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut filled = match &self {
            Self::Beside(draft) => BufWriter::new(draft.as_file()),
            Self::Itself(file) => BufWriter::new(file),
        };
        write(&mut filled)?;
        filled.flush()?;
        drop(filled);
        match self {
            Self::Beside(draft) => draft.persist(path).map(drop).map_err(|error| error.error),
            Self::Itself(_) => Ok(()),
        }
    }
}
