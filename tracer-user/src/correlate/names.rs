//! Names of processes and devices, kept from the first sight so that they outlive what they name.

use std::sync::Arc;

use hashbrown::HashMap;
use tracer_common::event::{DeviceRecord, TaskRecord};

use crate::model::{Comm, Device, Task};

/// All names, bounded.
pub(super) struct Names {
    limit: usize,
    tasks: HashMap<u32, Comm>,
    devices: HashMap<(u32, u32), Arc<str>>,
    loopback: Arc<str>,
}

impl Names {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, tasks: HashMap::new(), devices: HashMap::new(), loopback: Arc::from("lo") }
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

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.tasks.len(), self.devices.len()]
    }

    pub(super) fn task(&self, pid: u32) -> Task {
        Task { pid, comm: self.tasks.get(&pid).copied() }
    }

    pub(super) fn device(&self, netns: u32, ifindex: u32) -> Device {
        let name = match self.devices.get(&(netns, ifindex)) {
            Some(name) => Some(Arc::clone(name)),
            None if ifindex == Device::LOOPBACK => Some(Arc::clone(&self.loopback)),
            None => None,
        };
        Device { ifindex, name }
    }
}
