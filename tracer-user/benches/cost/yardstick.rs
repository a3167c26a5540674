//! Programs at the tracepoints of pathtrace's hops that do nothing, or only what every tracer must.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use aya::{
    Btf, EbpfLoader, Endianness,
    maps::{MapData, RingBuf},
    programs::BtfTracePoint,
};
use tracer_common::probes::{PROBES, Point, Tracepoint};

use crate::target::Target;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/yardstick-bpf.o"));

/// As large as pathtrace's own.
const BUFFER_BYTES: u32 = 16 << 20;

/// Attached programs. Dropping it detaches them.
pub(crate) struct Yardstick {
    records: RingBuf<MapData>,
    _programs: aya::Ebpf,
}

impl Yardstick {
    /// Attaches the programs of this kind wherever pathtrace looks for this target, and where `takes` says so.
    pub(crate) fn attach(kind: &str, target: &Target, takes: impl Fn(Point) -> bool) -> Result<Self> {
        let mut programs =
            EbpfLoader::new().map_max_entries("RECORDS", BUFFER_BYTES).load(OBJECT).context("cannot load")?;
        let records = programs.take_map("RECORDS").context("the object has no map RECORDS")?;
        let btf = Btf::parse_file("/sys/kernel/btf/vmlinux", Endianness::default())?;
        let kernel = pathtrace::kernel::btf::Btf::running()?;
        let filter = target.understood()?;
        // Several points may share a program.
        let mut attached = HashSet::new();
        for point in PROBES.iter().filter(|point| filter.needs(point) && takes(point.point)) {
            let is_there = |(_, it): &(Point, Tracepoint)| kernel.tracepoint_args(it.name()).is_some();
            let Some((owner, tracepoint)) = point.tracepoints(|row| filter.needs(row)).find(is_there) else {
                continue;
            };
            let name = format!("{kind}_{}", owner.row().hop);
            if !attached.insert(name.clone()) {
                continue;
            }
            let program = programs.program_mut(&name).with_context(|| format!("no program {name}"))?;
            let program: &mut BtfTracePoint = program.try_into()?;
            let attached = program.load(tracepoint.name(), &btf).and_then(|()| program.attach());
            attached.with_context(|| format!("cannot attach to {}", tracepoint.full_name))?;
        }
        Ok(Self { records: RingBuf::try_from(records)?, _programs: programs })
    }

    /// Takes all records, as a full buffer would be cheaper than one with room.
    pub(crate) fn drain(&mut self) {
        while self.records.next().is_some() {}
    }
}
