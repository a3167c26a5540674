//! Everything that ends a run ends it with the summary.

use std::{net::Ipv4Addr, process::Stdio, thread};

use serde_json::Value;

use crate::support::{Trace, backends, free_port, pathtrace, ping_pong};

#[test]
fn count_shows_exactly_as_many_paths() {
    for backend in backends() {
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string(), "-c", "5"]);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 50, 100);
        let said = trace.end();
        said.assert_whole();
        assert_eq!(said.paths.len(), 5);
        assert_eq!(said.summary["paths"]["complete"], 5);
    }
}

#[test]
fn duration_ends_the_run() {
    for backend in backends() {
        let said = Trace::start(&backend, &["--port", "8888", "--duration", "200ms"]).end();
        said.assert_whole();
        assert!(said.summary["duration_ns"].as_u64() >= Some(200_000_000), "{}", said.summary);
    }
}

#[test]
fn terminate_ends_with_the_summary() {
    for backend in backends() {
        let trace = Trace::start(&backend, &["--port", "8888"]);
        trace.signal(libc::SIGTERM);
        let said = trace.end();
        assert!(said.status.success());
        assert_eq!(said.summary["kind"], "summary");
    }
}

#[test]
fn a_command_is_traced_and_its_status_passed_on() {
    for backend in backends() {
        let run = |script: &str| {
            pathtrace()
                .args(["--json", "--port", "8888", "--backend", &backend, "--", "sh", "-c", script])
                .output()
                .unwrap()
        };
        let said = run("echo to be seen; exit 7");
        assert_eq!(said.status.code(), Some(7), "{}", String::from_utf8_lossy(&said.stderr));
        // What the command says must not mix with the data.
        assert!(String::from_utf8_lossy(&said.stderr).contains("to be seen"));
        let summary: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(summary["kind"], "summary");
        assert_eq!(run("kill -9 $$").status.code(), Some(128 + 9));

        let missing = pathtrace().args(["--backend", &backend, "--", "/no/such/program"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot start \"/no/such/program\""));
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    for backend in backends() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut child = pathtrace()
            .args(["--json", "--quiet", "--backend", &backend, "--port", &port.to_string(), "--ready-file"])
            .arg(&ready)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        crate::support::wait_until("pathtrace is ready", || ready.exists());
        drop(child.stdout.take());
        let traffic = thread::spawn(move || ping_pong((Ipv4Addr::LOCALHOST, port).into(), 200, 100));
        let said = child.wait_with_output().unwrap();
        traffic.join().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    }
}
