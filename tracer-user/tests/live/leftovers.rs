//! Nothing stays in the kernel, whatever ends pathtrace.

use std::collections::BTreeSet;

use aya::programs::loaded_programs;

use crate::support::{Trace, backends, wait_until};

/// Identifiers of the programs in the kernel that bear our names.
fn ours() -> BTreeSet<u32> {
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| {
            let name = String::from_utf8_lossy(program.name()).into_owned();
            ["fentry_", "kprobe_", "tracepoint_"].iter().any(|start| name.starts_with(start))
        })
        .map(|program| program.id())
        .collect()
}

#[test]
fn no_program_outlives_pathtrace() {
    for backend in backends() {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let before = ours();
            let trace = Trace::start(&backend, &["--port", "8888"]);
            let attached: BTreeSet<u32> = ours().difference(&before).copied().collect();
            assert!(attached.len() > 4, "attached: {attached:?}");
            trace.signal(signal);
            let said = trace.end();
            assert_eq!(said.status.success(), signal != libc::SIGKILL, "{}", said.stderr);
            // The kernel frees programs after a grace period of its own.
            wait_until("the programs are gone", || ours().is_disjoint(&attached));
        }
    }
}
