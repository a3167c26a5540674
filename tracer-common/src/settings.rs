//! The read-only values that userspace sets before it loads the programs, beside the [fields](crate::fields).

/// Name of the global `[u16; MAX_NUMBERS]`: ports at either end, host byte order, unused places like the first. All 0: any port.
pub const PORTS: &str = "PORTS";

/// Name of the ring buffer.
pub const EVENTS: &str = "EVENTS";
/// Name of the array of slots, two an element, which userspace maps: where the records are if the ring buffer is not used.
pub const SLOTS: &str = "SLOTS";
/// Name of the array of one [`Positions`], which userspace maps.
pub const POSITIONS: &str = "POSITIONS";
/// Name of the global `u64`: how many slots there are, a power of two; 0: the ring buffer is used.
pub const SLOT_COUNT: &str = "SLOT_COUNT";
/// Name of the global `u64`: how many slots may be in use for a program to take one.
pub const SLOT_LIMIT: &str = "SLOT_LIMIT";

/// Bytes of a slot. The first word is 0 while there is no record in it.
pub const SLOT: usize = 64;
/// Bytes of two slots, the longest record.
pub const PAIR: usize = 2 * SLOT;
/// The most slots that are taken for one record: a pair begins at an even one.
pub const MOST_SLOTS: usize = 3;

/// How many holes are remembered, a power of two.
pub const HOLES: usize = 32;

/// How far the slots are used. They are taken one after the other, again from the first after the last. Each side writes cache lines
/// of its own, but where records are lost.
#[repr(C)]
pub struct Positions {
    /// How many slots programs have taken.
    pub taken: u64,
    /// As long as two lines, which some CPUs fetch at once.
    pub apart: [u64; 15],
    /// How many slots userspace has read.
    pub read: u64,
    /// How many lost records userspace has taken notice of.
    pub acknowledged: u64,
    /// As above.
    pub apart_too: [u64; 14],
    /// How many records were lost, wherever they would have gone: what was written after one was lost is seen after this has changed.
    pub lost: u64,
    /// How many slots had been taken before the first was counted that is not acknowledged; 0, or an earlier number, if that was not
    /// said.
    pub lost_from: u64,
    /// How many holes there were: slots that were taken and will not be written.
    pub holes_made: u64,
    /// The holes that were made last: where one begins, times 4, and of how many slots it is, at most [`MOST_SLOTS`].
    pub holes: [u64; HOLES],
}

/// Name of the per-CPU `u64` counters of records that the ring buffer could not take, indexed by record kind.
pub const LOST: &str = "LOST";
/// Name of the global `u32`: whether records that a program wants to write are counted in [`FIRED`].
pub const AUDIT: &str = "AUDIT";
/// Name of the per-CPU `u64` counters of records that a program wanted to write, as [`LOST`].
pub const FIRED: &str = "FIRED";
/// Name of the array of one element `[u64; 3]`, indexed by backend: the points whose records its programs write, a bit each
/// (`1 << point`). All zero until everything is attached, so that all programs start and stop at one moment, however long
/// attaching takes.
pub const ENABLED: &str = "ENABLED";

/// Name of the global `u32`: whether the tracepoint `skb:kfree_skb` says why.
pub const DROPS_HAVE_REASONS: &str = "DROPS_HAVE_REASONS";

/// Name of the global `[u32; 11]`: the numbers of the system calls that are looked at, in the order of [`Calls`].
pub const SYSTEM_CALLS: &str = "SYSTEM_CALLS";
/// Name of the global `u64`: those of them that send or connect and have a number below 64, a bit each.
pub const LOW_CALLS: &str = "LOW_CALLS";
/// Name of the global `[u32; 6]`: where the six arguments of a system call lie in `struct pt_regs`, bytes.
pub const CALL_ARGUMENTS: &str = "CALL_ARGUMENTS";
/// Name of the global `u32`: where the number of a system call lies in `struct pt_regs`, bytes.
pub const CALL_NUMBER: &str = "CALL_NUMBER";
/// Name of the global `u32`: where the code segment lies in `struct pt_regs`, bytes; 0 where there is none. 32-bit programs have
/// another one, and other numbers of system calls.
pub const CODE_SEGMENT: &str = "CODE_SEGMENT";
/// Name of the global `u32`: whether programs can ask for the registers of the system call that they run in
/// (`bpf_task_pt_regs`, kernel 5.15).
pub const CALLS_ARE_SEEN: &str = "CALLS_ARE_SEEN";

/// Name of the global `u32`: whether programs can ask for the `task_struct` on the CPU as one (`bpf_get_current_task_btf`,
/// kernel 5.11).
pub const TASKS_ARE_TYPED: &str = "TASKS_ARE_TYPED";

/// Name of the global `u32`: whether programs can load from any memory of the kernel (`bpf_rdonly_cast`, [`CAST`]).
pub const MEMORY_IS_LOADED: &str = "MEMORY_IS_LOADED";

/// The instruction that stands where the programs call `bpf_rdonly_cast`, as a little-endian number: `BPF_PSEUDO_KFUNC_CALL` of a
/// function that no kernel has. Its number in the running kernel's BTF takes the upper half's place before the programs are loaded;
/// where there is none, [`NO_CAST`] takes the place of the whole.
pub const CAST: u64 = 0x7061_7468_0000_2085;

/// `r0 = r1`: what the call comes to.
pub const NO_CAST: u64 = 0x10bf;

/// The instruction that takes slots, as a little-endian number: `r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)`.
pub const FETCH_ADD: u64 = 0x1_0000_21db;
/// What takes its place where the kernel does not know it (before 5.12), in programs that use the ring buffer:
/// `lock *(u64 *)(r1 + 0) += r2`.
pub const ADD: u64 = 0x21db;

/// Name of the global `u32`: one of so many messages is traced; 0: all.
pub const SAMPLE: &str = "SAMPLE";

/// Name of the global `u16`: the port whose connections the socket map takes, host byte order.
pub const SOCKMAP_PORT: &str = "SOCKMAP_PORT";
/// Name of the map of connected sockets.
pub const SOCKETS: &str = "SOCKETS";
/// Name of the array of one `u64`: messages that were handed right to the socket at the other end.
pub const DELIVERED: &str = "DELIVERED";
/// How many sockets can be in the map: two a connection. Those beyond stay ordinary ones.
pub const MAX_SOCKETS: u32 = 128;

/// The system calls that are looked at: those that send, and `connect`, where functions cannot be probed; those that can
/// peek, always. Indices of [`SYSTEM_CALLS`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `write(fd, …, len)`
    Write,
    /// `sendto(fd, …, len, flags, address, …)`
    Sendto,
    /// `writev(fd, iovec, count)`
    Writev,
    /// `sendmsg(fd, msghdr, flags)`
    Sendmsg,
    /// `sendmmsg(fd, mmsghdr, count, flags)`
    Sendmmsg,
    /// `sendfile(fd, from, offset, len)`
    Sendfile,
    /// `splice(from, offset, fd, offset, len, flags)`
    Splice,
    /// `connect(fd, address, len)`
    Connect,
    /// `recvfrom(fd, …, len, flags, address, …)`
    Recvfrom,
    /// `recvmsg(fd, msghdr, flags)`
    Recvmsg,
    /// `recvmmsg(fd, mmsghdr, count, flags, timeout)`
    Recvmmsg,
}

/// How many values a filter of numbers (ports, processes, namespaces) can be given. They are compared one after the other.
pub const MAX_NUMBERS: usize = 8;
/// How many values a filter of names (of processes, devices, UNIX sockets) can be given.
pub const MAX_NAMES: usize = 4;
/// How many addresses all filters together can be given.
pub const MAX_ADDRESSES: usize = 12;

/// Names of the globals `[u16; MAX_NUMBERS]`, as [`PORTS`]: ports at the source, at the destination.
pub const SOURCE_PORTS: &str = "SOURCE_PORTS";
/// See [`SOURCE_PORTS`].
pub const DESTINATION_PORTS: &str = "DESTINATION_PORTS";
/// Name of the global `u32`: `PROTOCOL_*` bits, 0 for any.
pub const PROTOCOLS: &str = "PROTOCOLS";
/// Name of the global `[u32; MAX_NUMBERS]`: processes, as [`PORTS`].
pub const PIDS: &str = "PIDS";
/// Name of the global `[u32; MAX_NUMBERS]`: inode numbers of network namespaces, as [`PORTS`].
pub const NAMESPACES: &str = "NAMESPACES";
/// Name of the global `u32`: how many places of [`ADDRESSES`] are used.
pub const ADDRESS_COUNT: &str = "ADDRESS_COUNT";
/// Name of the array of [`AddressPattern`].
pub const ADDRESSES: &str = "ADDRESSES";
/// Name of the global `u32`: how many places of [`COMMS`] are used.
pub const COMM_COUNT: &str = "COMM_COUNT";
/// Name of the array of names of processes, 16 bytes, padded with NUL.
pub const COMMS: &str = "COMMS";
/// Name of the global `u32`: how many places of [`INTERFACES`] are used.
pub const INTERFACE_COUNT: &str = "INTERFACE_COUNT";
/// Name of the array of names of devices, 16 bytes, padded with NUL.
pub const INTERFACES: &str = "INTERFACES";
/// Name of the global `u32`: how many places of [`UNIX_PATTERNS`] are used.
pub const UNIX_PATTERN_COUNT: &str = "UNIX_PATTERN_COUNT";
/// Name of the array of [`UnixPattern`].
pub const UNIX_PATTERNS: &str = "UNIX_PATTERNS";

/// [`PROTOCOLS`]: TCP.
pub const PROTOCOL_TCP: u32 = 1;
/// [`PROTOCOLS`]: UDP.
pub const PROTOCOL_UDP: u32 = 2;
/// [`PROTOCOLS`]: UNIX sockets.
pub const PROTOCOL_UNIX: u32 = 4;
/// [`PROTOCOLS`]: `ICMP` and `ICMPv6`.
pub const PROTOCOL_ICMP: u32 = 8;

/// [`AddressPattern::side`]: either end.
pub const SIDE_EITHER: u32 = 0;
/// [`AddressPattern::side`]: the source.
pub const SIDE_SOURCE: u32 = 1;
/// [`AddressPattern::side`]: the destination.
pub const SIDE_DESTINATION: u32 = 2;

/// A range of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressPattern {
    /// The address as two words of its 16 bytes in memory order; IPv4 in the first four, the rest zero.
    pub address: [u64; 2],
    /// The bits that count, in the same order.
    pub mask: [u64; 2],
    /// `SIDE_*`.
    pub side: u32,
    /// `AF_INET` 2, `AF_INET6` 10.
    pub family: u32,
}

/// Words of a [`UnixPattern`]: `sun_path` and its rounding.
pub const UNIX_WORDS: usize = 14;

/// A name of UNIX sockets, or the beginning of names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixPattern {
    /// `sun_path` as words in memory order, padded with zeroes.
    pub name: [u64; UNIX_WORDS],
    /// The bytes that count.
    pub mask: [u64; UNIX_WORDS],
    /// How long the name must be at least: of no name all bytes are zero.
    pub least: u32,
    /// How long it may be.
    pub most: u32,
}
