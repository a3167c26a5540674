//! A comparison as a picture and as a page.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::PathBuf,
};

use jiff::Timestamp;

use crate::{
    cli::CompareArgs,
    commands::{Failure, trace::command_line},
    comparison::Comparison,
    export::{
        comparison::Conclusion,
        picture::{Facts, write_html, write_svg},
    },
    kernel::features::Features,
    workload::Link,
};

/// How a comparison is written to a file.
type Form = fn(&Comparison, &Facts<'_>, BufWriter<File>) -> io::Result<()>;

/// The files that were asked for, open: one that cannot be written must not be found out after minutes of measuring.
pub(super) struct Pictures(Vec<(PathBuf, File, Form)>);

impl Pictures {
    /// Opens them.
    pub(super) fn open(args: &CompareArgs) -> Result<Self, Failure> {
        let forms: [(_, Form); 2] = [(&args.svg, write_svg), (&args.html, write_html)];
        let asked = forms.into_iter().filter_map(|(path, form)| Some((path.as_ref()?, form)));
        let opened = asked.map(|(path, form)| match File::create(path) {
            Ok(file) => Ok((path.clone(), file, form)),
            Err(source) => Err(Failure::File { what: "create", path: path.clone(), source }),
        });
        opened.collect::<Result<_, _>>().map(Self)
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
        for (path, file, form) in self.0 {
            form(comparison, &facts, BufWriter::new(file)).map_err(|source| Failure::File {
                what: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }
}
