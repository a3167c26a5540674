//! Everything that ends a run ends it with the summary.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    process::{Child, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::support::{Trace, free_port, one_backend, pathtrace, ping_pong, round_trips, wait_until};

#[test]
fn count_shows_exactly_as_many_paths() {
    if let Some(backend) = one_backend() {
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
    if let Some(backend) = one_backend() {
        let said = Trace::start(&backend, &["--port", "8888", "--duration", "200ms"]).end();
        said.assert_whole();
        assert!(said.summary["duration_ns"].as_u64() >= Some(200_000_000), "{}", said.summary);
    }
}

#[test]
fn terminate_ends_with_the_summary() {
    if let Some(backend) = one_backend() {
        let trace = Trace::start(&backend, &["--port", "8888"]);
        trace.signal(libc::SIGTERM);
        let said = trace.end();
        assert!(said.status.success());
        assert_eq!(said.summary["kind"], "summary");
    }
}

#[test]
fn a_command_is_traced_and_its_status_passed_on() {
    if let Some(backend) = one_backend() {
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
    if let Some(backend) = one_backend() {
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
        wait_until("pathtrace is ready", || ready.exists());
        drop(child.stdout.take());
        let traffic = thread::spawn(move || ping_pong((Ipv4Addr::LOCALHOST, port).into(), 200, 100));
        let said = child.wait_with_output().unwrap();
        traffic.join().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    }
}

/// Longer than two deliveries of one signal may be apart.
const A_MOMENT: Duration = Duration::from_millis(300);

fn kill(child: &Child, signal: i32) {
    // SAFETY: no memory is involved; the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), signal) }, 0);
}

fn end(mut child: Child) -> ExitStatus {
    let mut status = None;
    wait_until("pathtrace ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

#[test]
fn a_second_signal_ends_even_a_run_whose_reader_has_stopped() {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut child = pathtrace()
            .args(["--json", "--quiet", "--backend", &backend, "--port", &port.to_string(), "--ready-file"])
            .arg(&ready)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("pathtrace is ready", || ready.exists());
        // More than the pipe holds.
        ping_pong((Ipv4Addr::LOCALHOST, port).into(), 1000, 100);
        thread::sleep(A_MOMENT);
        // As `timeout` does: to the process, and to its group.
        kill(&child, libc::SIGTERM);
        kill(&child, libc::SIGTERM);
        thread::sleep(A_MOMENT);
        assert_eq!(child.try_wait().unwrap(), None, "blocked");
        kill(&child, libc::SIGTERM);
        let pipe = child.stdout.take();
        assert_eq!(end(child).code(), Some(128 + libc::SIGTERM));
        drop(pipe);
    }
}

#[test]
fn a_hang_up_that_is_ignored_stays_ignored_and_an_interrupt_does_not() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let child = std::process::Command::new("sh")
            .args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""])
            .arg(pathtrace().get_program())
            .args(["--quiet", "--summary", "--backend", &backend, "--port", "8888", "--ready-file"])
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn();
        let mut child = child.unwrap();
        wait_until("pathtrace is ready", || ready.exists());
        kill(&child, libc::SIGHUP);
        thread::sleep(A_MOMENT);
        assert_eq!(child.try_wait().unwrap(), None);
        kill(&child, libc::SIGINT);
        assert_eq!(end(child).code(), Some(0));
    }
}

#[test]
fn a_command_outlives_tracing_and_its_status_counts() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let end = folder.path().join("end");
        let script = format!("while [ ! -e {} ]; do sleep 0.05; done; exit 9", end.display());
        let mut child = pathtrace()
            .args(["--json", "--backend", &backend, "--port", "8888", "--duration", "50ms"])
            .args(["--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody reads the summary: no business of the command's.
        drop(child.stdout.take());
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let goes_on = said.by_ref().any(|line| line.unwrap().contains("the command goes on"));
        assert!(goes_on, "pathtrace ended: {:?}", child.wait());
        fs::write(&end, "").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

/// Others close their connections when they have heard of the command's end.
#[test]
fn what_follows_a_commands_end_is_seen() {
    let Some(backend) = one_backend() else { return };
    let last_packet_is_seen = || {
        let folder = tempfile::tempdir().unwrap();
        let (pid, end) = (folder.path().join("pid"), folder.path().join("end"));
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let listener = TcpListener::bind(at).unwrap();
        let script = "echo $$ > $0.part; mv $0.part $0; while [ ! -e $1 ]; do sleep 0.01; done";
        let trace = Trace::start_as(
            &["--json", "--backend", &backend, "--port", &at.port().to_string()],
            &["--".as_ref(), "sh".as_ref(), "-c".as_ref(), script.as_ref(), pid.as_os_str(), end.as_os_str()],
        );
        let client = TcpStream::connect(at).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        client.set_nodelay(true).unwrap();
        wait_until("the command is there", || pid.exists());
        let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
        fs::write(&end, "").unwrap();
        // SAFETY: no memory is involved, and no signal is sent. pathtrace takes its exit status, and only then is it gone.
        wait_until("the command has ended", || unsafe { libc::kill(pid, 0) } != 0);
        round_trips(client, server, 10, 100);
        let said = trace.end();
        said.assert_whole();
        said.paths.iter().any(|path| path["tcp"]["flags"] == "FA")
    };
    // This process may be kept from running for longer than is waited for.
    assert!((0..10).any(|_| last_packet_is_seen()));
}

#[test]
fn a_signal_to_pathtrace_alone_is_passed_on_to_the_command() {
    if let Some(backend) = one_backend() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let folder = tempfile::tempdir().unwrap();
            let trapped = folder.path().join("trapped");
            let script = format!(
                "trap 'exit 5' INT TERM HUP; : > {}; while :; do sleep 0.05; done",
                trapped.display()
            );
            let trace = Trace::start(&backend, &["--port", "8888", "--", "sh", "-c", &script]);
            wait_until("the command is ready", || trapped.exists());
            trace.signal(signal);
            let said = trace.end();
            assert_eq!(said.status.code(), Some(5), "{}", said.stderr);
            assert_eq!(said.summary["kind"], "summary");
        }
    }
}

#[test]
fn a_status_that_cannot_be_had_is_an_error() {
    if let Some(backend) = one_backend() {
        // Where SIGCHLD is ignored, the kernel forgets how children ended.
        let mut command = pathtrace();
        // SAFETY: `signal` may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                Ok(())
            });
        }
        let said =
            command.args(["--json", "--backend", &backend, "--port", "8888", "--", "true"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("wait for the command"), "{stderr}");
    }
}

#[test]
fn nothing_is_ready_if_the_command_cannot_start() {
    if let Some(backend) = one_backend() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        fs::write(&ready, "").unwrap();
        // It is there, and may be run: only whoever starts it finds out.
        let command = folder.path().join("command");
        fs::write(&command, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
        let said = pathtrace()
            .args(["--backend", &backend, "--port", "8888", "--ready-file"])
            .arg(&ready)
            .arg("--")
            .arg(&command)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("cannot start"), "{stderr}");
        assert!(!ready.exists());
    }
}

/// What cannot end well is said before anything is attached, and so before anything is said of that.
#[test]
fn what_is_missing_is_said_before_anything_is_attached() {
    if let Some(backend) = one_backend() {
        for (args, says) in [
            (&["-o", "/no/such/folder/x", "--", "true"][..], "cannot create /no/such/folder/x: "),
            (&["--ready-file", "/no/such/folder/x"], "cannot create /no/such/folder/x: "),
            (&["--ready-file", "/dev/null"], "cannot replace /dev/null: it is no regular file"),
            (&["--", "missing-command"], "cannot start \"missing-command\": "),
            (&["record", "-w", "/no/such/folder/x"], "cannot write /no/such/folder/x: "),
            (&["record", "-w", "/dev/null", "--", "missing-command"], "cannot start \"missing-command\": "),
            (&["compare", "--tcp", "1", "--unix", "@x", "--", "/"], "cannot start \"/\": "),
        ] {
            // Options follow the verb.
            let (verb, rest) = args.split_at(usize::from(!args[0].starts_with('-')));
            let said = pathtrace().args(verb).args(["--backend", &backend]).args(rest).output().unwrap();
            let stderr = String::from_utf8_lossy(&said.stderr);
            assert_eq!(said.status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.starts_with(&format!("pathtrace: {says}")), "{args:?}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
        }
    }
}

/// What is made when tracing has begun is a new file.
#[test]
fn a_ready_file_is_in_nobodys_place() {
    let Some(backend) = one_backend() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [other, output, link] = ["other", "output", "link"].map(|name| folder.path().join(name));
    fs::write(&other, "something else").unwrap();
    symlink(&other, &link).unwrap();
    let name = output.to_str().unwrap();
    let cases: [(_, &[&str], _); 4] = [
        (&other, &["--duration", "1ms"], "cannot replace "),
        (&link, &["--duration", "1ms"], "cannot replace "),
        (&output, &["--json", "-o", name, "--", "/no/such/command"], "cannot create "),
        (&output, &["--write", name, "--", "/no/such/command"], "cannot create "),
    ];
    for (file, args, says) in cases {
        let verb: &[&str] = if args[0] == "--write" { &["record"] } else { &[] };
        let said = pathtrace()
            .args(verb)
            .args(["-q", "--backend", &backend, "--ready-file"])
            .arg(file)
            .args(args)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("pathtrace: {says}{}: ", file.display())), "{stderr}");
    }
    assert_eq!(fs::read(&other).unwrap(), b"something else");
    assert!(link.is_symlink());
    let stdout = fs::File::create(&output).unwrap();
    let args = ["--json", "--backend", &backend, "--duration", "1ms", "--ready-file", name];
    let said = pathtrace().args(args).stdout(stdout).output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(stderr, format!("pathtrace: cannot replace {name}: it is the output\n"));
}

#[test]
fn files_stay_as_they_were_if_a_trace_cannot_begin() {
    if one_backend().is_some() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, types) =
            (folder.path().join("old"), folder.path().join("new"), folder.path().join("types"));
        fs::write(&old, "from an earlier run").unwrap();
        fs::write(&types, "none").unwrap();
        for verb in [&["-o"][..], &["record", "-w"]] {
            for file in [&old, &new] {
                let said = pathtrace().args(verb).arg(file).arg("--btf").arg(&types).output().unwrap();
                assert_eq!(said.status.code(), Some(2), "{}", String::from_utf8_lossy(&said.stderr));
            }
            assert_eq!(fs::read(&old).unwrap(), b"from an earlier run");
            assert!(!new.exists(), "{verb:?}");
        }
    }
}

#[test]
fn a_full_standard_error_is_no_reason_to_fail() {
    if let Some(backend) = one_backend() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = pathtrace()
            .args(["--json", "--backend", &backend, "--port", "8888", "--duration", "50ms"])
            .stderr(full)
            .output()
            .unwrap();
        assert_eq!(said.status.code(), Some(0));
        let summary: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(summary["kind"], "summary");
    }
}
