//! Nothing stays in the kernel, whatever ends pathtrace.

use std::{collections::BTreeSet, process::Stdio};

use crate::support::{Trace, backends, free_port, one_backend, our_programs, pathtrace, wait_until};

#[test]
fn no_program_outlives_pathtrace() {
    for backend in backends() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let before = our_programs();
            let trace = Trace::start(&backend, &["--port", "8888"]);
            let attached: BTreeSet<u32> = our_programs().difference(&before).copied().collect();
            assert!(attached.len() > 4, "attached: {attached:?}");
            trace.signal(signal);
            let said = trace.end();
            assert_eq!(said.status.success(), signal != libc::SIGKILL, "{}", said.stderr);
            // The kernel frees programs after a grace period of its own.
            wait_until("the programs are gone", || our_programs().is_disjoint(&attached));
        }
    }
}

/// `pathtrace | head`, on a quiet machine: nothing is written that would fail.
#[test]
fn a_trace_that_nobody_reads_ends_without_traffic() {
    let Some(backend) = one_backend() else { return };
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut command = pathtrace();
    command.args(["--backend", &backend, "--port", &free_port().to_string(), "--ready-file"]).arg(&ready);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is ready", || ready.exists());
    drop(child.stdout.take());
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}
