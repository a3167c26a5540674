//! Names of processes and devices, kept from the first sight so that they outlive what they name.

use std::sync::Arc;

use hashbrown::HashMap;
use tracer_common::event::{DeviceRecord, NAMES_DROP_REASON, NAMES_FUNCTION, NameRecord, TaskRecord};

use super::in_flight::{Drop, Who};
use crate::model::{Comm, Device, Dropped, Task};

/// All names, bounded.
pub(super) struct Names {
    limit: usize,
    tasks: HashMap<u32, Comm>,
    devices: HashMap<(u32, u32), Arc<str>>,
    functions: HashMap<u64, Arc<str>>,
    drop_reasons: HashMap<u64, Arc<str>>,
    loopback: Arc<str>,
}

impl Names {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            tasks: HashMap::new(),
            devices: HashMap::new(),
            functions: HashMap::new(),
            drop_reasons: HashMap::new(),
            loopback: Arc::from("lo"),
        }
    }

    pub(super) fn announce_task(&mut self, record: &TaskRecord) {
        if self.tasks.len() < self.limit || self.tasks.contains_key(&record.tgid) {
            self.tasks.insert(record.tgid, Comm(record.comm));
        }
    }

    pub(super) fn announce_device(&mut self, record: &DeviceRecord) {
        let end = record.name.iter().position(|byte| *byte == 0).unwrap_or(record.name.len());
        let name = String::from_utf8_lossy(&record.name[..end]);
        let key = (record.netns, record.ifindex);
        if self.devices.len() < self.limit || self.devices.contains_key(&key) {
            self.devices.insert(key, Arc::from(name));
        }
    }

    pub(super) fn announce_name(&mut self, record: &NameRecord) {
        let names = match record.of {
            NAMES_FUNCTION => &mut self.functions,
            NAMES_DROP_REASON => &mut self.drop_reasons,
            _ => return,
        };
        if names.len() < self.limit {
            let name = &record.name[..usize::from(record.len).min(record.name.len())];
            names.insert(record.number, Arc::from(String::from_utf8_lossy(name)));
        }
    }

    /// The name of a drop reason.
    pub(super) fn drop_reason(&self, reason: Option<u32>) -> Option<&str> {
        self.drop_reasons.get(&u64::from(reason?)).map(AsRef::as_ref)
    }

    /// Where and why a packet was dropped, by name.
    pub(super) fn dropped(&self, drop: Drop) -> Dropped {
        Dropped {
            reason: drop.reason,
            reason_name: drop.reason.and_then(|reason| self.drop_reasons.get(&u64::from(reason))).cloned(),
            location: drop.location,
            function: self.functions.get(&drop.location).cloned(),
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.tasks.len(), self.devices.len()]
    }

    pub(super) fn task(&self, who: Who) -> Task {
        let Who { process, thread } = who;
        Task { pid: process, tid: (thread != 0).then_some(thread), comm: self.tasks.get(&process).copied() }
    }

    pub(super) fn device(&self, netns: u32, ifindex: u32) -> Device {
        let name = match self.devices.get(&(netns, ifindex)) {
            Some(name) => Some(Arc::clone(name)),
            None if ifindex == Device::LOOPBACK => Some(Arc::clone(&self.loopback)),
            None => None,
        };
        Device { netns, ifindex, name }
    }
}
