//! The one writer of records.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_task, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        },
    },
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord, KIND_HOP, KIND_TASK, KINDS, NO_FLOW, TaskRecord},
    probes::{Backend, Context, Point},
};

use crate::{
    counter::add,
    filter,
    kread::{Address, Fields as _, Pointer, Raw, Typed, offset},
    ring::{Room, lose},
    words::{Name, bytes_of, until_nul},
};

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

/// Whether each record that a program wants to write is counted. Where it is not, the verifier leaves the counting out.
#[unsafe(no_mangle)]
static AUDIT: Global<u32> = Global::new(0);

#[map]
static FIRED: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);

#[map]
static ENABLED: Array<[u64; Backend::ALL.len()]> = Array::with_max_entries(1, 0);

/// How many processes are known by name. Those that share a place take turns.
const TASKS_KNOWN: u32 = 4096;

/// A process, and the name under which it was last announced.
#[repr(C)]
#[derive(Clone, Copy)]
struct Task {
    tgid: u64,
    name: Name,
}

/// By the lowest bits of the number. Written without a lock: one that is mixed of two is announced once more.
#[map]
static TASKS: Array<Task> = Array::with_max_entries(TASKS_KNOWN, 0);

/// What every hop record says of where and when its probe fired.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) point: Point,
    pub(crate) backend: Backend,
    pub(crate) time_ns: u64,
    in_process: bool,
}

/// A program that has been started, and has not looked at anything yet.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) point: Point,
    backend: Backend,
    in_process: bool,
}

impl Probe {
    /// `None` while tracing is switched off.
    #[inline(always)]
    pub(crate) fn enabled(point: Point, backend: Backend, context: Context) -> Option<Self> {
        let in_process = matches!(context, Context::Process);
        (enabled(backend) != 0).then_some(Self { point, backend, in_process })
    }

    /// As a number of 8 bits, if the process on the CPU means nothing.
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        const { assert!(Point::ALL.len() <= 1 << 6 && Backend::ALL.len() <= 1 << 2) };
        self.point as u64 | (self.backend as u64) << 6
    }

    /// The opposite of [`bits`](Self::bits).
    #[inline(always)]
    pub(crate) fn of_bits(bits: u64) -> Self {
        // SAFETY: `bits` has made them of a point and a backend, which are bytes.
        let (point, backend) = unsafe {
            (
                core::mem::transmute::<u8, Point>(bits as u8 & 0x3f),
                core::mem::transmute::<u8, Backend>(bits as u8 >> 6),
            )
        };
        Self { point, backend, in_process: false }
    }

    /// The hop happens now. Taking the time costs as much as all that tells most unwanted traffic, so that comes first.
    #[inline(always)]
    pub(crate) fn now(self) -> Meta {
        // SAFETY: the helper has no preconditions.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        let Self { point, backend, in_process } = self;
        Meta { point, backend, time_ns, in_process }
    }

    /// Another point of the same program; `None` if that is not asked of this backend.
    #[inline(always)]
    pub(crate) fn at(self, point: Point) -> Option<Self> {
        (enabled(self.backend) >> (point as u64) & 1 != 0).then_some(Self { point, ..self })
    }

    /// The same, where a point of process context may have been reached otherwise.
    #[inline(always)]
    pub(crate) fn in_process_if(self, condition: bool) -> Self {
        Self { in_process: self.in_process && condition, ..self }
    }

    /// What the process on the CPU says of the flow, if the kernel runs in its name.
    #[inline(always)]
    pub(crate) fn marks(self) -> u32 {
        if self.in_process { filter::process() } else { 0 }
    }
}

impl Meta {
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

    /// Whether the driver of a device other than the loopback device is given the packet.
    #[inline(always)]
    pub(crate) fn is_at_driver(&self) -> bool {
        self.point as u8 == Point::DevHardStartXmit as u8
    }

    /// The process that uses the socket, announced by name, 0 where the process on the CPU means nothing; and the thread on the
    /// CPU, 0 where nothing is joined by it.
    #[inline(always)]
    pub(crate) fn user(&self) -> Thread {
        if !self.in_process {
            return Thread { tgid: 0, tid: if self.is_joined_by_thread() { tid() } else { 0 } };
        }
        if tasks_are_typed() { user_of(typed_task()) } else { user_of(Raw(current_task())) }
    }

    /// Packets are known by themselves, from the moment on when the device layer has them.
    #[inline(always)]
    fn is_joined_by_thread(&self) -> bool {
        self.point as u8 <= Point::DevQueueXmit as u8
    }

    /// What the process on the CPU says of the flow, if the kernel runs in its name.
    #[inline(always)]
    pub(crate) fn marks(&self) -> u32 {
        if self.in_process { filter::process() } else { 0 }
    }
}

/// Whether any backend's programs write records of a point.
#[inline(always)]
pub(crate) fn is_asked(point: Point) -> bool {
    let all = ENABLED.get(0).map_or(0, |points| points.iter().fold(0, |all, points| all | points));
    all >> (point as u64) & 1 != 0
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

/// One that says nothing.
pub(crate) const NO_HOP: Hop =
    Hop { skb: 0, sk: 0, flow: NO_FLOW, tcp_flags: 0, marks: 0, seq: 0, ack: 0, len: 0, aux: AUX_UNKNOWN };

/// Writes the record of one hop.
#[inline(always)]
pub(crate) fn hop(meta: Meta, hop: Hop) {
    hop_of(meta, meta.user(), hop);
}

/// Writes the record of one hop that is about a thread that need not be the one on the CPU.
#[inline(always)]
pub(crate) fn hop_of(meta: Meta, thread: Thread, hop: Hop) {
    let Some(room) = reserve::<HopRecord>(KIND_HOP) else { return };
    let record = room.as_mut_ptr();
    // SAFETY: the room is as large as a record, and aligned. Field by field: the stack has no room for a record. Volatile, as
    // LLVM would make a `memset`, a loop over bytes, of neighbours that are 0.
    unsafe {
        (&raw mut (*record).time_ns).write_volatile(meta.time_ns);
        (&raw mut (*record).skb).write_volatile(hop.skb);
        (&raw mut (*record).sk).write_volatile(hop.sk);
        (&raw mut (*record).flow).write_volatile(hop.flow);
        (&raw mut (*record).tgid).write_volatile(thread.tgid);
        (&raw mut (*record).tid).write_volatile(thread.tid);
        (&raw mut (*record).seq).write_volatile(hop.seq);
        (&raw mut (*record).ack).write_volatile(hop.ack);
        (&raw mut (*record).len).write_volatile(hop.len);
        (&raw mut (*record).aux).write_volatile(hop.aux);
    }
    room.publish(
        u64::from(KIND_HOP)
            | (meta.point as u64) << 8
            | (meta.backend as u64) << 16
            | u64::from(hop.tcp_flags) << 24
            | u64::from(cpu() as u16) << 32
            | u64::from(hop.marks) << 48,
    );
}

/// A thread, and its process.
#[derive(Clone, Copy)]
#[allow(clippy::similar_names, reason = "the kernel's own")]
pub(crate) struct Thread {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
}

/// The thread on the CPU. Announces the name of its process, if it is not known under this name yet: that of the leader, as
/// that of whichever thread comes by would change with every call.
#[inline(always)]
fn user_of(task: impl Pointer) -> Thread {
    let thread = Thread { tgid: task.field(&offset::TASK_TGID), tid: task.field(&offset::TASK_PID) };
    let Some(place) = TASKS.get_ptr(thread.tgid & (TASKS_KNOWN - 1)) else { return thread };
    // SAFETY: an aligned element that lives as long as the map; volatile, as others write it meanwhile.
    let known = unsafe { place.read_volatile() };
    if known.tgid != u64::from(thread.tgid) || known.name != name_of(task) {
        task_is_named(thread.tgid.into());
    }
    thread
}

/// Announces the name of the process on the CPU. The verifier looks at it once for each program, as it has numbers for arguments and
/// a name of its own (`BTF_FUNC_GLOBAL`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn task_is_named(tgid: u64) -> u64 {
    let name = comm();
    let record = TaskRecord { kind: KIND_TASK, pad: 0, pad2: 0, tgid: tgid as u32, comm: bytes_of(name) };
    if submit(KIND_TASK, record)
        && let Some(place) = TASKS.get_ptr_mut(tgid as u32 & (TASKS_KNOWN - 1))
    {
        // SAFETY: as above.
        unsafe { place.write_volatile(Task { tgid, name }) };
    }
    0
}

/// The name of the process on the CPU.
#[inline(always)]
pub(crate) fn comm() -> Name {
    if tasks_are_typed() { name_of(typed_task()) } else { name_of(Raw(current_task())) }
}

#[inline(always)]
fn name_of(task: impl Pointer) -> Name {
    until_nul(task.pointer(&offset::TASK_GROUP_LEADER).words(&offset::TASK_COMM))
}

/// Whether this kernel has `bpf_get_current_task_btf` (5.11).
#[unsafe(no_mangle)]
static TASKS_ARE_TYPED: Global<u32> = Global::new(0);

/// Whether [`typed_task`] may be asked.
#[inline(always)]
pub(crate) fn tasks_are_typed() -> bool {
    TASKS_ARE_TYPED.load() != 0
}

/// The `task_struct` of the thread on the CPU, whose fields can be loaded. Only where [`tasks_are_typed`].
#[inline(always)]
pub(crate) fn typed_task() -> Typed {
    // SAFETY: the helper has no preconditions.
    Typed::to(unsafe { bpf_get_current_task_btf() } as Address)
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

/// Hands a record over, or counts it as lost; says whether it was handed over.
#[inline(always)]
pub(crate) fn submit<T: Copy + 'static>(kind: u8, record: T) -> bool {
    let Some(room) = reserve::<T>(kind) else { return false };
    let record = Words(record);
    let (from, to) = (core::ptr::from_ref(&record).cast::<u64>(), room.as_mut_ptr().cast::<u64>());
    // SAFETY: `from` is aligned, and both are as long as the record, which has no padding.
    let first = unsafe {
        for word in 1..size_of::<T>() / 8 {
            to.add(word).write_volatile(from.add(word).read());
        }
        from.read()
    };
    room.publish(first);
    true
}

/// A record as words.
#[repr(C, align(8))]
struct Words<T>(T);

/// Room for a record; if there is none, the record counts as lost.
#[inline(always)]
pub(crate) fn reserve<T: 'static>(kind: u8) -> Option<Room<T>> {
    if AUDIT.load() != 0 {
        count(&FIRED, kind);
    }
    let room = Room::take();
    if room.is_none() {
        record_is_lost(kind.into());
    }
    room
}

/// Counts a record for which there was no room. Verified by itself, as [`task_is_named`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn record_is_lost(kind: u64) -> u64 {
    count(&LOST, kind as u8);
    lose();
    0
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
