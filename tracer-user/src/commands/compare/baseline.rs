//! Holding a comparison against an earlier one.

use std::{fs::File, io::BufReader, path::Path};

use crate::{
    cli::CompareArgs,
    commands::{Failure, Outcome, say},
    comparison::{AtSize, Change, Former, changes},
    export::{comparison::Bytes, json},
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
    let changes = changes(sizes, former, &args.fail_if).map_err(|condition| Failure::Baseline {
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
    let worse = changes.iter().any(Change::is_regression);
    Ok(if worse { Outcome::Negative } else { Outcome::Done })
}

fn line(change: &Change) -> String {
    let former = &change.former;
    let bytes = former.bytes.map(|bytes| format!(" of {}", Bytes(bytes))).unwrap_or_default();
    format!(
        "{} {}{bytes}: {:.0} before, {:.0} now ({:+.1} %; condition: {})",
        former.link,
        former.metric.name(),
        former.value,
        change.now,
        change.percent(),
        change.condition
    )
}
