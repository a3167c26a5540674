//! The one writer of records.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    },
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_common::{
    event::{COMM_LEN, HopRecord, KIND_HOP, KIND_TASK, KINDS, TaskRecord},
    probes::{Backend, Context, Point},
};

use crate::{
    counter::add_one,
    kread::{self, offset},
};

/// A wake-up of the reader costs more than a hundred events, so none is sent: the reader looks on a timer.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// The size is set by userspace.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

#[map]
static ENABLED: Array<u32> = Array::with_max_entries(1, 0);

/// The name under which a process was last announced.
#[map]
static TASKS: LruHashMap<u32, [u8; COMM_LEN]> = LruHashMap::with_max_entries(16384, 0);

/// What every hop record says of where and when its probe fired.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    point: Point,
    backend: Backend,
    time_ns: u64,
    in_process: bool,
}

impl Meta {
    /// Takes the time, or `None` while tracing is switched off.
    #[inline(always)]
    pub(crate) fn start(point: Point, backend: Backend, context: Context) -> Option<Self> {
        let in_process = matches!(context, Context::Process);
        // SAFETY: the helper has no preconditions.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        (ENABLED.get(0).copied().unwrap_or(0) != 0).then_some(Self { point, backend, time_ns, in_process })
    }

    /// The same, where a point of process context may have been reached otherwise.
    #[inline(always)]
    pub(crate) fn in_process_if(self, condition: bool) -> Self {
        Self { in_process: self.in_process && condition, ..self }
    }
}

/// What a reader found out; the rest of a [`HopRecord`] is the same everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Hop {
    pub(crate) skb: u64,
    pub(crate) sk: u64,
    pub(crate) flow: u64,
    pub(crate) tcp_flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) len: u32,
    pub(crate) aux: u32,
}

/// Writes the record of one hop.
#[inline(always)]
pub(crate) fn hop(meta: Meta, hop: Hop) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if meta.in_process {
        task((pid_tgid >> 32) as u32);
    }
    submit(
        KIND_HOP,
        HopRecord {
            kind: KIND_HOP,
            point: meta.point as u8,
            backend: meta.backend as u8,
            tcp_flags: hop.tcp_flags,
            cpu: cpu(),
            time_ns: meta.time_ns,
            skb: hop.skb,
            sk: hop.sk,
            flow: hop.flow,
            tgid: if meta.in_process { (pid_tgid >> 32) as u32 } else { 0 },
            tid: pid_tgid as u32,
            seq: hop.seq,
            ack: hop.ack,
            len: hop.len,
            aux: hop.aux,
        },
    );
}

/// Announces the name of the process on the CPU, if it is not known under this name yet. The leader's name: that of
/// whichever thread comes by would change with every call.
#[inline(always)]
fn task(tgid: u32) {
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let leader = kread::u64_field(task, &offset::TASK_GROUP_LEADER);
    let comm: [u8; COMM_LEN] = kread::read(leader, u64::from(offset::TASK_COMM.load()));
    // SAFETY: an LRU map may hand this entry to another key while it is read; a torn name only makes the
    // comparison fail, and the name is sent once more.
    if let Some(known) = unsafe { TASKS.get(tgid) }
        && *known == comm
    {
        return;
    }
    if submit(KIND_TASK, TaskRecord { kind: KIND_TASK, pad: 0, pad2: 0, tgid, comm }) {
        // If the map is busy the name is sent again next time: no harm.
        let _ = TASKS.insert(tgid, comm, 0);
    }
}

/// The CPU that this program runs on.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// Puts a record into the ring buffer, or counts it as lost; says whether it was put.
#[inline(always)]
pub(crate) fn submit<T: 'static>(kind: u8, record: T) -> bool {
    if let Some(mut entry) = EVENTS.reserve::<T>(0) {
        entry.write(record);
        entry.submit(BPF_RB_NO_WAKEUP);
        return true;
    }
    if let Some(lost) = LOST.get_ptr_mut(u32::from(kind)) {
        // SAFETY: the kernel gave this CPU's slot, aligned and alive. Atomic, because a program in a softirq may
        // interrupt this one on the same CPU between load and store.
        unsafe { add_one(lost) };
    }
    false
}
