//! `pathtrace compare`: TCP over loopback beside UNIX sockets, end to end and stage by stage.

mod baseline;
mod built_in;
mod cpus;
mod measure;
mod own;
mod pictures;
mod show;

use self::pictures::Pictures;
use super::{
    Failure, Outcome,
    prepare::{check_privileges, start_log},
};
use crate::{cli::CompareArgs, kernel::features::Features};

/// Compares and shows.
pub(super) fn compare(args: &CompareArgs) -> Result<Outcome, Failure> {
    start_log(args.engine.verbose);
    check_privileges(&Features::running()?)?;
    // Before minutes are spent on measuring.
    let former = args.baseline.as_deref().map(baseline::read).transpose()?;
    let pictures = Pictures::check(args)?;
    let (comparison, outcome) = if let (Some(port), Some(name)) = (&args.tcp, &args.unix) {
        own::compare(args, port, name)?
    } else {
        (built_in::compare(args)?, Outcome::Done)
    };
    // Whatever cannot be written, or has no reader any more: the verdict is said, and is the exit status.
    let verdict = baseline::verdict(args, &comparison.sizes, former.as_deref());
    let drawn = pictures.draw(&comparison);
    let shown = show::show(args, &comparison).map_err(Failure::Output);
    match (outcome, verdict?) {
        (Outcome::Done, Outcome::Done) => drawn.and(shown).map(|()| Outcome::Done),
        (Outcome::Done, worse) => Ok(worse),
        (outcome, _) => Ok(outcome),
    }
}
