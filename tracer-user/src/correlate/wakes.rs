//! The scheduler's part in a delivery.

use hashbrown::HashMap;
use tracer_common::event::HopRecord;

use super::in_flight::Packet;
use crate::model::Hop;

/// The last so many threads that were woken are remembered, and up to as many before.
const THREADS: usize = 4096;

/// A thread that was woken for a socket.
#[derive(Clone, Copy, Debug)]
struct Wake {
    sk: u64,
    waking: Hop,
    switched: Option<Hop>,
}

/// The threads that were woken and have not read yet.
#[derive(Default)]
pub(super) struct Wakes {
    woken: HashMap<u32, Wake>,
    /// Those that were there when `woken` was last full.
    before: HashMap<u32, Wake>,
}

impl Wakes {
    /// A thread is made runnable.
    pub(super) fn waking(&mut self, record: &HopRecord, hop: Hop) {
        if self.woken.len() >= THREADS {
            std::mem::swap(&mut self.woken, &mut self.before);
            self.woken.clear();
        }
        self.woken.insert(record.tid, Wake { sk: record.sk, waking: hop, switched: None });
    }

    /// A thread gets a CPU.
    pub(super) fn switched(&mut self, record: &HopRecord, hop: Hop) {
        let wake = self.woken.get_mut(&record.tid).or_else(|| self.before.get_mut(&record.tid));
        if let Some(wake) = wake
            && wake.sk == record.sk
            && wake.waking.time_ns <= hop.time_ns
        {
            wake.switched.get_or_insert(hop);
        }
    }

    /// Gives a packet that the thread `tid` reads at `read_ns` what the scheduler did for it. A thread that reads other
    /// than the one that was woken, or that was woken for another socket, was not waiting for it; and what happened before
    /// the packet was there did not happen for it.
    pub(super) fn give(&self, tid: u32, read_ns: u64, packet: &mut Packet) {
        let Some(wake) = self.get(tid) else { return };
        if packet.woken_on == 0 || wake.sk != packet.woken_on {
            return;
        }
        for hop in [Some(wake.waking), wake.switched].into_iter().flatten() {
            // Of a message that is read in parts, the first read is what the thread was woken for.
            if (packet.last_ns()..=read_ns).contains(&hop.time_ns) && !packet.passed(hop.point) {
                packet.add(hop);
            }
        }
    }

    /// Reads what is known of a thread.
    pub(super) fn touch(&self, tid: u32) -> u64 {
        self.get(tid).map_or(0, |wake| wake.sk)
    }

    fn get(&self, tid: u32) -> Option<&Wake> {
        self.woken.get(&tid).or_else(|| self.before.get(&tid))
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.woken.len() + self.before.len()
    }
}
