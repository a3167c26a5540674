//! Against the kernel that runs the tests, where it describes its types.

use tracer_common::fields::FIELDS;
use tracer_common::probes::PROBES;

use super::*;

fn running() -> Option<Btf> {
    Btf::running().inspect_err(|error| eprintln!("skipped: {error}")).ok()
}

#[test]
fn every_field_is_found() {
    let Some(btf) = running() else { return };
    let offsets = btf.offsets().unwrap();
    assert_eq!(offsets.len(), FIELDS.len());
    let of = |global| offsets.iter().find(|(name, _)| *name == global).map(|(_, offset)| *offset);
    // struct sock_common starts with the addresses (skc_daddr, skc_rcv_saddr) and ends far behind the ports, on every
    // kernel since 3.9 (inet_ehashfn and INET_ADDR_COOKIE rely on it).
    assert_eq!(of("SOCK_DADDR"), Some(0));
    assert_eq!(of("SOCK_RCV_SADDR"), Some(4));
    assert_eq!(of("SOCK_DPORT"), Some(12));
    assert_eq!(of("SOCK_NUM"), Some(14));
}

#[test]
fn every_function_takes_what_its_reader_reads() {
    let Some(btf) = running() else { return };
    for functions in PROBES.iter().filter_map(|probe| probe.functions().ok()) {
        for function in functions.names {
            if let Some(actual) = btf.function_args(function) {
                assert_eq!(check_args(function, functions.args, &actual), Ok(()));
            }
        }
    }
}

#[test]
fn every_tracepoint_takes_what_its_reader_reads() {
    let Some(btf) = running() else { return };
    for tracepoint in PROBES.iter().flat_map(|probe| probe.tracepoint().ok().into_iter().chain(probe.alone)) {
        if let Some(actual) = btf.tracepoint_args(tracepoint.name()) {
            assert_eq!(check_args(tracepoint.name(), tracepoint.args, &actual), Ok(()));
        }
    }
}
