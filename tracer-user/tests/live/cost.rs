//! What tracing itself costs is measured, and all records are accounted for.

use std::{
    fs::File,
    io::Read as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::support::{Trace, backends, free_port, kernel, one_backend, pathtrace, ping_pong, stream};

#[test]
fn what_tracing_costs_is_measured() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 300, 100);
        let said = trace.stop();
        said.assert_whole();
        let cost = &said.summary["own_cost"];
        let number = |name: &str| cost[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", said.summary));
        // An instruction takes a fraction of a ns, an emulated one some more; a program is some hundreds of them.
        assert!((10..1_000_000).contains(&number("ns_per_event")), "{cost}");
        assert!(number("measured_events") > 0, "{cost}");
        let events = said.summary["events"].as_u64().unwrap();
        assert!(number("total_ns") >= number("ns_per_event") * events, "{cost}");
        assert!(cost["share"].as_f64() > Some(0.0), "{cost}");
        // What writes an event has run.
        assert!(number("measured_runs") >= number("measured_events"), "{cost}");
        assert!((1..=number("ns_per_event")).contains(&number("ns_per_run")), "{cost}");
        // Nobody asked for it.
        assert!(said.summary["audit"].is_null(), "{}", said.summary);
    }
}

/// Others' traffic makes the programs run, which costs time though nothing is wanted.
#[test]
fn a_run_without_events_has_the_cost_of_its_runs() {
    let Some(backend) = one_backend() else { return };
    let trace = Trace::start(&backend, &["--port", &free_port().to_string()]);
    let at = (Ipv4Addr::LOCALHOST, free_port()).into();
    // A window of the statistics may be shut.
    let enough = Instant::now() + Duration::from_secs(1);
    while Instant::now() < enough {
        ping_pong(at, 100, 100);
    }
    let said = trace.stop();
    assert_eq!(said.summary["events"], 0);
    let cost = &said.summary["own_cost"];
    let number = |name: &str| cost[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", said.summary));
    assert!(cost["ns_per_event"].is_null(), "{cost}");
    assert_eq!(number("measured_events"), 0);
    assert!(number("ns_per_run") > 0 && number("total_ns") > number("ns_per_run"), "{cost}");
    assert!(cost["share"].as_f64() > Some(0.0), "{cost}");
}

/// Whatever else is right, tracing is slow without them.
#[test]
fn the_fast_ways_of_this_kernel_are_used() {
    let Some(backend) = one_backend() else { return };
    let args = ["-vv", "--backend", &backend, "--port", &free_port().to_string(), "--duration", "1ms"];
    let said = pathtrace().args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    for (since, fast, slow) in [
        ((5, 12), "records go into mapped slots", "records go into the kernel's ring buffer"),
        ((6, 18), "programs read memory by loads", "programs read memory by a helper's calls"),
    ] {
        assert!(stderr.contains(if kernel() >= since { fast } else { slow }), "{stderr}");
    }
}

#[test]
fn every_loss_is_counted_where_the_buffer_is_too_small() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(
            &backend,
            &["--port", &port.to_string(), "--audit", "--buffer-size", "4K", "--summary"],
        );
        let at = (Ipv4Addr::LOCALHOST, port).into();
        // A page holds some fifty records, which is less than one batch of segments has hops.
        stream(at, 4 << 20, 4 << 10);
        ping_pong(at, 500, 100);
        let said = trace.stop();
        let number = |of: &serde_json::Value| of.as_u64().unwrap_or_else(|| panic!("{}", said.summary));
        let audit = &said.summary["audit"];
        assert_eq!(audit["balance"], true, "{}", said.summary);
        assert_eq!(number(&audit["fired"]), number(&audit["taken"]) + number(&audit["lost"]));
        assert_eq!(audit["unexplained"], 0);
        assert_eq!(audit["lost"], said.summary["lost"]);
        assert!(number(&audit["lost"]) > 0, "{audit}");
        assert!(said.stderr.contains("events were lost: packets of which all"), "{}", said.stderr);
        assert!(number(&said.summary["events"]) <= number(&audit["taken"]), "{}", said.summary);
    }
}

#[test]
fn accounts_balance_without_losses_and_are_said() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let trace = Trace::start_as(
            &["--backend", &backend, "--strict", "--summary"],
            &["--port", &port.to_string(), "--audit"],
        );
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 50, 100);
        // The file is gone with the trace.
        let mut stdout = File::open(trace.file("stdout")).unwrap();
        assert!(trace.stop().status.success());
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let line = text.lines().last().unwrap();
        assert!(line.contains("accounts balance: ") && line.contains(" + 0 lost"), "{line}");
        assert!(line.contains("own cost "), "{line}");
    }
}

#[test]
fn a_recording_keeps_cost_and_accounts() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.ptr");
        let trace = Trace::start_as(
            &["record", "--backend", &backend, "--write", &file.display().to_string()],
            &["--port", &port.to_string(), "--audit"],
        );
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 50, 100);
        trace.stop();
        let report =
            pathtrace().args(["report", "--json", "--summary", "--read"]).arg(&file).output().unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(summary["audit"]["balance"], true, "{summary}");
        assert!(summary["own_cost"]["ns_per_event"].as_u64() > Some(0), "{summary}");
    }
}
