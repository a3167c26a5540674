//! Pages and pictures in a real browser: headless Chromium, if `PATHTRACE_CHROMIUM` says where it is, as
//! `cargo xtask test` does. `PATHTRACE_PICTURES=DIR` keeps all of them and their screenshots there, to be looked at.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    comparisons::{every_kind, four_kinds, nothing, own_traffic},
    markup::{html, svg},
};
use crate::comparison::{Comparison, samples};

const MEASURE: &str = include_str!("measure.js");
/// The width at which everything has to be legible, px; no picture here is higher.
const WINDOW: &str = "--window-size=1000,6000";

/// What the style sheets prefer to the widest font.
const NARROWER_FONTS: &str = r#""Helvetica Neue", Arial, "Liberation Sans", "#;

struct Browser {
    program: PathBuf,
    /// Browsers that run at the same time must not share one.
    profile: TempDir,
    folder: PathBuf,
}

/// What the browser made of a file.
struct Loaded {
    dom: String,
    /// What the page and the browser had to say about it.
    console: Vec<String>,
}

impl Browser {
    /// The browser that the environment names.
    fn of_environment() -> Option<Self> {
        let Some(program) = env::var_os("PATHTRACE_CHROMIUM") else {
            eprintln!("skipped: needs PATHTRACE_CHROMIUM=/usr/bin/chromium, which `cargo xtask test` sets");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let folder =
            env::var_os("PATHTRACE_PICTURES").map_or_else(|| profile.path().to_owned(), PathBuf::from);
        Some(Self { program: program.into(), profile, folder: folder.canonicalize().unwrap() })
    }

    /// Loads a file, and takes a picture of it if told where to put that.
    fn load(&self, name: &str, content: &str, screenshot: Option<&Path>) -> Loaded {
        let file = self.folder.join(name);
        fs::write(&file, content).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", WINDOW])
            .args(["--hide-scrollbars", "--enable-logging=stderr", "--dump-dom"])
            .args(screenshot.map(|screenshot| format!("--screenshot={}", screenshot.display())))
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .arg(format!("file://{}", file.display()));
        let output = command.output().unwrap();
        let [dom, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{command:?}: {said}");
        let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
        Loaded { dom, console }
    }

    /// What is wrong with the text of a page or a picture: a copy of it measures itself. Nothing if nothing is.
    fn problems(&self, name: &str, content: &str, end: &str) -> String {
        let script = format!("<script>//<![CDATA[\n{MEASURE}//]]></script>{end}");
        let copy = content
            .replace("default-src 'none'", "default-src 'unsafe-inline'")
            // What fits in the widest font fits in all.
            .replace(NARROWER_FONTS, "")
            .replace(end, &script);
        let measured = self.load(&format!("measured-{name}"), &copy, None);
        // Had the script failed, it would have found nothing; and what pages say would not be seen anywhere.
        assert!(
            measured.console.iter().any(|line| line.contains("measured")),
            "{name}: {:?}",
            measured.console
        );
        assert_ne!(attribute(&measured.dom, "data-texts"), "0", "{name}");
        attribute(&measured.dom, "data-problems").to_owned()
    }

    /// Loads a page or a picture as it is, and measures it; returns it as the browser read it.
    fn check(&self, name: &str, content: &str, end: &str) -> String {
        let screenshot = self.folder.join(format!("{name}.png"));
        let loaded = self.load(name, content, Some(&screenshot));
        assert!(loaded.console.is_empty(), "{name}: {:?}", loaded.console);
        assert!(!loaded.dom.contains("parsererror"), "{name}: {}", loaded.dom);
        assert!(fs::read(&screenshot).unwrap().starts_with(b"\x89PNG"), "{name}");
        assert_eq!(self.problems(name, content, end), "", "{name}");
        loaded.dom
    }
}

fn attribute<'a>(dom: &'a str, name: &str) -> &'a str {
    let value = dom.split_once(&format!("{name}=\"")).map(|(_, value)| value);
    value.and_then(|value| value.split_once('"')).map_or("missing", |(value, _)| value)
}

/// Checks the page and the picture of a comparison; returns the page as the browser read it.
fn check(name: &str, comparison: &Comparison) -> Option<String> {
    let browser = Browser::of_environment()?;
    browser.check(&format!("{name}.svg"), &svg(comparison), "</svg>");
    Some(browser.check(&format!("{name}.html"), &html(comparison), "</body>"))
}

#[test]
fn two_columns() {
    let Some(dom) = check("two-columns", &samples::comparison()) else { return };
    assert_eq!(dom.matches(NARROWER_FONTS).count(), 2, "drawings and the page");
    for expected in [
        "TCP and UNIX, side by side",
        "Messages of 100 bytes",
        "2.0 × faster",
        "dev_queue_xmit",
        "not passed",
    ] {
        assert!(dom.contains(expected), "{expected}: {dom}");
    }
    assert_eq!(dom.matches("<svg").count(), 4);
    assert_eq!(dom.matches("role=\"img\"").count(), 4);
}

#[test]
fn four_columns_in_three_sizes() {
    let Some(dom) = check("four-columns", &four_kinds()) else { return };
    assert!(dom.contains("no message was followed"), "{dom}");
    assert!(!dom.contains("<title>taken"), "{dom}");
    assert_eq!(dom.matches("<svg").count(), 12);
}

#[test]
fn every_connection() {
    check("every-connection", &every_kind());
}

#[test]
fn traffic_that_nobody_timed() {
    let Some(dom) = check("own-traffic", &own_traffic()) else { return };
    assert!(dom.contains("Messages of your programs") && dom.contains("One way: how the times"), "{dom}");
}

#[test]
fn nothing_to_draw() {
    check("nothing", &nothing());
}

#[test]
fn what_is_wrong_is_seen() {
    let Some(browser) = Browser::of_environment() else { return };
    let picture = r#"<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100">
        <text x="10" y="20">one</text><text x="20" y="25">two</text>
        <text x="190" y="60">three</text>
        <g><title>bar</title><rect x="10" y="70" width="5" height="20"/><text x="10" y="85">four</text></g></svg>"#;
    let problems = browser.problems("wrong.svg", picture, "</svg>");
    assert_eq!(problems, "overlap: one / two; cut off: three; wider than its bar: four");
}
