use super::*;

#[test]
fn full_names_where_there_is_room() {
    insta::assert_snapshot!(paths(Format::Table, style(), &samples::all()));
}

#[test]
fn short_names_on_a_terminal() {
    let style = Style { width: Some(160), ..style() };
    insta::assert_snapshot!(paths(Format::Table, style, &samples::all()));
}

#[test]
fn times_since_the_first_hop() {
    let style = Style { time: TimeFormat::Relative, ..style() };
    insta::assert_snapshot!(paths(Format::Table, style, &[samples::tcp_data(), samples::ipv6()]));
}

#[test]
fn times_of_day() {
    let style = Style { time: TimeFormat::Absolute, ..style() };
    insta::assert_snapshot!(paths(Format::Table, style, &[samples::tcp_data()]));
}

#[test]
fn colours() {
    let style = Style { color: true, width: Some(160), ..style() };
    let paths = paths(Format::Table, style, &[samples::syn(), samples::incomplete()]);
    insta::assert_snapshot!(paths.replace('\x1b', "␛"));
}

#[test]
fn a_path_that_widens_a_column_leaves_it_wide() {
    let lines = paths(Format::Table, style(), &[samples::incomplete(), samples::reset()]);
    let columns: Vec<usize> =
        lines.lines().skip(1).map(|line| line.chars().take_while(|c| *c != '[').count()).collect();
    assert_eq!(columns[0], columns[1], "{lines}");
}
