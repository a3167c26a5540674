//! TCP beside UNIX sockets, end to end and stage by stage.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use serde_json::Value;

use crate::{
    namespaces::Namespace,
    netlink,
    support::{Said, Trace, backends, free_port, one_backend, pathtrace, wait_until},
};

/// `pathtrace compare` with little work.
fn compare(backend: &str, args: &[&str]) -> Command {
    let mut command = pathtrace();
    command.args(["compare", "--backend", backend]).args(args).stdin(Stdio::null());
    if !args.contains(&"--duration") {
        command.args(["--duration", "100ms"]);
    }
    command
}

/// Its lines; the summary is the last.
fn lines(output: &Output) -> Vec<Value> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.last().map(|line| &line["kind"]), Some(&"summary".into()), "{stderr}");
    lines
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// Nearly all messages were followed, and passed at least these stages.
fn assert_followed(line: &Value, stages: &[&str]) {
    let count = |what: &str| line["messages"][what].as_u64().unwrap();
    assert!(count("sent") > 0 && count("followed") * 100 >= count("sent") * 95, "{line:#}");
    for stage in stages {
        assert!(line["messages"]["stages"][stage].is_object(), "{stage}: {line:#}");
    }
}

/// The shares of the stages are the whole gap, or there is none to speak of.
fn assert_shared_out(gap: &Value) {
    let stages = gap["stages"].as_array().unwrap();
    let shares: Vec<f64> = stages.iter().filter_map(|stage| stage["share"].as_f64()).collect();
    assert!(shares.is_empty() || (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{gap:#}");
    let device = stages.iter().find(|stage| stage["stage"] == "device").unwrap();
    assert!(device["from"].is_object() && device["to"].is_null(), "only TCP has a device: {gap:#}");
}

const EVERY: [&str; 5] = ["entry", "send", "wake", "read", "receive"];

#[test]
fn tcp_and_unix_are_followed_message_by_message() {
    for backend in backends() {
        let output = compare(&backend, &["--json", "--sizes", "100,100K"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = lines(&output);
        let links: Vec<_> = of_kind(&lines, "comparison");
        let named: Vec<_> =
            links.iter().map(|line| (line["link"].as_str().unwrap(), &line["bytes"])).collect();
        let (small, large) = (Value::from(100), Value::from(100_000));
        assert_eq!(named, [("tcp", &small), ("unix", &small), ("tcp", &large), ("unix", &large)]);
        for line in &links {
            let is_tcp = line["link"] == "tcp";
            assert_followed(line, if is_tcp { &EVERY } else { &EVERY[..4] });
            let figures = line["figures"].as_object().unwrap();
            assert!(figures.values().all(|figure| figure.as_f64() > Some(0.0)), "{line:#}");
            assert_eq!(figures.len(), 7, "{line:#}");
            let count = |times: &str| line[times]["round_trip"]["count"].as_u64().unwrap();
            assert_eq!(count("traced") * 2, line["messages"]["sent"].as_u64().unwrap(), "{line:#}");
            assert!(count("untraced") >= 20, "{line:#}");
        }
        let gaps = of_kind(&lines, "gap");
        assert_eq!(gaps.len(), 2);
        gaps.into_iter().for_each(assert_shared_out);
        assert_eq!(lines.last().unwrap()["lost"], 0);
    }
}

#[test]
fn other_links_stand_beside_them() {
    let Some(backend) = one_backend() else { return };
    let args = ["--json", "--sizes", "64,100K", "--with", "udp,socketpair,pipe", "--count", "50"];
    let args = args.map(str::to_owned);
    let output = pathtrace()
        .args(["compare", "--backend", &backend])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let of = |link: &str| {
        let found = of_kind(&lines, "comparison").into_iter().find(|line| line["link"] == link);
        found.unwrap_or_else(|| panic!("nothing about {link}")).clone()
    };
    for link in ["tcp", "unix", "udp", "socketpair", "pipe"] {
        assert_eq!(of(link)["untraced"]["round_trip"]["count"], 50, "{link}");
    }
    assert_followed(&of("udp"), &EVERY);
    assert_followed(&of("socketpair"), &EVERY[..4]);
    assert_eq!(of("pipe")["messages"], Value::Null);
    assert_eq!(of("udp")["figures"]["bytes_per_second"], Value::Null, "a stream of datagrams has losses");
    let left_out = of_kind(&lines, "left_out");
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert_eq!(left_out[0]["link"], "udp", "100 KB are more than a datagram");
}

#[test]
fn what_goes_past_the_network_is_spared_the_device() {
    let Some(backend) = one_backend() else { return };
    let output = compare(&backend, &["--json", "--sizes", "100,1M", "--with", "sockmap"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let links = of_kind(&lines, "comparison");
    let short_cuts: Vec<_> = links.iter().filter(|line| line["link"] == "sockmap").collect();
    assert_eq!(short_cuts.len(), 2);
    for line in short_cuts {
        let short_cut = &line["short_cut"];
        assert_eq!(
            (&short_cut["packets"], &short_cut["delivered_bytes"]),
            (&0.into(), &short_cut["sent_bytes"])
        );
        assert!(short_cut["sent_bytes"].as_u64() > Some(0), "{short_cut:#}");
        assert_eq!(short_cut["skipped"], serde_json::json!(["route", "device", "backlog", "receive"]));
    }
    // TCP beside it is not spared anything.
    assert_followed(links[0], &["device", "backlog", "receive"]);
}

/// Only this network namespace's traffic is ours: without TCP there is nothing to compare, and nothing else is traced.
#[test]
fn without_tcp_there_is_no_comparison() {
    let Some(backend) = one_backend() else { return };
    let namespace = Namespace::new();
    let output = namespace.run(|| {
        netlink::set_down("lo").unwrap();
        compare(&backend, &["--sizes", "100"]).output().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("messages over TCP did not arrive"), "{said}");
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    let Some(backend) = one_backend() else { return };
    let mut child = compare(&backend, &["--sizes", "100", "--with", "sockmap", "--duration", "1h"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    wait_until("both processes run", || children().split_whitespace().count() == 2);
    // Nobody has asked for it before it heeds signals. A signal is caught a moment before anybody is told of it, so this waits for the one
    // that is registered after it.
    let heeds = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (libc::SIGHUP - 1)) != 0
    };
    wait_until("it heeds signals", heeds);
    let workers: Vec<String> = children().split_whitespace().map(str::to_owned).collect();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(cgroup.contains(&format!("pathtrace-{pid}")), "{cgroup}");
    // SAFETY: no memory is involved; the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(128 + libc::SIGTERM));
    for worker in workers {
        assert!(!Path::new("/proc").join(&worker).exists(), "{worker} is left");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup2 "));
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    for mount in mounts.filter_map(|line| line.split(' ').nth(4)) {
        assert!(!Path::new(&format!("{mount}{own}")).exists(), "{mount}{own} is left");
    }
}

#[test]
fn pictures_are_written_beside_the_answer() {
    let Some(backend) = one_backend() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name| folder.path().join(name);
    let (svg, html) = (file("gap.svg"), file("gap.html"));
    let pictures = ["--svg", svg.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let output =
        compare(&backend, &[&["--quiet", "--sizes", "100"], &pictures[..]].concat()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("A round trip of 100 B takes "),
        "{output:?}"
    );
    let (svg, html) = (fs::read_to_string(svg).unwrap(), fs::read_to_string(html).unwrap());
    assert!(svg.starts_with("<svg") && svg.contains("loopback_xmit"), "{svg}");
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("A round trip of 100 B takes "), "{html}");
    // A folder that is not there is found out before anything is measured.
    let nowhere = compare(&backend, &["--svg", "/nonexistent/gap.svg"]).output().unwrap();
    assert_eq!((nowhere.status.code(), nowhere.stdout.len()), (Some(2), 0), "{nowhere:?}");
}

#[test]
fn a_regression_is_an_exit_status() {
    let Some(backend) = one_backend() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baseline");
    let base = compare(&backend, &["--json", "--sizes", "100"]).output().unwrap();
    assert!(base.status.success(), "{base:?}");
    // A tenth of what it was is slower than any noise; a hundred times as much is faster.
    let text = String::from_utf8(base.stdout).unwrap();
    let scaled = |factor: f64| {
        let lines = text.lines().map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            if let Some(p50) = line["figures"]["p50"].as_f64() {
                line["figures"]["p50"] = (p50 * factor).into();
            }
            line.to_string() + "\n"
        });
        lines.collect::<String>()
    };
    let held = |base: String, condition: &str| {
        fs::write(&file, base).unwrap();
        let args = ["--json", "--sizes", "100", "--baseline", file.to_str().unwrap(), "--fail-if", condition];
        let output = compare(&backend, &args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = held(scaled(0.01), "p50>+50%");
    assert!(status == Some(1) && said.contains("REGRESSION: TCP p50 of 100 B"), "{status:?}: {said}");
    let (status, said) = held(scaled(100.0), "p50>+50%");
    assert!(status == Some(0) && said.contains("ok: UNIX p50 of 100 B"), "{status:?}: {said}");
    let (status, said) = held(scaled(1.0), "pipe.p50>+50%");
    assert!(status == Some(2) && said.contains("pipe.p50>+50%"), "{status:?}: {said}");
    let (status, said) = held("no JSON".to_owned(), "p50>+50%");
    assert!(status == Some(2) && said.contains("line 1"), "{status:?}: {said}");
}

/// Sends so many messages and reads their echo.
fn ask(mut stream: impl std::io::Read + std::io::Write, messages: usize) {
    for _ in 0..messages {
        stream.write_all(&[7; 100]).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
}

/// Answers until the other end goes.
fn echo(mut stream: impl std::io::Read + std::io::Write) {
    let mut message = [0; 100];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message).unwrap();
    }
}

#[test]
fn a_users_own_traffic_is_compared() {
    for backend in backends() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("own.sock");
        let (port_text, name_text) = (port.to_string(), name.to_str().unwrap().to_owned());
        let trace = Trace::start_as(
            &["compare", "--json", "--backend", &backend, "--tcp", &port_text, "--unix", &name_text],
            &[""; 0],
        );
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let unix = UnixListener::bind(&name).unwrap();
        // Nobody has asked for these.
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| echo(tcp.accept().unwrap().0));
            scope.spawn(|| echo(unix.accept().unwrap().0));
            scope.spawn(|| echo(other.accept().unwrap().0));
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            client.set_nodelay(true).unwrap();
            ask(client, 30);
            ask(UnixStream::connect(&name).unwrap(), 40);
            ask(TcpStream::connect(other.local_addr().unwrap()).unwrap(), 10);
        });
        let Said { paths: lines, summary, stderr, .. } = trace.stop();
        assert_eq!(summary["lost"], 0, "{stderr}");
        let links = of_kind(&lines, "comparison");
        let sent: Vec<_> =
            links.iter().map(|line| (&line["link"], line["messages"]["sent"].as_u64())).collect();
        assert_eq!(sent, [(&"tcp".into(), Some(60)), (&"unix".into(), Some(80))], "{stderr}");
        for line in &links {
            assert_followed(line, &["send"]);
            assert_eq!((&line["untraced"], &line["bytes"]), (&Value::Null, &Value::Null));
        }
        of_kind(&lines, "gap").into_iter().for_each(assert_shared_out);
    }
}

#[test]
fn nothing_seen_is_no_answer() {
    let Some(backend) = one_backend() else { return };
    let port = free_port().to_string();
    let args = ["compare", "--backend", &backend, "--tcp", &port, "--unix", "@nobody", "--", "true"];
    let output = pathtrace().args(args).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(&format!("TCP with port {port}")), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    if backends().is_empty() {
        return;
    }
    let wrong: [&[&str]; 11] = [
        &["--tcp", "80", "--unix", "/run/x", "--sizes", "100"],
        &["--svg", "/tmp/same", "--html", "/tmp/same"],
        &["--sizes", "0"],
        &["--sizes", "100,x"],
        &["--with", "tcp"],
        &["--cpus", "0,9999"],
        &["--cpus", "both"],
        &["--tcp", "80"],
        &["--baseline", "/dev/null"],
        &["--baseline", "/dev/null", "--fail-if", "p50>+1%"],
        &["--fail-if", "p50>20"],
    ];
    for args in wrong {
        let output = pathtrace().arg("compare").args(args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}
