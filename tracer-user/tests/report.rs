//! `pathtrace report` on recordings of real kernels; needs no privilege.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn recording() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/6.18-tracepoint.ptr")
}

fn report(file: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pathtrace"))
        .args(["report", "--json", "-r", file])
        .args(args)
        .stdin(Stdio::from(fs::File::open(recording()).unwrap()))
        .output()
        .unwrap()
}

/// The paths, and what the summary says of paths.
fn paths(args: &[&str]) -> (Vec<Value>, Value) {
    let said = report(recording().to_str().unwrap(), args);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    (lines, summary["paths"].clone())
}

fn number(counts: &Value, key: &str) -> usize {
    usize::try_from(counts[key].as_u64().unwrap()).unwrap()
}

#[test]
fn filters_choose_and_what_they_leave_out_is_counted() {
    let (all, counts) = paths(&[]);
    assert_eq!(counts["filtered_out"], 0, "{counts}");
    for (option, value, is_meant) in [
        ("--proto", "udp", (|path| path["flow"]["proto"] == "udp") as fn(&Value) -> bool),
        ("--proto", "unix", |path| path["flow"]["proto"] == "unix"),
        ("--host", "::1", |path| path["flow"]["src"].as_str().is_some_and(|end| end.starts_with("[::1]"))),
        ("--interface", "lo", |path| path["device"] == "lo"),
    ] {
        let (chosen, counts) = paths(&[option, value]);
        let expected: Vec<&Value> = all.iter().filter(|path| is_meant(path)).collect();
        assert_eq!(chosen.iter().collect::<Vec<_>>(), expected, "{option} {value}");
        assert!(!chosen.is_empty() && chosen.len() < all.len(), "{option} {value}: {}", chosen.len());
        assert_eq!(number(&counts, "filtered_out"), all.len() - chosen.len(), "{option} {value}: {counts}");
    }
    let (chosen, _) = paths(&["--proto", "udp", "--count", "1"]);
    assert_eq!(chosen.len(), 1);
}

#[test]
fn what_a_recording_cannot_answer_is_refused() {
    let said = report(recording().to_str().unwrap(), &["--netns", "web"]);
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("inode numbers"), "{stderr}");
}

#[test]
fn quiet_is_taken_as_by_a_live_run() {
    let said = report(recording().to_str().unwrap(), &["-q"]);
    assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(said.stdout, report(recording().to_str().unwrap(), &["--quiet"]).stdout);
    assert_eq!(said.stdout, report(recording().to_str().unwrap(), &[]).stdout);
}

#[test]
fn standard_input_is_a_recording_too() {
    assert_eq!(report("-", &[]).stdout, report(recording().to_str().unwrap(), &[]).stdout);
    let empty = Command::new(env!("CARGO_BIN_EXE_pathtrace"))
        .args(["report", "-r", "-"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&empty.stderr);
    assert_eq!(empty.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("standard input: not a pathtrace recording"), "{stderr}");
}

/// Who asks for it does not mean to lose it.
#[test]
fn a_recording_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.ptr");
    fs::copy(recording(), &copy).unwrap();
    let file = copy.to_str().unwrap();
    let said = report(file, &["-o", file]);
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr, format!("pathtrace: cannot create {file}: it is the recording\n"));
    assert_eq!(fs::read(&copy).unwrap(), fs::read(recording()).unwrap());
}

#[test]
fn a_dash_stands_for_standard_output() {
    let file = recording();
    let file = file.to_str().unwrap();
    let (plain, dash) = (report(file, &["--summary"]), report(file, &["--summary", "-o", "-"]));
    assert!(dash.status.success() && !dash.stdout.is_empty());
    assert_eq!(dash.stdout, plain.stdout);
    // From the one to the other: no file is called so.
    let through = report("-", &["--summary", "-o", "-"]);
    assert_eq!(through.stdout, plain.stdout, "{}", String::from_utf8_lossy(&through.stderr));
}
