//! The records that travel from the kernel to userspace, in host byte order unless a field says otherwise.
//!
//! Every record starts with its [`kind`](self#constants). No `bool`, `enum` or `Option` on the wire: any bit
//! pattern of the right length is a valid record, so a hostile recording can be wrong but never undefined.

use core::mem::{offset_of, size_of};

/// [`HopRecord`].
pub const KIND_HOP: u8 = 1;
/// [`FlowRecord`].
pub const KIND_FLOW: u8 = 2;
/// [`TaskRecord`].
pub const KIND_TASK: u8 = 3;
/// [`DeviceRecord`].
pub const KIND_DEVICE: u8 = 4;
/// [`UnixNameRecord`].
pub const KIND_UNIX_NAME: u8 = 5;
/// How many kinds there are, counted from 0 (which is never sent): the length of the loss counters.
pub const KINDS: u32 = 6;

/// [`HopRecord::aux`] where the probe point could not tell.
pub const AUX_UNKNOWN: u32 = u32::MAX;
/// [`HopRecord::flow`] where there is no flow.
pub const NO_FLOW: u64 = 0;

/// `TASK_COMM_LEN` of the kernel.
pub const COMM_LEN: usize = 16;
/// `IFNAMSIZ` of the kernel.
pub const DEVICE_NAME_LEN: usize = 16;
/// `sizeof(sockaddr_un.sun_path)`.
pub const UNIX_PATH_LEN: usize = 108;

/// One probe point fired for one packet, socket or poll. One cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopRecord {
    /// [`KIND_HOP`].
    pub kind: u8,
    /// `Point as u8`.
    pub point: u8,
    /// `Backend as u8`.
    pub backend: u8,
    /// The flag byte of the TCP header (FIN 0x01 … CWR 0x80), 0 where there is none.
    pub tcp_flags: u8,
    /// The CPU on which the probe fired.
    pub cpu: u32,
    /// `bpf_ktime_get_ns()`: `CLOCK_MONOTONIC`, ns, taken when the program starts.
    pub time_ns: u64,
    /// Address of the `sk_buff`, 0 where the point has none. An address is reused: it names a packet only while the
    /// packet lives.
    pub skb: u64,
    /// Address of the `sock`, 0 where the point has none.
    pub sk: u64,
    /// Identifier of a [`FlowRecord`] that was sent before, or [`NO_FLOW`].
    pub flow: u64,
    /// Process that uses the socket, where the kernel runs in its name (`probes::Context::Process`); else 0, as in a
    /// softirq the process on the CPU has nothing to do with the packet.
    pub tgid: u32,
    /// Thread that was on the CPU.
    pub tid: u32,
    /// TCP sequence number. For packets, that of the first byte; for socket points, what the point's reader says.
    pub seq: u32,
    /// TCP acknowledgement number of a packet.
    pub ack: u32,
    /// Bytes of payload (packets), or bytes of the call (socket points).
    pub len: u32,
    /// What the point's reader says: interface index, target CPU or routing table. [`AUX_UNKNOWN`] if not known.
    pub aux: u32,
}

/// Who talks to whom. Sent once for each flow (and again after the kernel's table forgot it), before its first
/// [`HopRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// [`KIND_FLOW`].
    pub kind: u8,
    /// `IPPROTO_*`: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// `AF_INET` 2, `AF_INET6` 10.
    pub family: u8,
    /// Zero.
    pub pad: u8,
    /// Inode number of the network namespace, as in `/proc/PID/ns/net`; 0 if it could not be read.
    pub netns: u32,
    /// Identifier, never [`NO_FLOW`]. Several identifiers may name the same flow.
    pub id: u64,
    /// Source address, network byte order; IPv4 in the first four bytes, the rest zero.
    pub saddr: [u8; 16],
    /// Destination address, as [`saddr`](Self::saddr).
    pub daddr: [u8; 16],
    /// Source port, host byte order; 0 if not chosen yet.
    pub sport: u16,
    /// Destination port, host byte order.
    pub dport: u16,
    /// Zero.
    pub pad2: u32,
}

/// The name of a process, sent when it is first seen and when it changes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskRecord {
    /// [`KIND_TASK`].
    pub kind: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u16,
    /// Process identifier.
    pub tgid: u32,
    /// Name of the process (of the leader of its threads), padded with NUL.
    pub comm: [u8; COMM_LEN],
}

/// The name of a network device other than the loopback device (which always has index 1).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// [`KIND_DEVICE`].
    pub kind: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad3: u16,
    /// Interface index.
    pub ifindex: u32,
    /// Inode number of the network namespace that the device is in.
    pub netns: u32,
    /// Zero.
    pub pad2: u32,
    /// Name, padded with NUL.
    pub name: [u8; DEVICE_NAME_LEN],
}

/// The name that a `connect` on a UNIX socket was given; sent before the hop of that `connect`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixNameRecord {
    /// [`KIND_UNIX_NAME`].
    pub kind: u8,
    /// Bytes of [`path`](Self::path) that count, 0 to 108.
    pub len: u8,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub pad3: u32,
    /// The connecting socket.
    pub sk: u64,
    /// `sun_path`: a path, or an abstract name behind a NUL byte.
    pub path: [u8; UNIX_PATH_LEN],
    /// Zero.
    pub pad2: u32,
}

const _: () = {
    assert!(size_of::<HopRecord>() == 64);
    assert!(offset_of!(HopRecord, time_ns) == 8);
    assert!(offset_of!(HopRecord, flow) == 32);
    assert!(offset_of!(HopRecord, tgid) == 40);
    assert!(offset_of!(HopRecord, aux) == 60);
    assert!(size_of::<FlowRecord>() == 56);
    assert!(offset_of!(FlowRecord, id) == 8);
    assert!(offset_of!(FlowRecord, sport) == 48);
    assert!(size_of::<TaskRecord>() == 24);
    assert!(offset_of!(TaskRecord, comm) == 8);
    assert!(size_of::<DeviceRecord>() == 32);
    assert!(offset_of!(DeviceRecord, name) == 16);
    assert!(size_of::<UnixNameRecord>() == 128);
    assert!(offset_of!(UnixNameRecord, path) == 16);
};

/// Userspace decodes the records with `plain`.
#[cfg(feature = "user")]
mod decodable {
    use super::{DeviceRecord, FlowRecord, HopRecord, TaskRecord, UnixNameRecord};

    // SAFETY: `repr(C)`, integers and arrays of integers only, no implicit padding (asserted above by size and offset),
    // so any bytes are a value.
    unsafe impl plain::Plain for HopRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for FlowRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for TaskRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for DeviceRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for UnixNameRecord {}
}
