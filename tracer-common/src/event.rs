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
/// [`UnixRecord`].
pub const KIND_UNIX: u8 = 6;
/// [`RouteRecord`].
pub const KIND_ROUTE: u8 = 7;
/// [`NameRecord`].
pub const KIND_NAME: u8 = 8;
/// [`LossRecord`].
pub const KIND_LOSS: u8 = 9;
/// No record: a slot that is left over.
pub const KIND_FILLER: u8 = 0xff;
/// How many kinds there are, counted from 0 (which is never sent): the length of the loss counters.
pub const KINDS: u32 = 10;

/// Bytes of a record of this kind; `None` if there is none.
pub const fn len(kind: u8) -> Option<usize> {
    Some(match kind {
        KIND_HOP => size_of::<HopRecord>(),
        KIND_FLOW => size_of::<FlowRecord>(),
        KIND_TASK => size_of::<TaskRecord>(),
        KIND_DEVICE => size_of::<DeviceRecord>(),
        KIND_UNIX_NAME => size_of::<UnixNameRecord>(),
        KIND_UNIX => size_of::<UnixRecord>(),
        KIND_ROUTE => size_of::<RouteRecord>(),
        KIND_NAME => size_of::<NameRecord>(),
        KIND_LOSS => size_of::<LossRecord>(),
        _ => return None,
    })
}

/// Whether records of this kind say that a probe point fired; the others are names and numbers for them.
pub const fn is_hop(kind: u8) -> bool {
    matches!(kind, KIND_HOP | KIND_UNIX | KIND_ROUTE)
}

/// Whether an ICMP message of this type is an error, which carries the beginning of the packet that it answers (RFC 792).
pub const fn is_icmp_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}

/// [`is_icmp_error`] of `ICMPv6` (RFC 4443).
pub const fn is_icmpv6_error(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

/// [`HopRecord::aux`] where the probe point could not tell.
pub const AUX_UNKNOWN: u32 = u32::MAX;
/// [`HopRecord::flow`] where there is no flow.
pub const NO_FLOW: u64 = 0;

/// [`HopRecord::marks`]: the packet has come in by a device before (`skb->skb_iif` is set), so it is being forwarded.
pub const MARK_FORWARDED: u16 = 1;

/// [`HopRecord::marks`]: the packet holds several datagrams of one size (`gso_size` is set, as `UDP_SEGMENT` asks for).
pub const MARK_SEVERAL: u16 = 4;

/// [`HopRecord::marks`]: the packet comes into the namespaces that are traced, out of one that may not be.
pub const MARK_ENTERS: u16 = 2;

/// [`HopRecord::marks`] of a UDP send call: it names no address, so the datagram goes to the socket's peer, by the route
/// that the socket keeps.
pub const MARK_TO_PEER: u16 = 8;

/// [`UnixRecord::marks`]: nothing that the socket sent before waits to be read (`sk->sk_wmem_alloc` is at its start).
pub const MARK_NOTHING_QUEUED: u8 = 1;
/// [`UnixRecord::marks`]: the socket listens (`sk->sk_state` is `TCP_LISTEN`).
pub const MARK_LISTENS: u8 = 2;
/// [`UnixRecord::marks`]: a copy that is no peek (`MSG_PEEK`): what was copied is gone.
pub const MARK_TAKEN: u8 = 4;

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
    pub cpu: u16,
    /// `MARK_*`.
    pub marks: u16,
    /// `bpf_ktime_get_ns()`: `CLOCK_MONOTONIC`, ns, taken when the program starts.
    pub time_ns: u64,
    /// Address of the `sk_buff`, 0 where the point has none. An address is reused: it names a packet only while the
    /// packet lives.
    pub skb: u64,
    /// Address of the `sock`, 0 where the point has none; for `kfree_skb` the address in the kernel that dropped.
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
    /// What the point's reader says: interface index, target CPU or drop reason. [`AUX_UNKNOWN`] if not known.
    pub aux: u32,
}

/// One probe point fired for a UNIX socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixRecord {
    /// [`KIND_UNIX`].
    pub kind: u8,
    /// `Point as u8`.
    pub point: u8,
    /// `Backend as u8`.
    pub backend: u8,
    /// `MARK_*`.
    pub marks: u8,
    /// The CPU on which the probe fired.
    pub cpu: u16,
    /// `SOCK_*` of the socket: 1 stream, 2 datagram, 5 seqpacket.
    pub socket_type: u8,
    /// File descriptors that travel with the `sk_buff` (`SCM_RIGHTS`), at most 253.
    pub descriptors: u8,
    /// As in [`HopRecord`].
    pub time_ns: u64,
    /// Address of the `sk_buff` that was queued last (wake-up), or that is read; 0 if there is none.
    pub skb: u64,
    /// The socket that sends or connects; for a wake-up the socket that is woken; for a read the sender's.
    pub sk: u64,
    /// The other socket: for a send the receiver's (0 for a datagram to a name), for a wake-up the sender's (0 if nothing
    /// is in the queue any more), for `unix_accept` the one that connected.
    pub peer: u64,
    /// Process that uses the socket; 0 for a wake-up.
    pub tgid: u32,
    /// Thread that was on the CPU.
    pub tid: u32,
    /// Bytes of the call, of the `sk_buff`, or of the copy; [`AUX_UNKNOWN`] if not known.
    pub len: u32,
    /// For a copy: where in the `sk_buff`'s data it begins.
    pub offset: u32,
    /// For a copy: bytes of data in the `sk_buff`.
    pub total: u32,
    /// Zero.
    pub pad: u32,
}

/// A routing table has answered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRecord {
    /// [`KIND_ROUTE`].
    pub kind: u8,
    /// `Point as u8`.
    pub point: u8,
    /// `Backend as u8`.
    pub backend: u8,
    /// `RTN_*`: 1 unicast, 2 local, 3 broadcast …; 0 if not known.
    pub route_type: u8,
    /// The CPU on which the probe fired.
    pub cpu: u16,
    /// Zero.
    pub pad: u16,
    /// As in [`HopRecord`].
    pub time_ns: u64,
    /// The question's flow, as in [`HopRecord`].
    pub flow: u64,
    /// Thread that was on the CPU.
    pub tid: u32,
    /// Number of the table: 255 local, 254 main.
    pub table: u32,
    /// The next hop's device, 0 if there is none.
    pub ifindex: u32,
    /// 0, or a negative errno: the table has no route.
    pub error: i32,
    /// The source address that the route prefers, as in [`FlowRecord`]; zeroes if it has none.
    pub source: [u8; 16],
}

/// What a number of the kernel's is called. Never sent by the kernel side: userspace looks the name up when the number first
/// comes by, and puts the record in front, so that a recording has it too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRecord {
    /// [`KIND_NAME`].
    pub kind: u8,
    /// [`NAMES_FUNCTION`] or [`NAMES_DROP_REASON`].
    pub of: u8,
    /// Bytes of [`name`](Self::name) that count, at most 64.
    pub len: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u32,
    /// An address in the kernel, or a drop reason.
    pub number: u64,
    /// The name.
    pub name: [u8; NAME_LEN],
}

/// [`NameRecord::of`]: the function at an address.
pub const NAMES_FUNCTION: u8 = 1;
/// [`NameRecord::of`]: a value of `enum skb_drop_reason`.
pub const NAMES_DROP_REASON: u8 = 2;
/// The longest name of a [`NameRecord`]; longer ones are cut.
pub const NAME_LEN: usize = 64;

/// Records were lost here, or none is any more. Never sent by the kernel side: userspace puts it before the first record that was
/// written after one was lost, and again when it knows of the moment until which some were.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossRecord {
    /// [`KIND_LOSS`].
    pub kind: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u16,
    /// Zero.
    pub pad3: u32,
    /// Whatever was lost so far had an earlier time (`CLOCK_MONOTONIC`, ns); [`STILL_LOST`] while that is not known.
    pub until_ns: u64,
}

/// [`LossRecord::until_ns`]: more may be lost.
pub const STILL_LOST: u64 = u64::MAX;

/// Who talks to whom. Sent once for each flow (and again after the kernel's table forgot it), before its first
/// [`HopRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// [`KIND_FLOW`].
    pub kind: u8,
    /// `IPPROTO_*`: 6 TCP, 17 UDP, 1 `ICMP`, 58 `ICMPv6`.
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
    /// Source port, host byte order; 0 if not chosen yet. An ICMP error has the ports of the packet that it answers, the
    /// other way round.
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

/// What a UNIX socket is called: its own name or that of the socket that it talks to, or the name that it is about to
/// connect to. Sent when a socket is first seen, when it has become another one, and before the hop of a `connect`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixNameRecord {
    /// [`KIND_UNIX_NAME`].
    pub kind: u8,
    /// Bytes of [`path`](Self::path) that count, 0 to 108; 0 where neither end has a name (`socketpair`).
    pub len: u8,
    /// As in [`UnixRecord`].
    pub socket_type: u8,
    /// Zero.
    pub pad: u8,
    /// Inode number of the socket, as `ss -x` shows it; 0 if it has none.
    pub inode: u32,
    /// The socket.
    pub sk: u64,
    /// `sun_path`: a path, or an abstract name behind a NUL byte.
    pub path: [u8; UNIX_PATH_LEN],
    /// Zero.
    pub pad2: u32,
}

const _: () = {
    assert!(size_of::<HopRecord>() == 64);
    assert!(offset_of!(HopRecord, time_ns) == 8);
    assert!(size_of::<UnixRecord>() == 64);
    assert!(offset_of!(UnixRecord, tgid) == 40);
    assert!(size_of::<NameRecord>() == 80);
    assert!(offset_of!(NameRecord, name) == 16);
    assert!(size_of::<RouteRecord>() == 56);
    assert!(offset_of!(RouteRecord, source) == 40);
    assert!(offset_of!(HopRecord, flow) == 32);
    assert!(offset_of!(HopRecord, tgid) == 40);
    assert!(offset_of!(HopRecord, aux) == 60);
    assert!(size_of::<FlowRecord>() == 56);
    assert!(offset_of!(FlowRecord, id) == 8);
    assert!(offset_of!(FlowRecord, sport) == 48);
    assert!(size_of::<LossRecord>() == 16);
    assert!(offset_of!(LossRecord, until_ns) == 8);
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
    use super::{
        DeviceRecord, FlowRecord, HopRecord, LossRecord, NameRecord, RouteRecord, TaskRecord, UnixNameRecord,
        UnixRecord,
    };

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
    // SAFETY: as above.
    unsafe impl plain::Plain for UnixRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for RouteRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for NameRecord {}
    // SAFETY: as above.
    unsafe impl plain::Plain for LossRecord {}
}
