use std::time::Duration;

use tracer_common::probes::{Backend, Point};

use super::*;
use crate::model::State;

fn banner(coverage: &Coverage, style: Style) -> String {
    let mut out = Vec::new();
    let start = Start { kernel: "6.18.5-cloud", took: Duration::from_micros(45_678), coverage };
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
fn nothing_attached_for_one_reason_is_two_lines() {
    let coverage = all_refused(|_| "Operation not permitted\nverifier: …\n".to_owned());
    insta::assert_snapshot!(banner(&coverage, style()));
}

#[test]
fn nothing_attached_for_many_reasons() {
    let coverage = all_refused(|point| format!("unknown BTF type `{}`", point.row().functions[0]));
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
