//! Holding a comparison against an earlier one.

use std::{fs::File, io::BufReader, path::Path};

use crate::{
    cli::CompareArgs,
    commands::{Failure, Outcome, say},
    comparison::{AtSize, Change, Former, Held, Metric, hold},
    export::{comparison::Bytes, json},
    workload::Link,
};

/// Reads the figures of an earlier comparison.
pub(super) fn read(path: &Path) -> Result<Vec<Former>, Failure> {
    let file =
        File::open(path).map_err(|source| Failure::File { what: "open", path: path.to_owned(), source })?;
    json::read_former(BufReader::new(file)).map_err(|why| Failure::Baseline { path: path.to_owned(), why })
}

/// Says which conditions hold, and how the verb ends because of that.
pub(super) fn verdict(
    args: &CompareArgs,
    sizes: &[AtSize],
    former: Option<&[Former]>,
) -> Result<Outcome, Failure> {
    let (Some(former), Some(path)) = (former, &args.baseline) else { return Ok(Outcome::Done) };
    let Held { changes, new, gone } =
        hold(sizes, former, &args.fail_if).map_err(|condition| Failure::Baseline {
            path: path.clone(),
            why: format!("it has no figure that {condition} can be held against"),
        })?;
    for change in &changes {
        if change.is_regression() {
            say(&format!("pathtrace: REGRESSION: {}\n", line(change)));
        } else if !args.engine.quiet {
            say(&format!("pathtrace: ok: {}\n", line(change)));
        }
    }
    for (link, bytes, metric) in &new {
        let figure = figure(*link, *metric, *bytes);
        say(&format!("pathtrace: not held against anything, as the baseline does not have it: {figure}\n"));
    }
    for former in &gone {
        let figure = figure(former.link, former.metric, former.bytes);
        say(&format!("pathtrace: only the baseline has it: {figure}\n"));
    }
    Ok(match (changes.iter().any(Change::is_regression), gone.is_empty()) {
        (true, _) => Outcome::Negative,
        (false, false) => Outcome::Unknown,
        (false, true) => Outcome::Done,
    })
}

fn figure(link: Link, metric: Metric, bytes: Option<u32>) -> String {
    let bytes = bytes.map(|bytes| format!(" of {}", Bytes(bytes))).unwrap_or_default();
    format!("{link} {}{bytes}", metric.name())
}

fn line(change: &Change) -> String {
    let former = &change.former;
    format!(
        "{}: {:.0} before, {:.0} now ({:+.1} %; condition: {})",
        figure(former.link, former.metric, former.bytes),
        former.value,
        change.now,
        change.percent(),
        change.condition
    )
}
