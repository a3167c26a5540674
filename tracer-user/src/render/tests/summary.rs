use super::*;
use crate::model::{Audit, Cost, Losses, Sample};

#[test]
fn table_and_trust_line() {
    let (all, trust) = (samples::all(), samples::trust());
    insta::assert_snapshot!(summary_of(&all, &trust, &samples::coverage(), style()));
}

#[test]
fn colours() {
    let trust = Trust { losses: Some(Losses { hops: 3, others: 0, missed: Some(1) }), ..samples::trust() };
    let style = Style { color: true, ..style() };
    let text = summary_of(&[samples::unix()], &trust, &samples::coverage(), style);
    insta::assert_snapshot!(text.replace('\x1b', "␛"));
}

#[test]
fn nothing_seen() {
    let coverage = samples::tracepoints_only();
    let trust = Trust { losses: Some(Losses::default()), duration_ns: Some(0), ..Trust::default() };
    insta::assert_snapshot!(summary_of(&[], &trust, &coverage, style()));
}

#[test]
fn losses_of_every_kind() {
    let losses = Some(Losses { hops: 40, others: 2, missed: Some(7) });
    let trust =
        Trust { losses, malformed: 1, cut_off: 12, too_short: 240, filtered_out: 17, ..samples::trust() };
    insta::assert_snapshot!(summary_of(&[], &trust, &samples::coverage(), style()));
}

/// The last line after a run that cost this, and whose accounts are these.
fn trust_line(cost: Cost, audit: Option<Audit>) -> String {
    let trust = Trust { cost, audit, ..samples::trust() };
    let text = summary_of(&[], &trust, &samples::coverage(), style());
    text.lines().last().unwrap().to_owned()
}

#[test]
fn own_cost_and_accounts() {
    let ran = |run_ns, runs, events| Cost::Sampled(Sample { run_ns, runs, events, observed_ns: 543_000_000 });
    let sampled = |run_ns, events| ran(run_ns, Some(events), events);
    let audit = Audit { fired: 18_500, taken: 18_497, lost: 3, unexplained: 0 };
    let wrong = Audit { lost: 2, unexplained: 1, ..audit };
    let lines = [
        trust_line(Cost::NotAsked, None),
        trust_line(Cost::Refused, None),
        trust_line(sampled(0, 0), None),
        trust_line(sampled(142_000, 1000), None),
        trust_line(ran(91_000_000, Some(1_500_000), 1000), None),
        trust_line(ran(91_000_000, Some(1_500_000), 0), None),
        trust_line(ran(91_000_000, None, 1000), None),
        trust_line(sampled(9_000, 1000), Some(audit)),
        trust_line(Cost::NotAsked, Some(wrong)),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn unknown_losses_are_said_to_be_unknown() {
    let trust = Trust { events: 12, ..Trust::default() };
    let text = summary_of(&[], &trust, &samples::coverage(), style());
    assert!(text.contains("12 events, lost: unknown (recording cut off), paths: "), "{text}");
    assert!(!text.contains("0 lost") && !text.contains("traced"), "{text}");
}

#[test]
fn a_summary_after_paths_stands_apart() {
    let mut table = LatencyTable::default();
    table.add(&samples::unix());
    let (trust, coverage) = (samples::trust(), samples::coverage());
    let summary = Summary { table: &table, trust: &trust, coverage: &coverage };
    for format in [Format::Table, Format::Tree] {
        let mut out = Vec::new();
        let mut writer = writer(format, style(), &coverage);
        writer.path(&samples::unix(), &mut out).unwrap();
        writer.summary(&summary, &mut out).unwrap();
        assert_eq!(text(out).matches("\n\n").count(), 2);
    }
    let mut out = Vec::new();
    let mut writer = SummaryOnly(writer(Format::Json, style(), &coverage));
    writer.path(&samples::unix(), &mut out).unwrap();
    writer.summary(&summary, &mut out).unwrap();
    assert_eq!(text(out).lines().count(), 1);
}
