//! The in-kernel filter. It runs before anything is written, so traffic that it excludes never reaches the ring buffer.

use aya_ebpf::Global;
use tracer_common::settings::MAX_PORTS;

#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_PORTS]> = Global::new([0; MAX_PORTS]);

/// Whether traffic with these ports (host byte order) is wanted. A constant `true` for the verifier when no port is
/// given, and as many comparisons as there are ports otherwise.
#[inline(always)]
pub(crate) fn ports(source: u16, destination: u16) -> bool {
    let wanted = PORTS.load();
    if wanted[0] == 0 {
        return true;
    }
    let mut matches = false;
    for port in wanted {
        matches |= port != 0 && (port == source || port == destination);
    }
    matches
}

/// Whether traffic without ports (UNIX sockets) is wanted.
#[inline(always)]
pub(crate) fn portless() -> bool {
    PORTS.load()[0] == 0
}
