//! A recording shows what the live run would have shown.

use std::{fs, net::Ipv4Addr, path::Path};

use serde_json::Value;

use crate::support::{Trace, backends, free_port, hops, pathtrace, ping_pong};

#[test]
fn a_recording_is_read_back_as_whole_paths() {
    for backend in backends() {
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
