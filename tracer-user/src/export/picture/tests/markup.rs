//! What pictures say, without a browser.

use super::comparisons::{SCRIPT, conclusions, every_kind, facts, four_kinds, nothing, own_traffic};
use crate::{
    comparison::{Comparison, samples},
    export::picture::{figures, write_html, write_svg},
};

pub(super) fn html(comparison: &Comparison) -> String {
    let mut page = Vec::new();
    write_html(comparison, &facts(&conclusions()), &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

pub(super) fn svg(comparison: &Comparison) -> String {
    let mut sheet = Vec::new();
    write_svg(comparison, &facts(&conclusions()), &mut sheet).unwrap();
    String::from_utf8(sheet).unwrap()
}

#[test]
fn nothing_from_outside_is_markup() {
    for comparison in [every_kind(), four_kinds()] {
        for text in [html(&comparison), svg(&comparison)] {
            assert!(!text.contains("<script"), "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        assert!(html(&comparison).contains(&SCRIPT.replace('<', "&lt;").replace('>', "&gt;")));
    }
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = html(&four_kinds());
    for fetched in ["src=", "href=", "url(", "@import", "<link"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

#[test]
fn a_stage_that_one_side_has_not_is_said_to_be_so() {
    let page = html(&samples::comparison());
    // Routing, the device layer, the input queue, receiving.
    assert_eq!(page.matches(">not passed<").count(), 4);
    assert_eq!(html(&own_traffic()).matches(">not passed<").count(), 4);
}

#[test]
fn no_number_is_none() {
    for make in [samples::comparison, four_kinds, every_kind, own_traffic, nothing] {
        let comparison = make();
        for text in [html(&comparison), svg(&comparison)] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }
}

#[test]
fn figures_of_every_kind() {
    let tables = [four_kinds(), own_traffic(), nothing()].map(|comparison| {
        let rows = comparison.sizes.iter().flat_map(|at| {
            let table = figures::table(at);
            let head = vec![figures::heading(at), table.head.join(" | ")];
            head.into_iter().chain(table.rows.into_iter().map(|row| row.join(" | "))).collect::<Vec<_>>()
        });
        rows.collect::<Vec<_>>().join("\n")
    });
    insta::assert_snapshot!(tables.join("\n\n"));
}
