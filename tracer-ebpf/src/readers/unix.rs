//! Points on UNIX sockets.

mod held;
mod known;
mod names;
mod settled;

use core::mem::MaybeUninit;

use tracer_common::{
    event::{KIND_UNIX, MARK_LISTENS, MARK_NOTHING_QUEUED, MARK_TAKEN, UnixRecord},
    probes::Point,
};

use self::known::{is_wanted, look_up, mark, seen_of};
pub(super) use self::names::Name;
use super::{
    DATAGRAM, STREAM, calls, sched,
    sockets::{inode, newest},
};
use crate::{
    context::Args,
    filter::{self, BY_PROCESS},
    flow::AF_UNIX,
    kread::{self, Address, Fields as _, Pointer, Raw, offset},
    record::{self, Meta, Probe},
    sample,
};

/// `TCP_LISTEN`, which UNIX sockets use as well.
const LISTEN: u8 = 10;
/// `sk_wmem_alloc` of a socket of which no `sk_buff` is left anywhere.
const NOTHING_ALLOCATED: u32 = 1;

/// What does not change of a socket while it is open.
#[derive(Clone, Copy)]
pub(super) struct Socket {
    /// Number of its inode.
    pub(super) inode: u32,
    pub(super) socket_type: u16,
}

impl Socket {
    #[inline(always)]
    fn of(sk: impl Pointer) -> Self {
        Self { inode: inode(sk), socket_type: sk.field(&offset::SOCK_TYPE) }
    }
}

/// A socket that is looked up.
pub(super) struct Looked {
    sk: Raw,
    socket: Socket,
    /// Where its data goes, 0 if that is not known.
    peer: Address,
}

impl Looked {
    /// With the socket that it is connected to.
    #[inline(always)]
    fn at(sk: impl Pointer) -> Self {
        Self { sk: sk.raw(), socket: Socket::of(sk), peer: peer_of(sk) }
    }
}

/// A process connects a UNIX socket. The name goes before it in a record of its own.
#[inline(always)]
pub(crate) fn unix_connect(args: &impl Args, probe: Probe, socket: usize, addr: usize, addr_len: usize) {
    let sk = args.pointer(socket).pointer(&offset::SOCKET_SK);
    if sk.is_null() {
        return;
    }
    connects(
        probe,
        sk,
        Socket::of(sk),
        Name::kernel(args.pointer(addr).address(), args.arg(addr_len) as u32),
    );
}

/// `name`: what it connects to. It may be another spelling of the name that the listener has.
#[inline(always)]
pub(super) fn connects(probe: Probe, sk: impl Pointer, socket: Socket, name: Name) {
    if !filter::allows_unix() {
        return;
    }
    let meta = probe.now();
    let wanted = is_wanted(look_up(&Looked { sk: sk.raw(), socket, peer: 0 }, &name, meta.marks()));
    let call = Unix { sk: sk.address(), ..EMPTY };
    held::hold(&meta, &call, wanted);
    if wanted {
        write(meta, socket.socket_type, call);
    }
}

/// A process sends on a UNIX socket. `sk`: the sender's; `peer`: the receiver's, which is where the data goes; `len`:
/// bytes.
#[inline(always)]
pub(crate) fn unix_send(args: &impl Args, probe: Probe, socket: usize, msg: usize, len: usize) {
    let msg = args.pointer(msg);
    let name = Name::kernel(msg.address_in(&offset::MSGHDR_NAME), msg.field(&offset::MSGHDR_NAMELEN));
    let sk = args.pointer(socket).pointer(&offset::SOCKET_SK);
    if sk.is_null() {
        return;
    }
    sends(probe, sk, Socket::of(sk), args.arg(len) as u32, name);
}

/// `to`: what the call says of where it goes.
#[inline(always)]
pub(super) fn sends(probe: Probe, sk: impl Pointer, socket: Socket, len: u32, to: Name) {
    if !filter::allows_unix() || !sample::unix_call() {
        return;
    }
    if socket.socket_type == STREAM {
        sends_on_stream(probe, sk, socket, len);
        return;
    }
    let meta = probe.now();
    // `unix_dgram_sendmsg` prefers the call's name to the connection. Other sockets take none.
    let is_named = socket.socket_type == DATAGRAM && to.is_given();
    let peer = if is_named { 0 } else { peer_of(sk) };
    let asks_name = filter::needed_of_unix() & filter::BY_NAME != 0;
    let to = to.only_if(is_named && asks_name);
    let wanted = is_wanted(look_up(&Looked { sk: sk.raw(), socket, peer }, &to, meta.marks()));
    let call = call_of(sk, peer, len);
    held::hold(&meta, &call, wanted);
    if wanted {
        write(meta, socket.socket_type, call);
    }
}

#[inline(always)]
fn sends_on_stream(probe: Probe, sk: impl Pointer, socket: Socket, len: u32) {
    let now = probe.marks();
    let (seen, peer) = known::find_sender(sk.address(), socket.inode, now).unwrap_or_else(|| {
        let peer = peer_of(sk);
        (look_up(&Looked { sk: sk.raw(), socket, peer }, &Name::NONE, now), peer)
    });
    if is_wanted(seen) {
        write(probe.now(), socket.socket_type, call_of(sk, peer, len));
    }
}

/// What is said of a call to send.
#[inline(always)]
fn call_of(sk: impl Pointer, peer: Address, len: u32) -> Unix {
    let nothing_queued = sk.field::<u32>(&offset::SOCK_WMEM_ALLOC) == NOTHING_ALLOCATED;
    let marks = if nothing_queued { MARK_NOTHING_QUEUED } else { 0 };
    Unix { sk: sk.address(), peer, len, marks, ..EMPTY }
}

/// The socket at the other end. (A `struct unix_sock` begins with its `struct sock`.)
#[inline(always)]
fn peer_of(sk: impl Pointer) -> Address {
    sk.raw().field(&offset::UNIX_SOCK_PEER)
}

/// A UNIX socket has data, or a listener a connection. `skb`: what was queued last; `sk`: the socket that is woken;
/// `peer`: the sender's socket, or the one that connects; `len`: bytes in the `sk_buff`.
#[inline(never)]
pub(super) fn woken(probe: Probe, sk: impl Pointer) {
    if !filter::allows_unix() {
        return;
    }
    let listens = sk.field::<u8>(&offset::SOCK_STATE) == LISTEN;
    let is_stream = sk.field::<u16>(&offset::SOCK_TYPE) == STREAM;
    let newest = newest(sk);
    if !listens && !sample::unix_wakes(newest.map_or(0, Pointer::address)) {
        return;
    }
    // Before anything is looked up: who reads on another CPU need not wait to be woken, and would seem to have read before.
    let meta = probe.now();
    let (mut skb, mut sender, mut sender_inode, mut len, mut descriptors) = (0, 0, 0, 0, 0);
    if let Some(newest) = newest {
        let sender_sk = newest.pointer(&offset::SK_BUFF_SK);
        (len, descriptors) = (newest.field(&offset::SK_BUFF_LEN), self::descriptors(newest));
        (skb, sender, sender_inode) = (newest.address(), sender_sk.address(), inode(sender_sk));
    }
    // The `sk_buff` belongs to the sender's socket; that of a connection belongs to the server's new socket.
    let peer = if listens { peer_of(Raw(sender)) } else { sender };
    // Whose call it is, its thread knows: the reader may have taken the `sk_buff` already, and another one's may be behind
    // it. A stream has one sender.
    // Zeroes, and not an option: older verifiers would see LLVM look at what there is not.
    let mut held = MaybeUninit::uninit();
    let held: &mut held::Call = kread::zeroed(&mut held);
    if listens || !is_stream {
        held::take(listens, held);
    }
    let is_held = held.sk != 0;
    let caller = match held.sk {
        0 if peer == 0 => Raw(peer_of(sk)),
        0 => Raw(peer),
        caller => Raw(caller),
    };
    let is_of_caller = peer == caller.address();
    let caller_inode = if is_of_caller && !listens { sender_inode } else { inode(caller) };
    let seen = seen_at_wake_up(
        sk,
        caller,
        Socket { inode: caller_inode, socket_type: sk.field(&offset::SOCK_TYPE) },
        is_held,
    );
    if is_of_caller && (listens || !is_stream) && filter::needed_of_unix() != 0 {
        held::queued(skb, sk.address(), seen);
    }
    if !is_wanted(seen) {
        return;
    }
    if is_held && held.is_written == 0 {
        held::release(meta, held);
    }
    if !is_stream {
        // A datagram's sender may have no name, and talk to many that have.
        look_up(&Looked::at(sk), &Name::NONE, known::ANNOUNCE);
    }
    let marks = if listens { MARK_LISTENS } else { 0 };
    let socket_type = sk.field(&offset::SOCK_TYPE);
    write(meta, socket_type, Unix { skb, sk: sk.address(), peer, len, marks, descriptors, ..EMPTY });
    sched::will_wake(meta, sk);
}

/// What was seen of a message whose reader is woken: of the sender's socket, `caller`, and of the reader's, `sk`. `is_held`:
/// whether the call did not know its receiver.
#[inline(always)]
fn seen_at_wake_up(sk: impl Pointer, caller: Raw, socket: Socket, is_held: bool) -> u32 {
    if caller.is_null() {
        return 0;
    }
    let now = filter::process();
    let (seen, is_known) = known::find(caller.address(), socket.inode);
    if socket.socket_type == STREAM && is_known && now & !seen == 0 && !is_held {
        return seen;
    }
    let socket = u64::from(socket.inode) | u64::from(socket.socket_type) << 32 | u64::from(is_held) << 48;
    unix_seen_at_wake_up(sk.address(), caller.address(), socket, now.into()) as u32
}

/// [`seen_at_wake_up`] of what is not known yet; verified by itself, as `unix_look_up` in `known`. `socket`: the caller's inode, the
/// type of both, `is_held`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn unix_seen_at_wake_up(sk: u64, caller: u64, socket: u64, now: u64) -> u64 {
    let (is_held, now) = (socket >> 48 != 0, now as u32);
    // All of a kind talk to their like.
    let socket = Socket { inode: socket as u32, socket_type: (socket >> 32) as u16 };
    let (sk, caller) = (Raw(sk), Raw(caller));
    let is_datagram = socket.socket_type == DATAGRAM;
    let (mut seen, is_known) = known::find(caller.address(), socket.inode);
    if !is_held {
        // The call was not seen (`io_uring`, say), but this is its thread. Each datagram may go to another receiver.
        let is_filtered = filter::needed_of_unix() != 0;
        if is_datagram && is_filtered {
            seen = look_up(&Looked { sk: caller, socket, peer: sk.address() }, &Name::NONE, now);
        } else if now & !seen != 0 || !is_known {
            seen = look_up(&Looked { sk: caller, socket, peer: peer_of(caller) }, &Name::NONE, now);
        }
    }
    if is_held && !is_wanted(seen) {
        seen |= look_up(&Looked::at(sk), &Name::NONE, 0) & (filter::BY_NAME | BY_PROCESS);
        if is_wanted(seen) {
            let peer = if is_datagram { 0 } else { peer_of(caller) };
            known::adopt(caller, peer, &Name::bound(sk), seen);
        }
    }
    seen.into()
}

/// A process takes an `sk_buff` off a socket's queue and frees it.
#[inline(always)]
pub(crate) fn unix_accepted(args: &impl Args, probe: Probe, sk: usize, skb: usize) {
    let (listener, skb) = (args.pointer(sk), args.pointer(skb));
    if listener.field::<u16>(&offset::SOCK_FAMILY) as u8 == AF_UNIX
        && listener.field::<u8>(&offset::SOCK_STATE) == LISTEN
    {
        let sk = skb.pointer(&offset::SK_BUFF_SK);
        if !sk.is_null() {
            connection_taken(probe, skb, sk);
        }
    }
}

/// `skb`: the connection; `sk`: the server's new socket. In the record `peer` is the socket that connected.
#[inline(always)]
pub(super) fn connection_taken(probe: Probe, skb: impl Pointer, sk: impl Pointer) {
    // Only connections are empty and on a stream (or seqpacket) socket.
    if !filter::allows_unix() || skb.field::<u32>(&offset::SK_BUFF_LEN) != 0 {
        return;
    }
    let peer = peer_of(sk);
    if peer != 0 && is_wanted(seen_of_queued(probe, skb.address(), peer)) {
        write(
            probe.now(),
            sk.field(&offset::SOCK_TYPE),
            Unix { skb: skb.address(), sk: sk.address(), peer, ..EMPTY },
        );
    }
}

/// What was seen of a datagram, or a connection, that a process takes off a queue. `sk`: the sender's socket.
#[inline(always)]
fn seen_of_queued(probe: Probe, skb: Address, sk: Address) -> u32 {
    if filter::needed_of_unix() == 0 {
        return 0;
    }
    // A datagram's sender may send to others, too.
    match held::dequeued(skb) {
        Some(queued) => used(queued.receiver, queued.seen, probe.marks()),
        None => used(sk, seen_of(sk), probe.marks()),
    }
}

/// What was seen of a socket that a process reads from, or whose data it reads: `seen`, and `now`.
#[inline(always)]
fn used(sk: Address, seen: u32, now: u32) -> u32 {
    if now & !seen != 0 {
        mark(Raw(sk), now);
    }
    seen | now
}

/// A process copies data out of an `sk_buff`. `sk`: the sender's socket; `offset`: where in the data; `len`: bytes copied;
/// `total`: bytes of data.
#[inline(always)]
pub(crate) fn unix_copy_at(
    args: &impl Args,
    probe: Probe,
    skb: usize,
    offset: usize,
    _to: usize,
    len: usize,
) {
    copies(probe, args.pointer(skb), Some(args.arg(offset) as u32), args.arg(len) as u32);
}

/// [`unix_copy_at`] where the offset is not said: it is what was taken from a stream's `sk_buff` before.
#[inline(always)]
pub(crate) fn unix_copy(args: &impl Args, probe: Probe, skb: usize, len: usize) {
    copies(probe, args.pointer(skb), None, args.arg(len) as u32);
}

#[inline(always)]
fn copies(probe: Probe, skb: impl Pointer, offset: Option<u32>, len: u32) {
    let sk = skb.pointer(&offset::SK_BUFF_SK);
    if sk.is_null() || sk.field::<u16>(&offset::SOCK_FAMILY) as u8 != AF_UNIX || !filter::allows_unix() {
        return;
    }
    let is_stream = sk.field::<u16>(&offset::SOCK_TYPE) == STREAM;
    // Most of what is not wanted is told by this. (Of datagrams each may come from another sender.)
    let (seen, now) = (if is_stream { seen_of(sk.address()) } else { 0 }, probe.marks());
    let is_of_others = is_stream && !is_wanted(seen) && now & !seen == 0;
    if is_of_others || !sample::unix_is_drawn(skb.address()) {
        return;
    }
    // `__skb_try_recv_from_queue` takes a datagram off the queue before it is copied, unless the call peeks. A stream's
    // `sk_buff` stays there meanwhile.
    let is_peeked = if is_stream { calls::peeks() } else { !skb.pointer(&offset::SK_BUFF_NEXT).is_null() };
    if is_peeked {
        return;
    }
    let point = if is_stream { Point::UnixStreamRecvmsg } else { Point::UnixDgramRecvmsg };
    let Some(probe) = probe.at(point) else { return };
    let offset = match offset {
        Some(offset) => offset,
        // A datagram is read from its start.
        None if is_stream => control(skb).field(&offset::UNIX_CB_CONSUMED),
        None => 0,
    };
    let total: u32 = skb.field(&offset::SK_BUFF_LEN);
    if !is_stream || offset.wrapping_add(len) >= total {
        sample::unix_is_read(skb.address());
    }
    let seen = if is_stream {
        used(sk.address(), seen, now)
    } else {
        seen_of_queued(probe, skb.address(), sk.address())
    };
    if !is_wanted(seen) {
        return;
    }
    let meta = probe.now();
    let marks = if is_stream && !calls::are_seen() { 0 } else { MARK_TAKEN };
    let descriptors = descriptors(skb);
    let copy = Unix { marks, descriptors, len, offset, total, ..EMPTY };
    write(meta, sk.field(&offset::SOCK_TYPE), Unix { skb: skb.address(), sk: sk.address(), ..copy });
}

/// `UNIXCB(skb)`.
#[inline(always)]
fn control<P: Pointer>(skb: P) -> P {
    skb.inner(&offset::SK_BUFF_CB)
}

/// File descriptors that an `sk_buff` carries.
#[inline(always)]
fn descriptors(skb: impl Pointer) -> u8 {
    // What lies in the control block the verifier does not know to be a pointer.
    match control(skb).address_in(&offset::UNIX_CB_FP) {
        0 => 0,
        files => Raw(files).field::<u16>(&offset::SCM_FP_COUNT) as u8,
    }
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

/// `socket_type`: that of the record's socket.
#[inline(always)]
fn write(meta: Meta, socket_type: u16, unix: Unix) {
    let thread = meta.user();
    record::submit(
        KIND_UNIX,
        UnixRecord {
            kind: KIND_UNIX,
            point: meta.point as u8,
            backend: meta.backend as u8,
            marks: unix.marks,
            cpu: record::cpu() as u16,
            socket_type: socket_type as u8,
            descriptors: unix.descriptors,
            time_ns: meta.time_ns,
            skb: unix.skb,
            sk: unix.sk,
            peer: unix.peer,
            tgid: thread.tgid,
            tid: if thread.tid == 0 { record::tid() } else { thread.tid },
            len: unix.len,
            offset: unix.offset,
            total: unix.total,
            pad: 0,
        },
    );
}
