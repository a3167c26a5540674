//! Loads the compiled programs with the running kernel's offsets and the plan's settings written into them.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapError},
};
use tracer_common::settings::{EVENTS, PORTS};

use super::{CollectError, Plan};
use crate::kernel::btf::Btf;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pathtrace-bpf.o"));

/// Everything up to `LOG_DEBUG`, and nothing at all, for `AYA_LOG_LEVEL`.
const LOG_DEBUG: u8 = aya_log::Level::Debug as u8;
const LOG_NOTHING: u8 = 0;

/// Creates the maps and prepares the programs; none is in the kernel yet.
pub(super) fn load(plan: &Plan, btf: &Btf) -> Result<Ebpf, CollectError> {
    raise_memory_limit();
    let offsets = btf.offsets()?;
    let ports = plan.filter.kernel_ports();
    let log_level = if plan.debug_log { LOG_DEBUG } else { LOG_NOTHING };
    let mut loader = EbpfLoader::new();
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    loader
        .override_global(PORTS, &ports, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .map_max_entries(EVENTS, plan.buffer_bytes)
        .load(OBJECT)
        .map_err(CollectError::Load)
}

/// Takes a map out of the object.
pub(super) fn take<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(Map) -> Result<T, MapError>,
) -> Result<T, CollectError> {
    convert(ebpf.take_map(name).ok_or(CollectError::NoMap(name))?).map_err(CollectError::map(name))
}

/// Before 5.11 maps count against the limit of locked memory. Later kernels do not care, and some refuse to raise it:
/// so a refusal is no error, and creating the maps will tell.
fn raise_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives through the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        log::debug!("RLIMIT_MEMLOCK stays as it is: {}", std::io::Error::last_os_error());
    }
}
