//! No name and no number breaks what is printed.

use proptest::prelude::*;

use super::*;
use crate::analyze::arbitrary;

const FORMATS: [Format; 3] = [Format::Table, Format::Tree, Format::Json];

fn harmless(text: &str) -> bool {
    text.lines()
        .all(|line| !line.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)))
}

#[test]
fn names_steer_no_terminal() {
    for format in FORMATS {
        for path in [samples::hostile(), Path { unix: None, ..samples::hostile() }] {
            let text = paths(format, style(), &[path]);
            assert!(harmless(&text), "{text:?}");
        }
    }
}

#[test]
fn a_hostile_path_looks_like_this() {
    let hostile = [samples::hostile(), Path { unix: None, ..samples::hostile() }];
    insta::assert_snapshot!(paths(Format::Table, style(), &hostile));
}

proptest! {
    #[test]
    fn any_path_is_as_many_lines_as_it_should_be(path in arbitrary::path(), offset in any::<i64>()) {
        let style = Style { realtime_offset_ns: offset, ..style() };
        let tree = 1 + path.hops.len() + usize::from(path.shares().is_some());
        for (format, lines) in FORMATS.into_iter().zip([2, tree, 1]) {
            let text = paths(format, style, std::slice::from_ref(&path));
            prop_assert!(harmless(&text), "{text:?}");
            prop_assert_eq!(text.lines().count(), lines);
        }
    }

    #[test]
    fn any_paths_have_a_summary(paths in proptest::collection::vec(arbitrary::path(), 0..20)) {
        let text = summary_of(&paths, &samples::trust(), &samples::coverage(), style());
        prop_assert!(harmless(&text), "{text:?}");
    }
}
