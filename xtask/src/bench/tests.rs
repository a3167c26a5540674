//! A run that never was, so that figures can be told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    lines::{Correlator, Line, Machine, Note, Program, Start, Tracer, Unavailable, Work},
    page::{page, verdict_table},
    results::{Results, Spread, p50},
    verdicts::verdicts,
};

fn results(lines: &[Line]) -> Results {
    let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
    let mut results = Results::default();
    results.read(text.join("\n").as_bytes(), |_| Ok(())).unwrap();
    results
}

fn work(round: u32, work: &str, variant: &str, p50_ns: u64, slow: u64) -> Line {
    let p50_ns = slow * p50_ns;
    Line::Work(Work {
        round,
        group: work.split('-').next().unwrap().into(),
        work: work.into(),
        variant: variant.into(),
        pace_ns: [900 * slow, 930 * slow],
        count: 1000,
        seen: 1300,
        ns: 1000 * p50_ns,
        p50_ns: Some(p50_ns),
        p99_ns: Some(3 * p50_ns),
        per_second: 1e9 / p50_ns as f64,
        bytes_per_second: None,
        cpu_ns: None,
    })
}

fn tracer(round: u32, group: &str, variant: &str, lost: u64) -> Line {
    Line::Tracer(Tracer {
        round,
        group: group.into(),
        variant: variant.into(),
        ready_ns: 200_000_000,
        traced_ns: 900_000_000,
        exit_ns: 100_000_000,
        cpu_ns: 500_000_000,
        peak_bytes: Some(50 << 20),
        events: Some(1_000_000),
        lost: Some(lost),
        complete: Some(100_000),
        incomplete: Some(0),
        output_bytes: 77_000_000,
    })
}

fn program(round: u32, variant: &str, hop: &str, ns: u64) -> Line {
    let (variant, hop) = (variant.into(), hop.into());
    Line::Program(Program { round, work: "tcp-programs-5".into(), variant, hop, runs: 1000, ns: 1000 * ns })
}

/// Rounds in which the machine is once and twice as slow, and changes its pace in the middle, which changes no ratio.
fn run() -> Vec<Line> {
    let mut lines = vec![Line::Machine(Machine {
        kernel: "6.1.0".into(),
        processor: "Slow CPU".into(),
        cpus: 2,
        work_cpu: 1,
        other_cpu: 0,
        tracer_cpu: 0,
        load: 0.25,
        rounds: 3,
        programs: vec!["bpftrace v0.17.0".into()],
    })];
    for (round, slow) in [(0, 1), (1, 2), (2, 1)] {
        for (variant, ns) in [("json", 10_000), ("bpftrace-print", 20_000), ("bpftrace-count", 9000)] {
            lines.push(work(round, "tcp-5", "untraced", 8000, slow));
            // At another pace than what is measured next.
            lines.push(work(round, "tcp-5", "untraced", 8000, 3 - slow));
            lines.push(work(round, "tcp-5", variant, ns, slow));
        }
        lines.push(work(round, "tcp-1024", "untraced", 9000, slow));
        lines.push(work(round, "tcp-1024", "json", 18_000, slow));
        lines.push(tracer(round, "tcp", "json", u64::from(round == 1)));
        lines.push(tracer(round, "unix", "json", 0));
        for (variant, ns) in [("empty", 20), ("bare", 100), ("json", 132)] {
            lines.push(program(round, variant, "net_dev_queue", ns));
            lines.push(program(round, variant, "sys_enter", 10));
        }
        lines.push(Line::Start(Start {
            round,
            work: "tcp-start-5".into(),
            ready_ns: 250_000_000,
            first_path_ns: 299_000_000,
            exit_ns: 300_000_000,
        }));
    }
    for (output, flows, events, events_per_second) in [
        ("summary", 1, 1, 6e6),
        ("summary", 10_000, 1, 4e6),
        ("json", 64, 1, 1e6),
        ("json", 64, 10, 0.95e6),
        ("json", 10_000, 1, 1.5e6),
    ] {
        lines.push(Line::Correlator(Correlator {
            output: output.into(),
            stream: "tcp".into(),
            flows,
            events: events * 1_000_000,
            paths: events * 100_000,
            events_per_second,
            allocations_per_event: 0.0001,
            peak_bytes: 3 << 20,
        }));
    }
    let (group, variant, why) = ("tcp".into(), "sample".into(), "unexpected argument".into());
    lines.push(Line::Unavailable(Unavailable { group, variant, why }));
    let (group, variant, text) = ("unix".into(), "bpftrace-print".into(), "no lengths".into());
    lines.push(Line::Note(Note { group, variant, text }));
    lines
}

#[test]
fn figures_are_compared_with_what_was_at_the_same_pace() {
    let results = results(&run());
    let ratio = results.ratios("tcp-5", "json", p50).unwrap();
    assert_eq!(ratio, Spread { median: 1.25, low: 1.25, high: 1.25, max: 1.25, count: 3 });
    // 12 µs added, to 2: in a slow round 24 to 4, and then the share is the same.
    let times = results.times_added("tcp-5", "bpftrace-print", "json");
    assert_eq!(times, Some(Spread { median: 6.0, low: 6.0, high: 6.0, max: 6.0, count: 3 }));
    assert_eq!(results.ratios("tcp-5", "tcpdump", p50), None);
}

#[test]
fn what_was_at_no_pace_or_another_one_is_not_compared() {
    let paced = |variant, pace_ns| {
        let Line::Work(work) = work(0, "tcp-5", variant, 1000, 1) else { unreachable!() };
        Line::Work(Work { pace_ns, ..work })
    };
    for (untraced, traced, is_compared) in [
        ([900, 900], [970, 970], true),
        ([900, 900], [980, 980], false),
        ([900, 900], [870, 940], false),
        ([870, 940], [900, 900], false),
    ] {
        let results = results(&[paced("untraced", untraced), paced("json", traced)]);
        let ratio = results.ratios("tcp-5", "json", p50);
        assert_eq!(ratio.is_some(), is_compared, "{untraced:?} {traced:?}");
    }
}

#[test]
fn a_spread_is_the_middle_half() {
    let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
    assert_eq!(spread, Spread { median: 3.0, low: 2.0, high: 4.0, max: 5.0, count: 5 });
    let two = Spread { median: 1.5, low: 1.0, high: 2.0, max: 2.0, count: 2 };
    assert_eq!(Spread::of([1.0, 2.0]), Some(two));
    assert_eq!(Spread::of([]), None);
}

#[test]
fn verdicts_are_met_or_not_or_not_measured() {
    let results = results(&run());
    insta::assert_snapshot!(verdict_table(&verdicts(&results)));
}

#[test]
fn a_page_has_all_tables() {
    let results = results(&run());
    insta::assert_snapshot!(page(&results, &[]));
}

#[test]
fn what_is_no_figure_is_an_error() {
    let error = Results::default().read("no figure".as_bytes(), |_| Ok(())).unwrap_err();
    assert!(format!("{error:#}").contains("no figure"), "{error:#}");
}
