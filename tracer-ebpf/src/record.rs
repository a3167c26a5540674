//! The one writer of records.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    },
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use tracer_common::{
    event::{HopRecord, KIND_HOP, KIND_TASK, KINDS, TaskRecord},
    probes::{Backend, Context, Point},
};

use crate::{
    counter::add,
    filter,
    kread::{self, Address, offset},
    words::{Name, bytes_of, until_nul},
};

/// A wake-up of the reader costs more than a hundred events, so none is sent: the reader looks on a timer.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// The size is set by userspace.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

/// Whether each record that a program wants to write is counted. Where it is not, the verifier leaves the counting out.
#[unsafe(no_mangle)]
static AUDIT: Global<u32> = Global::new(0);

#[map]
static FIRED: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

#[map]
static ENABLED: Array<[u64; Backend::ALL.len()]> = Array::with_max_entries(1, 0);

/// The name under which a process was last announced.
#[map]
static TASKS: LruHashMap<u32, Name> = LruHashMap::with_max_entries(16384, 0);

/// What every hop record says of where and when its probe fired.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) point: Point,
    pub(crate) backend: Backend,
    pub(crate) time_ns: u64,
    in_process: bool,
}

impl Meta {
    /// Takes the time, or `None` while tracing is switched off.
    #[inline(always)]
    pub(crate) fn start(point: Point, backend: Backend, context: Context) -> Option<Self> {
        let in_process = matches!(context, Context::Process);
        // SAFETY: the helper has no preconditions.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        (enabled(backend) != 0).then_some(Self { point, backend, time_ns, in_process })
    }

    /// A moment in a process's call that has passed. `backend`: the number of the one that saw it.
    #[inline(always)]
    pub(crate) fn earlier(self, point: Point, time_ns: u64, backend: u32) -> Self {
        let mut meta = Self { point, time_ns, in_process: true, ..self };
        for one in Backend::ALL {
            if one as u32 == backend {
                meta.backend = one;
            }
        }
        meta
    }

    /// Another point of the same program; `None` if that is not asked of this backend.
    #[inline(always)]
    pub(crate) fn at(self, point: Point) -> Option<Self> {
        (enabled(self.backend) >> (point as u64) & 1 != 0).then_some(Self { point, ..self })
    }

    /// Whether the driver of a device other than the loopback device is given the packet.
    #[inline(always)]
    pub(crate) fn is_at_driver(&self) -> bool {
        self.point as u8 == Point::DevHardStartXmit as u8
    }

    /// The same, where a point of process context may have been reached otherwise.
    #[inline(always)]
    pub(crate) fn in_process_if(self, condition: bool) -> Self {
        Self { in_process: self.in_process && condition, ..self }
    }

    /// The process that uses the socket, announced by name; 0 where the process on the CPU means nothing.
    #[inline(always)]
    pub(crate) fn user(&self) -> u32 {
        if !self.in_process {
            return 0;
        }
        let tgid = tgid();
        task(tgid);
        tgid
    }

    /// What the process on the CPU says of the flow, if the kernel runs in its name.
    #[inline(always)]
    pub(crate) fn marks(&self) -> u32 {
        if self.in_process { filter::process() } else { 0 }
    }
}

#[inline(always)]
fn enabled(backend: Backend) -> u64 {
    ENABLED.get(0).map_or(0, |points| points[backend as usize])
}

/// What a reader found out; the rest of a [`HopRecord`] is the same everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Hop {
    pub(crate) skb: u64,
    pub(crate) sk: u64,
    pub(crate) flow: u64,
    pub(crate) tcp_flags: u8,
    pub(crate) marks: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) len: u32,
    pub(crate) aux: u32,
}

/// Writes the record of one hop.
#[inline(always)]
pub(crate) fn hop(meta: Meta, hop: Hop) {
    let user = meta.user();
    hop_of(meta, user, tid(), hop);
}

/// Writes the record of one hop that is about a thread that need not be the one on the CPU.
#[inline(always)]
#[allow(clippy::similar_names, reason = "the kernel's own")]
pub(crate) fn hop_of(meta: Meta, tgid: u32, tid: u32, hop: Hop) {
    submit(
        KIND_HOP,
        HopRecord {
            kind: KIND_HOP,
            point: meta.point as u8,
            backend: meta.backend as u8,
            tcp_flags: hop.tcp_flags,
            cpu: cpu() as u16,
            marks: hop.marks,
            time_ns: meta.time_ns,
            skb: hop.skb,
            sk: hop.sk,
            flow: hop.flow,
            tgid,
            tid,
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
    let comm = comm();
    // SAFETY: an LRU map may hand this entry to another key while it is read; a torn name only makes the
    // comparison fail, and the name is sent once more.
    if let Some(known) = unsafe { TASKS.get(tgid) }
        && *known == comm
    {
        return;
    }
    if submit(KIND_TASK, TaskRecord { kind: KIND_TASK, pad: 0, pad2: 0, tgid, comm: bytes_of(comm) }) {
        // If the map is busy the name is sent again next time: no harm.
        let _ = TASKS.insert(tgid, comm, 0);
    }
}

/// The name of the process on the CPU.
#[inline(always)]
pub(crate) fn comm() -> Name {
    let leader = kread::u64_field(current_task(), &offset::TASK_GROUP_LEADER);
    until_nul(kread::read(leader, u64::from(offset::TASK_COMM.load())))
}

/// The `task_struct` of the thread on the CPU.
#[inline(always)]
pub(crate) fn current_task() -> Address {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// The process on the CPU.
#[inline(always)]
pub(crate) fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// The thread on the CPU.
#[inline(always)]
pub(crate) fn tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
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
    let Some(mut entry) = reserve::<T>(kind) else { return false };
    entry.write(record);
    send(entry);
    true
}

/// Room for a record in the ring buffer; if there is none, the record counts as lost.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(kind: u8) -> Option<RingBufEntry<T>> {
    if AUDIT.load() != 0 {
        count(&FIRED, kind);
    }
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(&LOST, kind);
    }
    entry
}

/// Counts a record.
#[inline(always)]
fn count(counters: &PerCpuArray<u64>, kind: u8) {
    if let Some(counter) = counters.get_ptr_mut(u32::from(kind)) {
        // SAFETY: the kernel gave this CPU's slot, aligned and alive. Atomic, because a program in a softirq may
        // interrupt this one on the same CPU between load and store.
        unsafe { add(counter, 1) };
    }
}

/// The record is written.
#[inline(always)]
pub(crate) fn send<T: 'static>(entry: RingBufEntry<T>) {
    entry.submit(BPF_RB_NO_WAKEUP);
}
