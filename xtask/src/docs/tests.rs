//! A page of a hop that there is not, so that the real table can change without this test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use tracer_common::probes::{Arg, Backend, Point};

use super::{
    index::index,
    kernels::{Answer, Kernels},
    page::page,
    row::{Row, Way},
    *,
};

const ARGS: &[Arg] = &[Arg { name: "skb", index: 0 }, Arg { name: "cpu", index: 1 }];

fn rows() -> [Row; 3] {
    let row = Row {
        point: Point::EnqueueToBacklog,
        hop: "sort",
        traffic: "letters",
        about: "Sorts packets.",
        functions: Way::At { names: vec!["__sort", "sort"], args: ARGS, by: None },
        tracepoint: Way::At { names: vec!["net:sorted"], args: &ARGS[..1], by: None },
        alone: None,
    };
    let ship = Row {
        point: Point::IpQueueXmit,
        hop: "ship",
        about: "Ships packets.",
        functions: Way::At { names: vec!["ship"], args: &ARGS[..1], by: Some("sort") },
        tracepoint: Way::Nowhere("nothing lies there"),
        alone: Some(Way::At { names: vec!["ship:leaves"], args: &ARGS[..1], by: None }),
        ..row.clone()
    };
    let functions = Way::Nowhere("each postman has a function of his own");
    let hand_over = Row { hop: "hand_over", about: "Hands packets over.", functions, ..row.clone() };
    [row, ship, hand_over]
}

fn kernels() -> Kernels {
    let mut kernels = Kernels::default();
    let function = |name: &str| Answer::Function(name.into());
    let refused = || Answer::Refused("no such function\nand a log".into());
    let (old, new) = ("5.10.0-46-cloud-amd64", "6.12.117+deb12-cloud-amd64");
    kernels.add(old, "sort", "fentry", refused());
    kernels.add(old, "sort", "kprobe", function("sort"));
    kernels.add(old, "sort", "tracepoint", Answer::Refused("none".into()));
    kernels.add(old, "ship", "tracepoint", Answer::Refused("nothing lies there".into()));
    kernels.add(new, "sort", "fentry", refused());
    kernels.add(new, "sort", "fentry", function("__sort"));
    kernels.add(new, "sort", "tracepoint", function("net:sorted"));
    kernels.add(new, "ship", "kprobe", refused());
    kernels.add(new, "hand_over", "tracepoint", function("net:sorted"));
    kernels
}

#[test]
fn a_page_tells_all_about_a_hop() {
    insta::assert_snapshot!(page(&rows(), 0, &kernels()));
}

#[test]
fn a_page_tells_why_there_is_no_tracepoint() {
    insta::assert_snapshot!(page(&rows(), 1, &kernels()));
}

#[test]
fn a_page_tells_why_there_is_no_function() {
    insta::assert_snapshot!(page(&rows(), 2, &kernels()));
}

#[test]
fn the_index_has_all_hops_and_kernels() {
    insta::assert_snapshot!(index(&rows(), &kernels()));
}

#[test]
fn every_row_of_the_table_has_something_to_attach_to() {
    for row in PROBES.iter().map(Row::of) {
        assert!(
            Backend::ALL.iter().any(|backend| matches!(row.way(*backend), Way::At { .. })),
            "{}",
            row.hop
        );
    }
}

#[test]
fn a_kernel_is_called_by_the_first_two_numbers_of_its_release() {
    let mut kernels = kernels();
    kernels.add("7.3", "sort", "fentry", Answer::Function("sort".into()));
    let versions: Vec<_> = kernels.kernels.iter().map(kernels::Kernel::version).collect();
    assert_eq!(versions, ["5.10", "6.12", "7.3"]);
}

#[test]
fn answers_are_read_as_they_are_written() {
    let file = std::env::temp_dir().join(format!("kernels-{}.json", std::process::id()));
    kernels().write(&file).unwrap();
    let read = Kernels::read(&file);
    fs::remove_file(&file).unwrap();
    assert_eq!(read.unwrap(), kernels());
    let missing = format!("{:#}", Kernels::read(&file).unwrap_err());
    assert!(missing.contains("`cargo xtask docs --measure` makes it"), "{missing}");
}

#[test]
fn pages_that_differ_lack_or_are_too_many_are_old() {
    let folder = std::env::temp_dir().join(format!("hops-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("same.md", "1"), ("other.md", "1"), ("gone.md", "1"), ("kernels.json", "{}")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let page = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let found = old(&folder, &[page("same.md", "1"), page("other.md", "2"), page("new.md", "1")]);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found.unwrap(), ["other.md", "new.md", "gone.md"]);
}

#[test]
fn every_backend_has_a_letter_and_a_column() {
    assert_eq!(Backend::ALL.map(|backend| &backend.name()[..1]), ["f", "k", "t"]);
}
