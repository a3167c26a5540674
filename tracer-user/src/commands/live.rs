//! `pathtrace` without a verb, and `pathtrace record`.

use std::io::{self, BufWriter};

use super::{
    Failure, Outcome,
    output::{self, Place},
    prepare::prepare,
    recording::Blank,
    trace::trace,
    wanted::wanted,
};
use crate::{
    cli::{LiveArgs, RecordArgs, TraceArgs},
    filter::Filter,
    render::{LineWriter, Style, SummaryOnly},
    session::Output,
};

/// Traces and shows.
pub(super) fn live(args: &LiveArgs) -> Result<Outcome, Failure> {
    let filter = filter_of(&args.trace)?;
    prepare(&args.trace, args.output.output.as_deref())?;
    let place = Place::of(&args.output)?;
    let open = |coverage: &_, offset| output::open(&args.output, place, coverage, offset);
    trace(&args.trace, filter, args.output.min_ns(), open, None)
}

/// Traces, writes what the kernel sent to a file, and shows the summary.
pub(super) fn record(args: &RecordArgs) -> Result<Outcome, Failure> {
    let filter = filter_of(&args.trace)?;
    prepare(&args.trace, Some(&args.write))?;
    let blank = Blank::open(&args.write)?;
    let open = |coverage: &_, _| {
        let writer = Box::new(SummaryOnly(LineWriter::new(Style::default(), coverage)));
        Ok(Output { writer, to: Box::new(BufWriter::new(io::stdout())), is_stdout: true })
    };
    trace(&args.trace, filter, 0, open, Some(blank))
}

fn filter_of(args: &TraceArgs) -> Result<Filter, Failure> {
    Ok(Filter::new(wanted(&args.filters)?)?)
}
