//! Where a comparison goes.

use std::io::{self, IsTerminal as _, Write as _};

use crate::{
    analyze::Summary,
    cli::CompareArgs,
    commands::output::{is_colored, width_of_terminal},
    comparison::Comparison,
    export::json,
    render::{Style, write_comparison, write_trust},
};

/// Writes it to standard output.
pub(super) fn show(args: &CompareArgs, comparison: &Comparison) -> io::Result<()> {
    let summary =
        Summary { table: &comparison.latencies, trust: &comparison.trust, coverage: &comparison.coverage };
    let mut text = Vec::new();
    if args.json {
        json::write_comparison(comparison, &mut text)?;
        json::write_summary(&summary, &mut text)?;
    } else {
        let is_terminal = io::stdout().is_terminal();
        let width = is_terminal.then(width_of_terminal).flatten();
        let style = Style { color: is_colored(is_terminal), width, ..Style::default() };
        write_comparison(comparison, args.engine.quiet, style, &mut text)?;
        write_trust(&summary, style, &mut text)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush())
}
