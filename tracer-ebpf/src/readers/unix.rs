//! Points on UNIX sockets.

use aya_ebpf::{macros::map, maps::LruHashMap};
use tracer_common::{
    event::{
        KIND_UNIX, KIND_UNIX_NAME, MARK_LISTENS, MARK_NOTHING_QUEUED, UNIX_PATH_LEN, UnixNameRecord,
        UnixRecord,
    },
    probes::Point,
    settings::UNIX_WORDS,
};

use super::{sched, sockets::newest};
use crate::{
    context::Args,
    filter,
    flow::AF_UNIX,
    kread::{self, Address, offset},
    record::{self, Meta},
};

/// `SOCK_STREAM`.
const STREAM: u16 = 1;
/// `TCP_LISTEN`, which UNIX sockets use as well.
const LISTEN: u8 = 10;
/// `sk_wmem_alloc` of a socket of which no `sk_buff` is left anywhere.
const NOTHING_ALLOCATED: u32 = 1;

/// What is known of a socket.
#[repr(C)]
#[derive(Clone, Copy)]
struct Known {
    /// Its inode number, by which a new socket in the same memory is told from it.
    inode: u32,
    /// What was seen of it, as `filter` names it.
    seen: u32,
}

/// The sockets that were announced.
#[map]
static SOCKETS: LruHashMap<u64, Known> = LruHashMap::with_max_entries(16384, 0);

/// Where a name is read from.
#[derive(Clone, Copy)]
pub(super) enum NameAt {
    /// `sun_path` in the kernel's memory.
    Kernel(Address),
    /// `sun_path` in the memory of the process on the CPU.
    User(Address),
    /// There is none.
    Nowhere,
}

/// A process connects a UNIX socket. The name goes before it in a record of its own.
#[inline(always)]
pub(crate) fn unix_connect(args: &impl Args, meta: Meta, socket: usize, addr: usize, addr_len: usize) {
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    connects(meta, sk, NameAt::Kernel(args.arg(addr).wrapping_add(2)), args.arg(addr_len) as u32);
}

/// `len`: bytes of the whole `struct sockaddr_un`, two of which are the family.
#[inline(always)]
pub(super) fn connects(meta: Meta, sk: Address, name: NameAt, len: u32) {
    if filter::allows_unix()
        && is_wanted(introduce(sk, inode(sk), name, len.wrapping_sub(2), meta.marks(), false))
    {
        write(meta, Unix { sk, ..EMPTY });
    }
}

/// A process sends on a UNIX socket. `sk`: the sender's; `peer`: the receiver's, which is where the data goes; `len`:
/// bytes.
#[inline(always)]
pub(crate) fn unix_send(args: &impl Args, meta: Meta, socket: usize, msg: usize, len: usize) {
    let msg = args.arg(msg);
    let name = match kread::u64_field(msg, &offset::MSGHDR_NAME) {
        0 => NameAt::Nowhere,
        name => NameAt::Kernel(name.wrapping_add(2)),
    };
    let name_len = kread::u32_field(msg, &offset::MSGHDR_NAMELEN);
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    sends(meta, sk, args.arg(len) as u32, name, name_len);
}

/// `to`, `to_len`: the `struct sockaddr_un` that a datagram is sent to, if the call names one.
#[inline(always)]
pub(super) fn sends(meta: Meta, sk: Address, len: u32, to: NameAt, to_len: u32) {
    if !filter::allows_unix() {
        return;
    }
    let peer = kread::u64_field(sk, &offset::UNIX_SOCK_PEER);
    // Only the call says to which name a datagram goes, and each may go to another one.
    let seen = if filter::needed_of_unix() & filter::BY_NAME != 0 && peer == 0 {
        introduce(sk, inode(sk), to, to_len.wrapping_sub(2), meta.marks(), false)
    } else {
        seen_of(sk, peer, meta.marks())
    };
    if !is_wanted(seen) {
        return;
    }
    let nothing_queued = kread::u32_field(sk, &offset::SOCK_WMEM_ALLOC) == NOTHING_ALLOCATED;
    write(meta, Unix { sk, peer, len, marks: if nothing_queued { MARK_NOTHING_QUEUED } else { 0 }, ..EMPTY });
}

/// A UNIX socket has data, or a listener a connection. `skb`: what was queued last; `sk`: the socket that is woken;
/// `peer`: the sender's socket, or the one that connects; `len`: bytes in the `sk_buff`.
#[inline(always)]
pub(super) fn woken(meta: Meta, sk: Address) {
    if !filter::allows_unix() {
        return;
    }
    let listens = kread::u8_field(sk, &offset::SOCK_STATE) == LISTEN;
    let skb = newest(sk);
    // The `sk_buff` belongs to the sender's socket; that of a connection belongs to the server's new socket.
    let sender = kread::u64_field(skb, &offset::SK_BUFF_SK);
    let peer = if listens { kread::u64_field(sender, &offset::UNIX_SOCK_PEER) } else { sender };
    // The reader may have taken it already. A stream has one sender, and for the rest nobody can say.
    let asked = if peer == 0 { kread::u64_field(sk, &offset::UNIX_SOCK_PEER) } else { peer };
    if !is_wanted_socket(asked) {
        return;
    }
    let socket_type = kread::u16_field(sk, &offset::SOCK_TYPE);
    if socket_type != STREAM {
        // A datagram's sender may have no name, and talk to many that have.
        look_up(sk, 0, 0, true);
    }
    let len = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    let marks = if listens { MARK_LISTENS } else { 0 };
    write(meta, Unix { skb, sk, peer, len, marks, descriptors: descriptors(skb), ..EMPTY });
    sched::will_wake(meta, sk);
}

/// A process takes an `sk_buff` off a socket's queue and frees it.
#[inline(always)]
pub(crate) fn unix_accepted(args: &impl Args, meta: Meta, sk: usize, skb: usize) {
    let (listener, skb) = (args.arg(sk), args.arg(skb));
    if kread::u16_field(listener, &offset::SOCK_FAMILY) as u8 == AF_UNIX
        && kread::u8_field(listener, &offset::SOCK_STATE) == LISTEN
    {
        connection_taken(meta, skb, kread::u64_field(skb, &offset::SK_BUFF_SK));
    }
}

/// `skb`: the connection; `sk`: the server's new socket. In the record `peer` is the socket that connected.
#[inline(always)]
pub(super) fn connection_taken(meta: Meta, skb: Address, sk: Address) {
    // Only connections are empty and on a stream (or seqpacket) socket.
    if !filter::allows_unix() || kread::u32_field(skb, &offset::SK_BUFF_LEN) != 0 {
        return;
    }
    let peer = kread::u64_field(sk, &offset::UNIX_SOCK_PEER);
    if peer != 0 && is_wanted_socket(peer) {
        write(meta, Unix { skb, sk, peer, ..EMPTY });
    }
}

/// A process copies data out of an `sk_buff`. `sk`: the sender's socket; `offset`: where in the data; `len`: bytes copied;
/// `total`: bytes of data.
#[inline(always)]
pub(crate) fn unix_copy_at(args: &impl Args, meta: Meta, skb: usize, offset: usize, _to: usize, len: usize) {
    copies(meta, args.arg(skb), Some(args.arg(offset) as u32), args.arg(len) as u32);
}

/// [`unix_copy_at`] where the offset is not said: it is what was taken from a stream's `sk_buff` before.
#[inline(always)]
pub(crate) fn unix_copy(args: &impl Args, meta: Meta, skb: usize, len: usize) {
    copies(meta, args.arg(skb), None, args.arg(len) as u32);
}

#[inline(always)]
fn copies(meta: Meta, skb: Address, offset: Option<u32>, len: u32) {
    let sk = kread::u64_field(skb, &offset::SK_BUFF_SK);
    if sk == 0 || kread::u16_field(sk, &offset::SOCK_FAMILY) as u8 != AF_UNIX || !filter::allows_unix() {
        return;
    }
    let is_stream = kread::u16_field(sk, &offset::SOCK_TYPE) == STREAM;
    let point = if is_stream { Point::UnixStreamRecvmsg } else { Point::UnixDgramRecvmsg };
    let Some(meta) = meta.at(point) else { return };
    if !is_wanted_socket(sk) {
        return;
    }
    let offset = match offset {
        Some(offset) => offset,
        // A datagram is read from its start.
        None if is_stream => kread::u32_field(control(skb), &offset::UNIX_CB_CONSUMED),
        None => 0,
    };
    let total = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    write(meta, Unix { skb, sk, len, offset, total, descriptors: descriptors(skb), ..EMPTY });
}

/// `UNIXCB(skb)`.
#[inline(always)]
fn control(skb: Address) -> Address {
    skb.wrapping_add(u64::from(offset::SK_BUFF_CB.load()))
}

/// File descriptors that an `sk_buff` carries.
#[inline(always)]
fn descriptors(skb: Address) -> u8 {
    if skb == 0 {
        return 0;
    }
    match kread::u64_field(control(skb), &offset::UNIX_CB_FP) {
        0 => 0,
        files => kread::u16_field(files, &offset::SCM_FP_COUNT) as u8,
    }
}

#[inline(always)]
fn is_wanted(seen: u32) -> bool {
    let needed = filter::needed_of_unix();
    seen & needed == needed
}

/// Whether a socket that has sent is wanted.
#[inline(always)]
fn is_wanted_socket(sk: Address) -> bool {
    // A constant for the verifier, as in most runs.
    filter::needed_of_unix() == 0
        // SAFETY: aligned words; the element of a socket that has gone may be another's by now, as its memory may be.
        || unsafe { SOCKETS.get(sk) }.is_some_and(|known| is_wanted(known.seen))
}

/// What was seen of a socket, with what is seen now; announces it by name if it is new and wanted.
#[inline(always)]
fn seen_of(sk: Address, peer: Address, now: u32) -> u32 {
    look_up(sk, peer, now, false)
}

/// [`seen_of`]; `announce`: whether or not it is wanted. Who uses a socket uses both directions.
#[inline(never)]
fn look_up(sk: Address, peer: Address, now: u32, announce: bool) -> u32 {
    let inode = inode(sk);
    // SAFETY: as in `is_wanted_socket`.
    if let Some(known) = unsafe { SOCKETS.get(sk) }
        && known.inode == inode
    {
        let seen = known.seen | now;
        if known.seen != seen {
            let _ = SOCKETS.insert(sk, Known { inode, seen }, 0);
            if peer != 0 {
                mark(peer, now);
            }
        }
        return seen;
    }
    // Its own name, or that of the socket that it is connected to.
    let mut address = kread::u64_field(sk, &offset::UNIX_SOCK_ADDR);
    if address == 0 && peer != 0 {
        address = kread::u64_field(peer, &offset::UNIX_SOCK_ADDR);
    }
    if address == 0 {
        return introduce(sk, inode, NameAt::Nowhere, 0, now, announce);
    }
    let len = kread::u32_field(address, &offset::UNIX_ADDRESS_LEN).wrapping_sub(2);
    let path = address.wrapping_add(u64::from(offset::UNIX_ADDRESS_NAME.load()) + 2);
    introduce(sk, inode, NameAt::Kernel(path), len, now, announce)
}

/// The other end is wanted for the same reason. It keeps its inode, so that it is still announced when it first sends.
#[inline(always)]
fn mark(peer: Address, now: u32) {
    if let Some(known) = SOCKETS.get_ptr_mut(peer) {
        // SAFETY: a live element of the map; an update that is lost is made by the next message.
        unsafe { (*known).seen |= now };
    }
}

/// Remembers a socket, and announces it by name if it is wanted, or if `announce` says so. Returns what is seen of it: `now`,
/// and whether the name is a wanted one.
#[inline(always)]
#[allow(clippy::cast_ptr_alignment, reason = "the path is aligned by its place in the record")]
fn introduce(sk: Address, inode: u32, at: NameAt, len: u32, now: u32, announce: bool) -> u32 {
    let len = if len > UNIX_PATH_LEN as u32 { 0 } else { len };
    // Built where it will be read: the stack has no room for it.
    let Some(mut entry) = record::reserve::<UnixNameRecord>(KIND_UNIX_NAME) else { return now };
    let record = entry.as_mut_ptr();
    let socket_type = kread::u16_field(sk, &offset::SOCK_TYPE) as u8;
    // SAFETY: `record` points to the reserved memory, which is aligned and as large as the record. The path and the padding
    // behind it are UNIX_WORDS aligned words.
    let name = unsafe {
        (&raw mut (*record).kind).write(KIND_UNIX_NAME);
        (&raw mut (*record).socket_type).write(socket_type);
        (&raw mut (*record).pad).write(0);
        (&raw mut (*record).inode).write(inode);
        (&raw mut (*record).sk).write(sk);
        let words = (&raw mut (*record).path).cast::<[u64; UNIX_WORDS]>();
        for word in 0..UNIX_WORDS {
            words.cast::<u64>().add(word).write_volatile(0);
        }
        &mut *words
    };
    // What lies behind the name in the same memory does not belong to it, so just as many bytes are read.
    let is_read = match at {
        NameAt::Kernel(path) => kread::read_bytes(path, name, len),
        NameAt::User(path) => kread::read_user_bytes(path, name, len),
        NameAt::Nowhere => false,
    };
    let len = if is_read { len } else { 0 };
    // SAFETY: as above.
    unsafe { (&raw mut (*record).len).write(len as u8) };
    let seen = now | filter::unix_name(name, len);
    if announce || is_wanted(seen) {
        record::send(entry);
    } else {
        record::take_back(entry);
    }
    let _ = SOCKETS.insert(sk, Known { inode, seen }, 0);
    seen
}

/// The inode number of a socket, 0 if it has none (any more).
#[inline(always)]
pub(super) fn inode(sk: Address) -> u32 {
    let socket = kread::u64_field(sk, &offset::SOCK_SOCKET);
    if socket == 0 {
        return 0;
    }
    // `SOCKET_INODE()`: the `struct socket` is the first member of a `struct socket_alloc`.
    kread::u64_field(socket.wrapping_add(u64::from(offset::SOCKET_INODE.load())), &offset::INODE_INO) as u32
}

/// What a reader found out; the rest of a [`UnixRecord`] is the same everywhere.
#[derive(Clone, Copy)]
struct Unix {
    skb: u64,
    sk: u64,
    peer: u64,
    marks: u8,
    descriptors: u8,
    len: u32,
    offset: u32,
    total: u32,
}

const EMPTY: Unix = Unix { skb: 0, sk: 0, peer: 0, marks: 0, descriptors: 0, len: 0, offset: 0, total: 0 };

#[inline(always)]
fn write(meta: Meta, unix: Unix) {
    let tgid = meta.user();
    record::submit(
        KIND_UNIX,
        UnixRecord {
            kind: KIND_UNIX,
            point: meta.point as u8,
            backend: meta.backend as u8,
            marks: unix.marks,
            cpu: record::cpu() as u16,
            socket_type: kread::u16_field(unix.sk, &offset::SOCK_TYPE) as u8,
            descriptors: unix.descriptors,
            time_ns: meta.time_ns,
            skb: unix.skb,
            sk: unix.sk,
            peer: unix.peer,
            tgid,
            tid: record::tid(),
            len: unix.len,
            offset: unix.offset,
            total: unix.total,
            pad: 0,
        },
    );
}
