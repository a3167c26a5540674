//! `pathtrace compare`: TCP over loopback beside UNIX sockets, end to end and stage by stage.

mod baseline;
mod built_in;
mod cpus;
mod measure;
mod own;
mod pictures;
mod show;

use self::pictures::Pictures;
use super::{Failure, Outcome, trace::start_log};
use crate::cli::CompareArgs;

/// Compares and shows.
pub(super) fn compare(args: &CompareArgs) -> Result<Outcome, Failure> {
    start_log(args.engine.verbose);
    // Before minutes are spent on measuring.
    let former = args.baseline.as_deref().map(baseline::read).transpose()?;
    let pictures = Pictures::open(args)?;
    let (comparison, outcome) = if let (Some(port), Some(name)) = (&args.tcp, &args.unix) {
        own::compare(args, port, name)?
    } else {
        (built_in::compare(args)?, Outcome::Done)
    };
    // First the files: standard output may have no reader any more.
    pictures.draw(&comparison)?;
    show::show(args, &comparison).map_err(Failure::Output)?;
    match baseline::verdict(args, &comparison.sizes, former.as_deref())? {
        verdict if outcome == Outcome::Done => Ok(verdict),
        _ => Ok(outcome),
    }
}
