//! `pathtrace report`: a recording, through the same correlator and the same output as live tracing.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::{
    Failure, Outcome,
    output::{self, Place},
    reserved::is_same,
    say,
    trace::what_follows_from,
    wanted::wanted_of_recording,
};
use crate::{
    cli::ReportArgs,
    filter::Selection,
    session::{Session, Shown},
    store::{Frame, Reader, StoreError},
};

/// The name of a file that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Records between two looks at what has ended.
const BATCH: u64 = 4096;

/// Shows a recording. What stands before a cut or a damage is shown, and then the damage is an error.
pub(super) fn report(args: &ReportArgs) -> Result<Outcome, Failure> {
    let selection = Selection::new(wanted_of_recording(&args.filters)?)?;
    let is_file = args.read != Path::new(STANDARD_INPUT);
    if is_file && args.output.output.as_deref().is_some_and(|output| is_same(output, &args.read)) {
        let source = io::Error::other("it is the recording");
        return Err(Failure::File { what: "create", path: args.read.clone(), source });
    }
    let store = |source| Failure::Store { name: name_of(&args.read), source };
    let mut reader = Reader::new(BufReader::with_capacity(1 << 20, open(&args.read)?)).map_err(store)?;
    let coverage = reader.coverage();
    let output =
        output::open(&args.output, Place::of(&args.output)?, &coverage, reader.header().realtime_offset_ns)?;
    // What was still on its way when the recording had its number of paths was recorded, too, but not asked for.
    let first = reader.header().count;
    let shown = Shown { count: args.count, first, selection, min_ns: args.output.min_ns() };
    let mut session = Session::new(coverage, output, shown);
    let mut records = 0;
    let mut damage: Option<StoreError> = None;
    let mut footer = None;
    // To the end even if enough paths have been shown: what was lost stands there.
    loop {
        match reader.next_frame() {
            Ok(Frame::Record(record)) => {
                session.record(record);
                records += 1;
                if records % BATCH == 0 {
                    session.show().map_err(Failure::Output)?;
                }
            }
            Ok(Frame::Close(time_ns)) => session.close(time_ns),
            Ok(Frame::Footer(end)) => {
                footer = Some(end);
                break;
            }
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    session.show().map_err(Failure::Output)?;
    let lost = footer.map_or(0, |footer| footer.losses.lost());
    if lost > 0 {
        say(&format!("pathtrace: {}", what_follows_from(lost)));
    }
    let trust = session.finish(footer).map_err(Failure::Output)?;
    match damage {
        Some(damage) => Err(store(damage)),
        None if args.strict && !trust.is_perfect() => Ok(Outcome::Negative),
        None => Ok(Outcome::Done),
    }
}

/// `-` stands for standard input: a recording is read from beginning to end, once.
fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let failure = |source| Failure::File { what: "open", path: path.to_owned(), source };
    Ok(Box::new(File::open(path).map_err(failure)?))
}

fn name_of(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { path.display().to_string() }
}
