//! Nothing stays in the kernel, whatever ends pathtrace.

use std::collections::BTreeSet;

use crate::support::{Trace, backends, our_programs, wait_until};

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
