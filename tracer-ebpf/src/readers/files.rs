//! The socket behind a file descriptor of the process on the CPU.

use aya_ebpf::{macros::map, maps::Array};

use crate::{
    kread::{self, Address, Fields as _, Plain, Pointer, Raw, Walked, offset},
    record,
    words::weigh,
};

/// `S_IFMT`, `S_IFSOCK`.
const FILE_TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// What a socket is, for as long as it is open.
#[derive(Clone, Copy)]
pub(super) struct Socket {
    pub(super) sk: Raw,
    /// Number of its inode.
    pub(super) inode: u32,
    /// Inode number of its network namespace.
    pub(super) netns: u32,
    pub(super) family: u8,
    /// `SOCK_*`.
    pub(super) kind: u16,
    /// More than a byte: `IPPROTO_MPTCP` is 262.
    pub(super) protocol: u16,
}

/// How many open sockets are remembered, a power of two. Those that share a place take turns.
const PLACES: u32 = 1024;

/// A socket that was looked at. Its memory may be used again for another one, whose inode has another number then
/// (`get_next_ino()`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Known {
    /// The `struct socket`.
    socket: Address,
    /// Number of its inode, and above it that of its namespace's.
    inode: u64,
    sk: Address,
    /// Family; above it type and protocol.
    kind: u64,
    /// The sum over the words before it: programs write the same place without a lock.
    sum: u64,
}

// SAFETY: integers without padding.
unsafe impl Plain for Known {}

#[map]
static FILES: Array<Known> = Array::with_max_entries(PLACES, 0);

/// `None` if it is no socket.
#[inline(always)]
pub(super) fn socket(descriptor: u32) -> Option<Socket> {
    if !record::tasks_are_typed() {
        let task = Raw(record::current_task());
        return of_file(in_table(task.pointer(&offset::TASK_FILES), descriptor));
    }
    let files = record::typed_task().pointer(&offset::TASK_FILES);
    if kread::memory_is_loaded() {
        return of_file(in_table(files, descriptor));
    }
    let is_embedded =
        files.pointer(&offset::FILES_FDT).address() == files.inner(&offset::FILES_FDTAB).address();
    match embedded(files, descriptor) {
        Some(file) if is_embedded => of_file(file),
        _ => of_file(in_table(files, descriptor)),
    }
}

/// The file behind a descriptor in a table of its own.
#[inline(always)]
fn in_table(files: impl Pointer, descriptor: u32) -> Raw {
    let table = files.pointer(&offset::FILES_FDT);
    if table.is_null() || descriptor >= table.field(&offset::FDTABLE_MAX_FDS) {
        return Raw(0);
    }
    Raw(kread::read(table.field(&offset::FDTABLE_FD), u64::from(descriptor) * 8))
}

/// The bytes from one descriptor to the next.
const SLOT: u64 = size_of::<Address>() as u64;

/// The file behind a descriptor in the table that every process begins with, which is part of its `struct files_struct`
/// (`NR_OPEN_DEFAULT` places). The verifier knows what a field points to, but takes no variable for an index.
#[inline(always)]
fn embedded(files: Walked, descriptor: u32) -> Option<Walked> {
    macro_rules! at {
        ($($index:literal)*) => {
            match descriptor {
                $($index => constant::<$index>(),)*
                _ => return None,
            }
        };
    }
    let index = at!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
        32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
    );
    Some(Walked::to(files.read(u64::from(offset::FILES_FD_ARRAY.load()).wrapping_add(index))))
}

/// Where a descriptor lies in the table. LLVM would see that this is a multiplication, and of its result the verifier knows no
/// value.
#[inline(always)]
fn constant<const INDEX: u32>() -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let at: u64;
        // SAFETY: sets a register.
        unsafe {
            core::arch::asm!("{at} = {value}", at = out(reg) at, value = const INDEX as u64 * SLOT);
        }
        at
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        u64::from(INDEX) * SLOT
    }
}

/// `None` if it is no socket.
#[inline(always)]
fn of_file(file: impl Pointer) -> Option<Socket> {
    if file.is_null() {
        return None;
    }
    let inode = file.pointer(&offset::FILE_INODE);
    if inode.field::<u16>(&offset::INODE_MODE) & FILE_TYPE != SOCKET {
        return None;
    }
    // `sock_alloc_file`: the file of a socket points to its `struct socket`.
    let socket = file.address_in(&offset::FILE_PRIVATE_DATA);
    let inode = inode.field::<u64>(&offset::INODE_INO) as u32;
    let place = FILES.get_ptr_mut(inode & (PLACES - 1))?;
    // SAFETY: an aligned element that lives as long as the map; volatile, as others write it meanwhile.
    let mut known = unsafe { place.read_volatile() };
    if known.socket != socket || known.inode as u32 != inode || known.sum != sum(&known) {
        let sk = Raw(socket).pointer(&offset::SOCKET_SK);
        let family: u16 = sk.field(&offset::SOCK_FAMILY);
        let socket_type: u16 = sk.field(&offset::SOCK_TYPE);
        let protocol: u16 = sk.field(&offset::SOCK_PROTOCOL);
        let kind = u64::from(family) | u64::from(socket_type) << 16 | u64::from(protocol) << 32;
        let netns: u32 = sk.pointer(&offset::SOCK_NET).field(&offset::NET_INUM);
        let inode = u64::from(netns) << 32 | u64::from(inode);
        known = Known { socket, inode, sk: sk.address(), kind, sum: 0 };
        known.sum = sum(&known);
        // SAFETY: as above.
        unsafe { place.write_volatile(known) };
    }
    if known.sk == 0 {
        return None;
    }
    Some(Socket {
        sk: Raw(known.sk),
        inode: known.inode as u32,
        netns: (known.inode >> 32) as u32,
        family: known.kind as u8,
        kind: (known.kind >> 16) as u16,
        protocol: (known.kind >> 32) as u16,
    })
}

#[inline(always)]
fn sum(known: &Known) -> u64 {
    let Known { socket, inode, sk, kind, .. } = *known;
    let mut sum = 0u64;
    for (at, word) in [socket, inode, sk, kind].into_iter().enumerate() {
        sum = sum.wrapping_add(weigh(word, at));
    }
    sum
}
