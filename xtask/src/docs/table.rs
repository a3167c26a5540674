//! Which kernel has a hop by which backend, and why others have not.

use std::fmt::Write as _;

use tracer_common::probes::Backend;

use super::{
    kernels::{Answer, Kernel, Kernels},
    row::{Row, Way},
};

/// The table of one hop, with the reasons behind it.
pub(super) fn table(row: &Row, kernels: &Kernels) -> String {
    let mut text = String::from("| kernel | fentry | kprobe | tracepoint |\n|---|---|---|---|\n");
    for kernel in &kernels.kernels {
        let _ = write!(text, "| {} (`{}`) |", kernel.version(), kernel.release);
        for backend in Backend::ALL {
            let _ = write!(text, " {} |", cell(row, kernel, backend));
        }
        text.push('\n');
    }
    let refusals = refusals(row, kernels);
    if !refusals.is_empty() {
        text.push_str("\nWhat the kernels say where they refuse:\n\n");
        for Refusals { backend, reason, versions } in refusals {
            let _ = writeln!(text, "- {} on {}: {reason}", backend.name(), versions.join(", "));
        }
    }
    text
}

fn cell(row: &Row, kernel: &Kernel, backend: Backend) -> String {
    match kernel.answer(row.hop, backend) {
        _ if is_absent(row, backend) => "none".into(),
        Some(Answer::Function(function)) => format!("`{function}`"),
        Some(Answer::Refused(_)) => "refused".into(),
        None => "not measured".into(),
    }
}

/// Whether the probe table itself has nothing for a backend.
fn is_absent(row: &Row, backend: Backend) -> bool {
    matches!(row.way(backend), Way::Nowhere(_))
}

/// One answer of a backend, and who gave it.
struct Refusals<'a> {
    backend: Backend,
    reason: &'a str,
    versions: Vec<&'a str>,
}

fn refusals<'a>(row: &Row, kernels: &'a Kernels) -> Vec<Refusals<'a>> {
    let mut found: Vec<Refusals<'a>> = Vec::new();
    for backend in Backend::ALL.into_iter().filter(|backend| !is_absent(row, *backend)) {
        for kernel in &kernels.kernels {
            let Some(Answer::Refused(reason)) = kernel.answer(row.hop, backend) else { continue };
            // The rest, if any, is the verifier's log.
            let reason = reason.trim().lines().next().unwrap_or_default();
            match found.iter_mut().find(|other| other.backend == backend && other.reason == reason) {
                Some(same) => same.versions.push(kernel.version()),
                None => found.push(Refusals { backend, reason, versions: vec![kernel.version()] }),
            }
        }
    }
    found
}

/// The backends by which a kernel has a hop, by their first letters: `F K T`.
pub(super) fn letters(row: &Row, kernel: &Kernel) -> String {
    let has = |backend: &Backend| matches!(kernel.answer(row.hop, *backend), Some(Answer::Function(_)));
    let letter = |backend: Backend| backend.name()[..1].to_ascii_uppercase();
    let letters: Vec<_> = Backend::ALL.into_iter().filter(has).map(letter).collect();
    if letters.is_empty() { "–".into() } else { letters.join(" ") }
}
