//! Loads the compiled programs with the running kernel's offsets and the plan's settings written into them.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapError},
};
use tracer_common::settings::{self, AddressPattern, UnixPattern};

use super::{CollectError, Plan, calls, instructions, ring::Size};
use crate::kernel::btf::Btf;

pub(super) static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pathtrace-bpf.o"));

/// Everything up to `LOG_DEBUG`, and nothing at all, for `AYA_LOG_LEVEL`.
const LOG_DEBUG: u8 = aya_log::Level::Debug as u8;
const LOG_NOTHING: u8 = 0;

/// The first kernel with `bpf_get_current_task_btf`.
const TYPED_TASKS_SINCE: (u32, u32) = (5, 11);

/// Creates the maps and prepares the programs; none is in the kernel yet.
pub(super) fn load(plan: &Plan, size: Size, btf: &Btf) -> Result<Ebpf, CollectError> {
    raise_memory_limit();
    let offsets = btf.offsets()?;
    let filter = &plan.filter;
    let numbers = [filter.ports(), filter.source_ports(), filter.destination_ports()];
    let (pids, namespaces, protocols) = (filter.pids(), filter.namespaces(), filter.protocol_bits());
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let addresses = count(filter.addresses().len());
    let comms = count(filter.comms().len());
    let interfaces = count(filter.interfaces().len());
    let unix = count(filter.unix_patterns().len());
    let reasons = u32::from(btf.tracepoint_args("kfree_skb").is_some_and(|args| args.len() > 2));
    let calls_are_seen = u32::from(plan.kernel >= calls::SEEN_SINCE);
    let tasks_are_typed = u32::from(plan.kernel >= TYPED_TASKS_SINCE);
    let cast = instructions::cast(plan.kernel, btf);
    let memory_is_loaded = u32::from(cast.is_some());
    log::debug!("programs read memory by {}", if cast.is_some() { "loads" } else { "a helper's calls" });
    log::debug!(
        "records go into {}",
        if size.count > 0 { "mapped slots" } else { "the kernel's ring buffer" }
    );
    let audit = u32::from(plan.audit);
    let (slot_count, slot_limit) = (size.count as u64, size.limit as u64);
    let log_level = if plan.debug_log { LOG_DEBUG } else { LOG_NOTHING };
    let mut loader = EbpfLoader::new();
    for (global, offset) in &offsets {
        loader.override_global(global, offset, true);
    }
    loader
        .override_global(settings::PORTS, &numbers[0], true)
        .override_global(settings::SOURCE_PORTS, &numbers[1], true)
        .override_global(settings::DESTINATION_PORTS, &numbers[2], true)
        .override_global(settings::PIDS, &pids, true)
        .override_global(settings::NAMESPACES, &namespaces, true)
        .override_global(settings::PROTOCOLS, &protocols, true)
        .override_global(settings::ADDRESS_COUNT, &addresses, true)
        .override_global(settings::COMM_COUNT, &comms, true)
        .override_global(settings::INTERFACE_COUNT, &interfaces, true)
        .override_global(settings::UNIX_PATTERN_COUNT, &unix, true)
        .override_global(settings::DROPS_HAVE_REASONS, &reasons, true)
        .override_global(settings::SYSTEM_CALLS, &calls::NUMBERS, true)
        .override_global(settings::LOW_CALLS, &calls::LOW, true)
        .override_global(settings::CALL_ARGUMENTS, &calls::ARGUMENTS, true)
        .override_global(settings::CALL_NUMBER, &calls::NUMBER, true)
        .override_global(settings::CODE_SEGMENT, &calls::CODE_SEGMENT, true)
        .override_global(settings::CALLS_ARE_SEEN, &calls_are_seen, true)
        .override_global(settings::TASKS_ARE_TYPED, &tasks_are_typed, true)
        .override_global(settings::MEMORY_IS_LOADED, &memory_is_loaded, true)
        .override_global(settings::SAMPLE, &plan.sample, true)
        .override_global(settings::AUDIT, &audit, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .override_global(settings::SLOT_COUNT, &slot_count, true)
        .override_global(settings::SLOT_LIMIT, &slot_limit, true)
        // There is nothing to relocate: Rust's compiler does not say what is a field of the kernel's.
        .btf(None);
    if size.count == 0 {
        loader.map_max_entries(settings::EVENTS, plan.buffer_bytes);
    } else {
        loader.map_max_entries(settings::SLOTS, size.pairs());
    }
    let object = instructions::with(OBJECT, cast, size.count > 0);
    // SAFETY: integers have no padding.
    let mut ebpf = loader.load(unsafe { plain::as_bytes(&object[..]) }).map_err(CollectError::Load)?;
    fill(&mut ebpf, settings::ADDRESSES, filter.addresses().into_iter().map(Pod))?;
    fill(&mut ebpf, settings::COMMS, filter.comms())?;
    fill(&mut ebpf, settings::INTERFACES, filter.interfaces())?;
    fill(&mut ebpf, settings::UNIX_PATTERNS, filter.unix_patterns().into_iter().map(Pod))?;
    Ok(ebpf)
}

/// What a map of settings holds, for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Pod<T>(T);

// SAFETY: `repr(C)`, integers only, no implicit padding.
unsafe impl aya::Pod for Pod<AddressPattern> {}
// SAFETY: as above.
unsafe impl aya::Pod for Pod<UnixPattern> {}

/// Writes the first elements of an array.
fn fill<T: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    values: impl IntoIterator<Item = T>,
) -> Result<(), CollectError> {
    let map = ebpf.map_mut(name).ok_or(CollectError::NoMap(name))?;
    let mut array = Array::<_, T>::try_from(map).map_err(CollectError::map(name))?;
    for (index, value) in values.into_iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        array.set(index, value, 0).map_err(CollectError::map(name))?;
    }
    Ok(())
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
pub(super) fn raise_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` lives through the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        log::debug!("RLIMIT_MEMLOCK stays as it is: {}", std::io::Error::last_os_error());
    }
}
