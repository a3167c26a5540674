use std::time::Duration;

use tracer_common::probes::{Backend, Point};

use super::*;
use crate::model::State;

fn banner(coverage: &Coverage, style: Style) -> String {
    said(coverage, false, style)
}

fn said(coverage: &Coverage, verbose: bool, style: Style) -> String {
    let mut out = Vec::new();
    let start = Start { kernel: "6.18.5-cloud", took: Duration::from_micros(45_678), coverage, verbose };
    write_banner(&start, style, &mut out).unwrap();
    text(out)
}

fn all_refused(reason: impl Fn(Point) -> String) -> Coverage {
    let mut coverage = Coverage::default();
    for point in Point::ALL {
        coverage.set(*point, State::Refused(vec![samples::refusal(Backend::Fentry, &reason(*point))]));
    }
    coverage
}

#[test]
fn functions_probed() {
    insta::assert_snapshot!(banner(&samples::coverage(), style()));
}

#[test]
fn tracepoints_only() {
    insta::assert_snapshot!(banner(&samples::tracepoints_only(), style()));
}

#[test]
fn reasons_and_consequences_when_asked_for() {
    insta::assert_snapshot!(said(&samples::tracepoints_only(), true, style()));
}

/// What is a tracepoint whichever backend is asked for sees nothing by itself.
#[test]
fn a_backend_that_does_not_work_is_two_lines() {
    let mut coverage = samples::tracepoints_only();
    for point in Point::ALL.iter().filter(|point| point.row().functions().is_ok()) {
        coverage.set(*point, State::Refused(vec![samples::refusal(Backend::Kprobe, "no kprobes here")]));
    }
    insta::assert_snapshot!(banner(&coverage, style()));
}

#[test]
fn nothing_attached_for_one_reason_is_two_lines() {
    let coverage = all_refused(|_| "Operation not permitted\nverifier: …\n".to_owned());
    insta::assert_snapshot!(banner(&coverage, style()));
}

#[test]
fn nothing_attached_for_many_reasons() {
    let coverage = all_refused(|point| format!("unknown BTF type `{}`", point.row().hop));
    insta::assert_snapshot!(banner(&coverage, style()));
}

#[test]
fn colours() {
    insta::assert_snapshot!(
        banner(&samples::tracepoints_only(), Style { color: true, ..style() }).replace('\x1b', "␛")
    );
}

#[test]
fn nothing_to_attach() {
    insta::assert_snapshot!(banner(&Coverage::default(), style()));
}
