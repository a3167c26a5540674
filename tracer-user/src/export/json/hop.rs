//! The hops of a path.

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use crate::{
    export::Extra,
    model::{Coverage, Hop, Path},
};

/// Serializes the hops one by one, without a list of them.
pub(super) struct Hops<'a> {
    pub(super) path: &'a Path,
    pub(super) coverage: &'a Coverage,
}

impl Serialize for Hops<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let start_ns = self.path.start_ns();
        let mut list = to.serialize_seq(Some(self.path.hops.len()))?;
        for hop in &self.path.hops {
            list.serialize_element(&Entry::of(hop, start_ns, self.coverage))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    hop: &'static str,
    function: Option<&'a str>,
    backend: &'static str,
    cpu: u32,
    ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
}

impl<'a> Entry<'a> {
    fn of(hop: &Hop, start_ns: u64, coverage: &'a Coverage) -> Self {
        let (mut table, mut target_cpu, mut ifindex) = (None, None, None);
        match Extra::of(hop) {
            Some(Extra::Table(id)) => table = Some(id),
            Some(Extra::TargetCpu(cpu)) => target_cpu = Some(cpu),
            Some(Extra::Interface(index)) => ifindex = Some(index),
            None => {}
        }
        Self {
            hop: hop.point.row().hop,
            function: coverage.attached(hop.point).map(|attached| attached.function.as_str()),
            backend: hop.backend.name(),
            cpu: hop.cpu,
            ns: hop.time_ns.saturating_sub(start_ns),
            table,
            target_cpu,
            ifindex,
        }
    }
}
