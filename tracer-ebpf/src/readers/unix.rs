//! Points on UNIX sockets.

mod held;
mod known;
mod names;

use tracer_common::{
    event::{KIND_UNIX, MARK_LISTENS, MARK_NOTHING_QUEUED, MARK_TAKEN, UnixRecord},
    probes::Point,
};

use self::known::{is_wanted, look_up, mark, seen_of};
pub(super) use self::names::Name;
use super::{calls, sched, sockets::newest};
use crate::{
    context::Args,
    filter::{self, BY_PROCESS},
    flow::AF_UNIX,
    kread::{self, Address, offset},
    record::{self, Meta},
};

/// `SOCK_STREAM`.
const STREAM: u16 = 1;
/// `SOCK_DGRAM`.
const DATAGRAM: u16 = 2;
/// `TCP_LISTEN`, which UNIX sockets use as well.
const LISTEN: u8 = 10;
/// `sk_wmem_alloc` of a socket of which no `sk_buff` is left anywhere.
const NOTHING_ALLOCATED: u32 = 1;

/// A process connects a UNIX socket. The name goes before it in a record of its own.
#[inline(always)]
pub(crate) fn unix_connect(args: &impl Args, meta: Meta, socket: usize, addr: usize, addr_len: usize) {
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    connects(meta, sk, Name::kernel(args.arg(addr), args.arg(addr_len) as u32));
}

/// `name`: what it connects to. It may be another spelling of the name that the listener has.
#[inline(always)]
pub(super) fn connects(meta: Meta, sk: Address, name: Name) {
    if !filter::allows_unix() {
        return;
    }
    let wanted = is_wanted(look_up(sk, 0, &name, meta.marks()));
    let call = Unix { sk, ..EMPTY };
    held::hold(&meta, &call, wanted);
    if wanted {
        write(meta, call);
    }
}

/// A process sends on a UNIX socket. `sk`: the sender's; `peer`: the receiver's, which is where the data goes; `len`:
/// bytes.
#[inline(always)]
pub(crate) fn unix_send(args: &impl Args, meta: Meta, socket: usize, msg: usize, len: usize) {
    let msg = args.arg(msg);
    let name_len = kread::u32_field(msg, &offset::MSGHDR_NAMELEN);
    let name = Name::kernel(kread::u64_field(msg, &offset::MSGHDR_NAME), name_len);
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    sends(meta, sk, args.arg(len) as u32, name);
}

/// `to`: what the call says of where it goes.
#[inline(always)]
pub(super) fn sends(meta: Meta, sk: Address, len: u32, to: Name) {
    if !filter::allows_unix() {
        return;
    }
    let socket_type = kread::u16_field(sk, &offset::SOCK_TYPE);
    // `unix_dgram_sendmsg` prefers the call's name to the connection. Other sockets take none.
    let is_named = socket_type == DATAGRAM && to.is_given();
    let peer = if is_named { 0 } else { kread::u64_field(sk, &offset::UNIX_SOCK_PEER) };
    let asks_name = filter::needed_of_unix() & filter::BY_NAME != 0;
    let to = to.only_if(is_named && asks_name);
    let wanted = is_wanted(look_up(sk, peer, &to, meta.marks()));
    let nothing_queued = kread::u32_field(sk, &offset::SOCK_WMEM_ALLOC) == NOTHING_ALLOCATED;
    let call = Unix { sk, peer, len, marks: if nothing_queued { MARK_NOTHING_QUEUED } else { 0 }, ..EMPTY };
    if socket_type != STREAM {
        held::hold(&meta, &call, wanted);
    }
    if wanted {
        write(meta, call);
    }
}

/// A UNIX socket has data, or a listener a connection. `skb`: what was queued last; `sk`: the socket that is woken;
/// `peer`: the sender's socket, or the one that connects; `len`: bytes in the `sk_buff`.
#[inline(never)]
pub(super) fn woken(meta: &Meta, sk: Address) {
    if !filter::allows_unix() {
        return;
    }
    let listens = kread::u8_field(sk, &offset::SOCK_STATE) == LISTEN;
    let is_stream = kread::u16_field(sk, &offset::SOCK_TYPE) == STREAM;
    let skb = newest(sk);
    // The `sk_buff` belongs to the sender's socket; that of a connection belongs to the server's new socket.
    let sender = kread::u64_field(skb, &offset::SK_BUFF_SK);
    let peer = if listens { kread::u64_field(sender, &offset::UNIX_SOCK_PEER) } else { sender };
    // Whose call it is, its thread knows: the reader may have taken the `sk_buff` already, and another one's may be behind
    // it. A stream has one sender.
    let held = if listens || !is_stream { held::take(listens) } else { None };
    let caller = match held {
        Some(held) => held.sk,
        None if peer == 0 => kread::u64_field(sk, &offset::UNIX_SOCK_PEER),
        None => peer,
    };
    let seen = seen_at_wake_up(sk, caller, held.is_some());
    if peer == caller && (listens || !is_stream) && filter::needed_of_unix() != 0 {
        held::queued(skb, sk, seen);
    }
    if !is_wanted(seen) {
        return;
    }
    if let Some(held) = held
        && held.is_written == 0
    {
        held::release(meta, &held);
    }
    if !is_stream {
        // A datagram's sender may have no name, and talk to many that have.
        look_up(sk, kread::u64_field(sk, &offset::UNIX_SOCK_PEER), &Name::NONE, known::ANNOUNCE);
    }
    let len = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    let marks = if listens { MARK_LISTENS } else { 0 };
    write(*meta, Unix { skb, sk, peer, len, marks, descriptors: descriptors(skb), ..EMPTY });
    sched::will_wake(*meta, sk);
}

/// What was seen of a message whose reader is woken: of the sender's socket, `caller`, and of the reader's, `sk`. `is_held`:
/// whether the call did not know its receiver.
#[inline(always)]
fn seen_at_wake_up(sk: Address, caller: Address, is_held: bool) -> u32 {
    if caller == 0 {
        return 0;
    }
    let is_datagram = kread::u16_field(caller, &offset::SOCK_TYPE) == DATAGRAM;
    let peer = kread::u64_field(caller, &offset::UNIX_SOCK_PEER);
    let mut seen = seen_of(caller);
    if !is_held {
        // The call was not seen (`io_uring`, say), but this is its thread. Each datagram may go to another receiver.
        let is_filtered = filter::needed_of_unix() != 0;
        let now = filter::process();
        if is_datagram && is_filtered {
            seen = look_up(caller, sk, &Name::NONE, now);
        } else if now & !seen != 0 || !known::is_known(caller) {
            seen = look_up(caller, peer, &Name::NONE, now);
        }
    }
    if is_held && !is_wanted(seen) {
        seen |= look_up(sk, kread::u64_field(sk, &offset::UNIX_SOCK_PEER), &Name::NONE, 0)
            & (filter::BY_NAME | BY_PROCESS);
        if is_wanted(seen) {
            known::adopt(caller, if is_datagram { 0 } else { peer }, &Name::bound(sk), seen);
        }
    }
    seen
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
    if peer != 0 && is_wanted(seen_at_read(meta, skb, peer, true)) {
        write(meta, Unix { skb, sk, peer, ..EMPTY });
    }
}

/// What was seen of what a process reads. `sk`: the sender's socket.
#[inline(always)]
fn seen_at_read(meta: Meta, skb: Address, sk: Address, is_one_of_many: bool) -> u32 {
    if filter::needed_of_unix() == 0 {
        return 0;
    }
    let now = meta.marks();
    let queued = if is_one_of_many { held::dequeued(skb) } else { None };
    // A datagram's sender may send to others, too.
    let seen = queued.map_or_else(|| seen_of(sk), |queued| queued.seen);
    if now & !seen != 0 {
        mark(queued.map_or(sk, |queued| queued.receiver), now);
    }
    seen | now
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
    // `__skb_try_recv_from_queue` takes a datagram off the queue before it is copied, unless the call peeks. A stream's
    // `sk_buff` stays there meanwhile.
    let is_peeked =
        if is_stream { calls::peeks() } else { kread::u64_field(skb, &offset::SK_BUFF_NEXT) != 0 };
    if is_peeked {
        return;
    }
    let point = if is_stream { Point::UnixStreamRecvmsg } else { Point::UnixDgramRecvmsg };
    let Some(meta) = meta.at(point) else { return };
    if !is_wanted(seen_at_read(meta, skb, sk, !is_stream)) {
        return;
    }
    let offset = match offset {
        Some(offset) => offset,
        // A datagram is read from its start.
        None if is_stream => kread::u32_field(control(skb), &offset::UNIX_CB_CONSUMED),
        None => 0,
    };
    let total = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    let marks = if is_stream && !calls::are_seen() { 0 } else { MARK_TAKEN };
    write(meta, Unix { skb, sk, len, offset, total, marks, descriptors: descriptors(skb), ..EMPTY });
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
