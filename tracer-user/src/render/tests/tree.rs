use super::*;

#[test]
fn a_line_for_each_hop() {
    insta::assert_snapshot!(paths(Format::Tree, style(), &samples::all()));
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
