//! What both kinds of pictures tell, and in which order.

use super::{
    Facts,
    drawing::Drawing,
    figures::{self, Table},
    latency, ledger, stages,
    text::lines,
    ways,
};
use crate::{
    analyze::Summary,
    comparison::{AtSize, Comparison, Cpus},
    render::{Style, write_trust},
};

/// What is told about messages of one size.
pub(super) struct Chapter {
    pub(super) heading: String,
    /// Lines from outside; may be empty.
    pub(super) conclusion: String,
    pub(super) figures: Table,
    pub(super) drawings: Vec<Drawing>,
}

/// The title of all.
pub(super) fn title(comparison: &Comparison) -> String {
    let mut links: Vec<_> = comparison.sizes.iter().flat_map(|at| &at.runs).map(|run| run.link).collect();
    links.sort_unstable();
    links.dedup();
    let names: Vec<_> = links.iter().map(ToString::to_string).collect();
    match names.split_last() {
        None => "Nothing was compared".to_owned(),
        Some((last, [])) => format!("What {last} costs"),
        Some((last, others)) => format!("{} and {last}, side by side", others.join(", ")),
    }
}

/// A chapter for each size.
pub(super) fn chapters(comparison: &Comparison, facts: &Facts<'_>) -> Vec<Chapter> {
    let chapter = |(at, size): (usize, &AtSize)| Chapter {
        heading: figures::heading(size),
        conclusion: facts.conclusions.get(at).cloned().unwrap_or_default(),
        figures: figures::table(size),
        drawings: [stages::draw(size), ledger::draw(size), latency::draw(size), ways::draw(size)]
            .into_iter()
            .flatten()
            .collect(),
    };
    comparison.sizes.iter().enumerate().map(chapter).collect()
}

/// How all of it came to be, and how far to believe it: what, and what is said of it.
pub(super) fn evidence(comparison: &Comparison, facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let mut evidence = vec![
        ("measured", facts.time.to_owned()),
        ("kernel", facts.kernel.to_owned()),
        ("command", facts.command.to_owned()),
        ("CPUs", cpus(comparison.cpus)),
        ("trust", trust(comparison)),
    ];
    let left_out = |(link, why): &(_, String)| ("left out", format!("{link}: {why}"));
    evidence.extend(comparison.left_out.iter().map(left_out));
    evidence.into_iter().map(|(what, says)| (what, lines(&says).join(" "))).collect()
}

fn cpus(cpus: Cpus) -> String {
    let cpu = |cpu: Option<usize>| cpu.map_or_else(|| "any".to_owned(), |cpu| cpu.to_string());
    format!("client {}, server {}, pathtrace {}", cpu(cpus.client), cpu(cpus.server), cpu(cpus.tracer))
}

fn trust(comparison: &Comparison) -> String {
    let Comparison { latencies, trust, coverage, .. } = comparison;
    let summary = Summary { table: latencies, trust, coverage };
    let mut line = Vec::new();
    match write_trust(&summary, Style::default(), &mut line) {
        Ok(()) => String::from_utf8_lossy(&line).into_owned(),
        Err(error) => error.to_string(),
    }
}
