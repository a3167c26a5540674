//! A recording shows what the live run would have shown.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
};

use serde_json::Value;

use crate::support::{Trace, free_port, hops, one_backend, pathtrace, ping_pong};

#[test]
fn a_recording_is_read_back_as_whole_paths() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.ptr");
        let port_text = port.to_string();
        let args = ["-w", file.to_str().unwrap(), "--port", &port_text, "--backend", &backend];
        let trace = Trace::start_as(&["record"], &args);
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 10, 100);
        let said = trace.stop();
        assert!(said.status.success(), "{}", said.stderr);

        let report = pathtrace().args(["report", "--json", "-r"]).arg(&file).output().unwrap();
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
        let lines: Vec<Value> = String::from_utf8(report.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let (summary, paths) = lines.split_last().unwrap();
        assert_eq!(summary["paths"]["incomplete"], 0, "{summary}");
        assert_eq!(summary["lost"], 0, "{summary}");
        let data: Vec<_> = paths.iter().filter(|path| path["len"].as_u64() > Some(0)).collect();
        assert_eq!(data.len(), 20);
        assert!(data.iter().all(|path| hops(path).last() == Some(&"tcp_recvmsg")));

        // Virtual machines hand these back: recordings of real kernels for the tests that need no kernel.
        if Path::new("/out").is_dir() {
            fs::copy(&file, format!("/out/tcp-{backend}.ptr")).unwrap();
        }
    }
}

/// Shows a recording: exit status, paths, summary.
fn report(file: &Path, args: &[&str]) -> (Option<i32>, Vec<Value>, Value) {
    let said = pathtrace().args(["report", "--json", "-r"]).arg(file).args(args).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.pop().unwrap();
    (said.status.code(), lines, summary)
}

#[test]
fn what_was_lost_is_known_or_said_to_be_unknown() {
    if let Some(backend) = one_backend() {
        let port = free_port().to_string();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.ptr");
        let args = ["-w", file.to_str().unwrap(), "-P", &port, "--backend", &backend, "--buffer-size", "4K"];
        let trace = Trace::start_as(&["record"], &args);
        ping_pong((Ipv4Addr::LOCALHOST, port.parse().unwrap()).into(), 2000, 100);
        assert!(trace.stop().status.success());

        let (status, all, whole) = report(&file, &[]);
        assert_eq!(status, Some(0));
        assert!(whole["lost"].as_u64() > Some(0), "{whole}");
        // Where it was lost is recorded as well.
        assert!(whole["incomplete_reasons"]["events were lost at that time"].as_u64() > Some(0), "{whole}");
        assert_eq!(report(&file, &["--strict"]).0, Some(1));

        let (status, first, summary) = report(&file, &["-c", "1"]);
        assert_eq!((status, first.len()), (Some(0), 1));
        for key in ["lost", "missed", "events", "duration_ns"] {
            assert_eq!(summary[key], whole[key], "{key}");
        }
        assert!(summary["cut_off"].as_u64() > Some(0) && all.len() > 1, "{summary}");

        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
        let (status, _, summary) = report(&file, &[]);
        assert_eq!(status, Some(2));
        assert!(summary["lost"].is_null() && summary["duration_ns"].is_null(), "{summary}");
        assert_eq!(summary["events"], whole["events"]);
    }
}

#[test]
fn a_recording_is_whole_if_nobody_reads_the_summary() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.ptr");
        let mut child = pathtrace()
            .args(["record", "--quiet", "--backend", &backend, "-P", "8888", "--duration", "50ms", "-w"])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(report(&file, &[]).0, Some(0));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_recording_that_cannot_be_written_is_an_error() {
    if let Some(backend) = one_backend() {
        let said = pathtrace()
            .args(["record", "--backend", &backend, "-P", "8888", "--duration", "50ms", "-w", "/dev/full"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("cannot write /dev/full"), "{stderr}");
    }
}

#[test]
fn a_recording_shows_as_many_paths_as_were_asked_for() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.ptr");
        let port_text = port.to_string();
        let bounds = ["--port", &port_text, "--backend", &backend, "-c", "5"];
        let trace = Trace::start_as(&["record"], &[&["-w", file.to_str().unwrap()], &bounds[..]].concat());
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 10, 100);
        trace.stop();
        let (_, paths, summary) = report(&file, &[]);
        assert_eq!((paths.len(), &summary["paths"]["complete"]), (5, &Value::from(5)), "{summary}");
        assert_eq!(report(&file, &["-c", "2"]).1.len(), 2);
        // Fast ones are left out here as they are live.
        let (_, paths, summary) = report(&file, &["--min-latency", "1000s"]);
        assert_eq!((paths.len(), summary["paths"]["too_short"].as_u64() > Some(4)), (0, true), "{summary}");
    }
}

/// Nobody knows how long they take.
#[test]
fn incomplete_paths_are_not_too_short() {
    if let Some(backend) = one_backend() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let trace = Trace::start(&backend, &["--dport", &at.port().to_string(), "--min-latency", "1000s"]);
        let mut sender = TcpStream::connect(at).unwrap();
        let receiver = listener.accept().unwrap();
        sender.write_all(&[1; 70]).unwrap();
        let said = trace.stop();
        let [path] = said.messages()[..] else { panic!("{:#?}", said.paths) };
        assert_eq!((&path["len"], &path["complete"]), (&Value::from(70), &Value::from(false)), "{path}");
        drop(receiver);
    }
}
