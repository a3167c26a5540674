//! `pathtrace compare`: TCP over loopback beside UNIX sockets, end to end and stage by stage.

mod baseline;
mod built_in;
mod cpus;
mod measure;
mod own;
mod show;

use super::{Failure, Outcome, trace::start_log};
use crate::cli::CompareArgs;

/// Compares and shows.
pub(super) fn compare(args: &CompareArgs) -> Result<Outcome, Failure> {
    start_log(args.engine.verbose);
    // Before minutes are spent on measuring.
    let former = args.baseline.as_deref().map(baseline::read).transpose()?;
    if let (Some(port), Some(name)) = (&args.tcp, &args.unix) {
        return own::compare(args, port, name, former.as_deref());
    }
    let comparison = built_in::compare(args)?;
    show::show(args, &comparison).map_err(Failure::Output)?;
    baseline::verdict(args, &comparison.sizes, former.as_deref())
}
