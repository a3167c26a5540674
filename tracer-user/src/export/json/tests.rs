use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    analyze::{LatencyTable, Summary, arbitrary, samples},
    model::{Coverage, Losses, Path, Trust},
};

fn line(path: &Path) -> String {
    let mut out = Vec::new();
    let lines = PathLines::new(&samples::coverage(), samples::REALTIME_OFFSET_NS);
    lines.write(path, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn summary_line(coverage: &Coverage) -> String {
    let mut table = LatencyTable::default();
    for path in samples::all() {
        table.add(&path);
    }
    let summary = Summary { table: &table, trust: &samples::trust(), coverage };
    let mut out = Vec::new();
    write_summary(&summary, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn paths() {
    insta::assert_snapshot!(samples::all().iter().map(line).collect::<String>());
}

#[test]
fn hostile_names() {
    insta::assert_snapshot!(line(&samples::hostile()) + &line(&Path { unix: None, ..samples::hostile() }));
}

#[test]
fn summary() {
    insta::assert_snapshot!(summary_line(&samples::coverage()) + &summary_line(&samples::tracepoints_only()));
}

#[test]
fn an_empty_run_has_a_summary() {
    let summary = Summary {
        table: &LatencyTable::default(),
        trust: &Trust { losses: Some(Losses::default()), duration_ns: Some(0), ..Trust::default() },
        coverage: &Coverage::default(),
    };
    let mut out = Vec::new();
    write_summary(&summary, &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn what_is_unknown_is_null() {
    let summary =
        Summary { table: &LatencyTable::default(), trust: &Trust::default(), coverage: &Coverage::default() };
    let mut out = Vec::new();
    write_summary(&summary, &mut out).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    for key in ["lost", "missed", "duration_ns", "own_cost", "audit"] {
        assert_eq!(value.get(key), Some(&Value::Null), "{key}");
    }
}

proptest! {
    #[test]
    fn any_path_is_one_line_of_json_that_steers_no_terminal(path in arbitrary::path()) {
        let line = line(&path);
        let body = line.strip_suffix('\n').unwrap();
        prop_assert!(!body.contains(char::is_control), "{body:?}");
        let value: Value = serde_json::from_str(body).unwrap();
        prop_assert_eq!(&value["schema"], SCHEMA);
        prop_assert_eq!(&value["total_ns"], path.total_ns());
        prop_assert_eq!(value["hops"].as_array().map(Vec::len), Some(path.hops.len()));
        prop_assert_eq!(&value["complete"], path.incomplete.is_none());
        prop_assert_eq!(value["incomplete_reason"].is_null(), path.incomplete.is_none());
    }
}

fn diagnosis_line(diagnosis: &crate::diagnosis::Diagnosis) -> String {
    let mut out = Vec::new();
    write_diagnosis(diagnosis, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn diagnoses() {
    use crate::diagnosis::samples::{functions, tracepoints_only, unprivileged};
    let lines = [functions(), tracepoints_only(), unprivileged()].map(|sample| diagnosis_line(&sample));
    insta::assert_snapshot!(lines.concat());
}

#[test]
fn a_problem_is_in_the_diagnosis_and_makes_it_not_ok() {
    let value: Value =
        serde_json::from_str(&diagnosis_line(&crate::diagnosis::samples::unprivileged())).unwrap();
    assert_eq!(value["ok"], false);
    assert_eq!(value["not_tried"], "privilege");
    assert_eq!(value["problems"].as_array().map(Vec::len), Some(1));
}

#[test]
fn verdicts() {
    use crate::proof::samples::proof;
    let proof = proof();
    let mut out = Vec::new();
    for (case, verdict) in proof.verdicts() {
        write_verdict(&proof, case, &verdict, &mut out).unwrap();
    }
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}
