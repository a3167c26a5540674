use tracer_common::probes::PROBES;

use super::*;
use crate::render::tree::HOP;

#[test]
fn a_line_for_each_hop() {
    insta::assert_snapshot!(paths(Format::Tree, style(), &samples::all()));
}

#[test]
fn the_column_of_hops_is_as_wide_as_the_longest() {
    assert_eq!(PROBES.iter().map(|row| row.hop.len()).max(), Some(HOP));
}

#[test]
fn times_of_day() {
    let style = Style { time: TimeFormat::Absolute, ..style() };
    insta::assert_snapshot!(paths(Format::Tree, style, &[samples::syn()]));
}

#[test]
fn colours() {
    let style = Style { color: true, ..style() };
    insta::assert_snapshot!(
        paths(Format::Tree, style, &[samples::syn(), samples::incomplete()]).replace('\x1b', "␛")
    );
}

#[test]
fn what_is_not_attached_has_no_function() {
    let mut out = Vec::new();
    TreeWriter::new(style(), &Coverage::default()).path(&samples::two_hops(700), &mut out).unwrap();
    insta::assert_snapshot!(text(out));
}
