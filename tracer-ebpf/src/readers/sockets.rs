//! Points that have a socket of TCP or UDP in hand, and those that every kind of socket passes.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, LruHashMap},
};
use tracer_common::{event::MARK_TO_PEER, probes::Point};

use super::{EMPTY, calls, packets, sched, unix};
use crate::{
    context::Args,
    filter,
    flow::{self, AF_INET, AF_INET6, AF_UNIX, Direction, FlowKey},
    kread::{self, Address, Copied, Fields as _, Given, Pointer, Raw, offset},
    packet::{Network, NetworkHeader, Packet, TCP, UDP},
    record::{self, Hop, Meta, Probe},
    sample,
    words::is_zero,
};

/// `MSG_PEEK`: the datagram stays in the queue. `MSG_ERRQUEUE`: what is read is an error, from another queue.
const MSG_PEEK: u32 = 2;
const MSG_ERRQUEUE: u32 = 0x2000;

/// A process calls send on a TCP socket. `seq`: the sequence number that its first byte gets if nobody else is
/// sending; `len`: bytes.
#[inline(always)]
pub(crate) fn tcp_send(args: &impl Args, probe: Probe, sk: usize, _msg: usize, len: usize) {
    let sk = args.pointer(sk);
    sends_tcp(probe, sk, || number(sk, &offset::TCP_SOCK_WRITE_SEQ), args.arg(len) as u32);
}

/// How many threads' calls are known, a power of two. Those that share a place take turns.
const THREADS: u32 = 4096;

/// A call of several vectors or pages that TCP has taken data of: thread, 0 if the last one was another, and below it the sequence number of
/// its first byte; its socket; the number behind its last byte.
type Begun = [u64; 3];

/// The last one of each thread.
#[map]
static BEGUN: Array<Begun> = Array::with_max_entries(THREADS, 0);

/// `enum iter_type` (6.16): a buffer of a process, several of them. What follows is the kernel's.
const ITER_UBUF: u8 = 0;
const ITER_IOVEC: u8 = 1;

/// TCP puts data into a segment (`tcp_sendmsg_locked()`, 6.16), under the socket's lock. It comes here for each segment that a call
/// fills, of which only the first is the call's begin, but also if there is no room in the socket's buffer, and again when there is. A
/// call that has come back without having sent anything, and the next one, look the same; so the last of those that begin with a byte is
/// the one that has sent it. `seq` and `len` are those of [`tcp_send`].
#[inline(always)]
pub(crate) fn tcp_takes(args: &impl Args, probe: Probe, sk: usize, msg: usize) {
    let (sk, msg) = (args.pointer(sk), args.pointer(msg));
    // Before there is anything else to know: of a large write most times are not the first.
    if msg.field::<u64>(&offset::MSGHDR_ITER_OFFSET) != 0 {
        return;
    }
    let ends = (sk.field(&offset::SOCK_NUM), u16::from_be(sk.field(&offset::SOCK_DPORT)));
    if !filter::wants_ports(ends.0, ends.1) {
        return;
    }
    let seq = number(sk, &offset::TCP_SOCK_WRITE_SEQ);
    let len = msg.field::<u64>(&offset::MSGHDR_ITER_COUNT) as u32;
    if begins(sk.address(), msg, seq, seq.wrapping_add(len)) {
        sends_tcp(probe, sk, || seq, len);
    }
}

/// Whether what a thread sends from `seq` to `end` is all that its call sends; then it is kept. (The rest of a `sendfile` that came back
/// early, sent by the next one, has the same end, and is taken for that one's.)
#[inline(always)]
fn begins(sk: Address, msg: impl Pointer, seq: u32, end: u32) -> bool {
    let kind: u8 = msg.field(&offset::MSGHDR_ITER);
    let vectors = if kind == ITER_IOVEC { calls::vectors() } else { 0 };
    // At the beginning of a vector that is not the first one the offset is 0, too.
    if vectors > msg.field(&offset::MSGHDR_ITER_SEGMENTS) {
        return false;
    }
    let tid = record::tid();
    let Some(place) = BEGUN.get_ptr_mut(tid & (THREADS - 1)) else { return true };
    if kind == ITER_UBUF {
        // Whatever is left of it is not at offset 0. What was before it goes on no more.
        // SAFETY: an aligned word of an element that lives as long as the map; volatile, as others write it meanwhile.
        unsafe { place.cast::<u64>().write_volatile(0) };
        return true;
    }
    // SAFETY: as above.
    let [begun, of, until] = unsafe { place.read_volatile() };
    let goes_on = begun >> 32 == u64::from(tid) && of == sk && begun as u32 != seq && until == u64::from(end);
    if goes_on && vectors == 0 {
        // The next page of the kernel's, or vector of a call of which it is not known how many it has.
        return false;
    }
    // SAFETY: as above.
    unsafe { place.write_volatile([u64::from(tid) << 32 | u64::from(seq), sk, end.into()]) };
    true
}

/// `seq`: as that of [`tcp_send`]. Most calls are not wanted, and it is not asked for.
#[inline(always)]
fn sends_tcp(probe: Probe, sk: impl Given, seq: impl Fn() -> u32, len: u32) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    let is_drawn = sample::draw() || sample::begins_at(sk.address(), seq());
    if is_drawn && let Some((meta, flow)) = tcp_flow(probe, sk, Direction::Out, key) {
        let seq = seq();
        if !sample::sends(sk.address(), key, seq, len) {
            return;
        }
        record::hop(meta, Hop { sk: sk.address(), flow, seq, len, ..EMPTY });
    }
}

/// The same for a TCP socket that a file descriptor has led to.
#[inline(never)]
pub(super) fn sends_tcp_by_file(probe: Probe, sk: Raw, netns: u32, len: u32) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    let is_drawn = sample::draw() || sample::begins_at(sk.address(), sk.field(&offset::TCP_SOCK_WRITE_SEQ));
    if !is_drawn || !ends_by_file(sk, key) {
        return;
    }
    (key.protocol, key.netns) = (TCP, netns);
    if let Some((meta, flow)) = wanted_flow(probe, key) {
        let seq = sk.field(&offset::TCP_SOCK_WRITE_SEQ);
        if !sample::sends(sk.address(), key, seq, len) {
            return;
        }
        record::hop(meta, Hop { sk: sk.address(), flow, seq, len, ..EMPTY });
    }
}

/// `flow::ends_of` the socket, read at once. A frame of its own on the stack.
#[inline(never)]
fn ends_by_file(sk: Raw, key: &mut FlowKey) -> bool {
    let mut room = MaybeUninit::uninit();
    let sk = Copied::of(sk, &mut room);
    flow::ends_of(sk, sk.field(&offset::SOCK_NUM), Direction::Out, key)
}

/// A process calls send on a UDP socket. `sk`: the socket; `len`: bytes. Where to, its packets say.
#[inline(always)]
pub(crate) fn udp_send(args: &impl Args, probe: Probe, sk: usize, msg: usize, len: usize) {
    // The kernel's copy of the address, as long as `struct sockaddr_storage`.
    let name = args.pointer(msg).address_in(&offset::MSGHDR_NAME);
    let port = if name == 0 { 0 } else { u16::from_be(kread::read(name, 2)) };
    sends_udp(probe, args.pointer(sk), port, args.arg(len) as u32);
}

/// `port`: where the datagram goes, host byte order; 0 if to the socket's peer.
#[inline(always)]
pub(super) fn sends_udp(probe: Probe, sk: impl Pointer, port: u16, len: u32) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = UDP;
    key.sport = sk.field(&offset::SOCK_NUM);
    key.dport = if port == 0 { u16::from_be(sk.field(&offset::SOCK_DPORT)) } else { port };
    // Without a branch: the verifier would follow both sides for each way that the call may have said its address.
    let marks = MARK_TO_PEER * is_zero(u64::from(port)) as u16;
    let is_open = filter::is_open();
    if !is_open && !filter::datagram(key) {
        return;
    }
    let (meta, sk) = (probe.now(), sk.address());
    if is_open {
        record::hop(meta, Hop { sk, marks, len, ..EMPTY });
    } else {
        // A socket that is not bound yet gets its port in the call.
        let is_v6 = u16::from(meta.point as u8 == Point::Udpv6Sendmsg as u8);
        let held =
            HeldCall { sk, time_ns: meta.time_ns, len, backend: meta.backend as u32, is_v6, marks, pad: 0 };
        let _ = CALLS.insert(record::tid(), held, 0);
    }
}

/// A call whose datagram is not known yet, and so not whether it is wanted.
#[repr(C)]
#[derive(Clone, Copy)]
struct HeldCall {
    sk: Address,
    time_ns: u64,
    len: u32,
    backend: u32,
    is_v6: u16,
    marks: u16,
    pad: u32,
}

/// The calls on UDP sockets under way, by thread, where not all traffic is wanted.
#[map]
static CALLS: LruHashMap<u32, HeldCall> = LruHashMap::with_max_entries(4096, 0);

/// What is known of a UDP socket, where not all traffic is wanted.
#[repr(C)]
#[derive(Clone, Copy)]
struct Reader {
    /// Its inode: its memory is used again.
    inode: u32,
    /// What was seen of it: [`QUEUED`], and what `filter` names.
    seen: u32,
}

/// A wanted datagram was queued on the socket. No number of `filter`'s.
const QUEUED: u32 = 1 << 31;

#[map]
static READERS: LruHashMap<u64, Reader> = LruHashMap::with_max_entries(4096, 0);

/// What was seen of a UDP socket.
#[inline(always)]
fn seen_of_reader(sk: Address, inode: u32) -> u32 {
    // SAFETY: an LRU map may hand this entry to another socket meanwhile, which has another inode.
    match unsafe { READERS.get(sk) } {
        Some(reader) if reader.inode == inode => reader.seen,
        _ => 0,
    }
}

/// The datagram of the thread's call is not traced.
#[inline(always)]
pub(super) fn forget_call() {
    let _ = CALLS.remove(record::tid());
}

/// The thread's call on this socket sends a wanted datagram: its record goes before that of the datagram.
#[inline(never)]
pub(super) fn release_call(meta: &Meta, sk: Address) {
    let tid = record::tid();
    // SAFETY: an LRU map may hand this entry to another thread meanwhile, whose socket is another one.
    let Some(held) = unsafe { CALLS.get(tid) }.copied() else { return };
    if held.sk != sk {
        return;
    }
    let _ = CALLS.remove(tid);
    let point = if held.is_v6 == 0 { Point::UdpSendmsg } else { Point::Udpv6Sendmsg };
    let meta = meta.earlier(point, held.time_ns, held.backend);
    record::hop(meta, Hop { sk, len: held.len, marks: held.marks, ..EMPTY });
}

/// A socket has data. `seq`, for TCP: `rcv_nxt`, everything before it is there; `skb`, for UDP: the datagram that was
/// queued last. Each kind has a frame of its own on the stack, which has no room for all of them in one.
#[inline(always)]
pub(crate) fn readable(args: &impl Args, probe: Probe, sk: usize) {
    let sk = args.pointer(sk);
    match sk.field::<u16>(&offset::SOCK_FAMILY) as u8 {
        AF_UNIX => unix::woken(probe, sk),
        AF_INET | AF_INET6 if sk.field::<u16>(&offset::SOCK_PROTOCOL) == u16::from(UDP) => {
            udp_readable(probe, sk);
        }
        AF_INET | AF_INET6 => tcp_readable(probe, sk),
        _ => {}
    }
}

#[inline(never)]
fn tcp_readable(probe: Probe, sk: impl Given) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if let Some((meta, flow)) = tcp_flow(probe, sk, Direction::In, key) {
        let seq = number(sk, &offset::TCP_SOCK_RCV_NXT);
        if sample::arrives(key, seq) {
            record::hop(meta, Hop { sk: sk.address(), flow, seq, ..EMPTY });
            sched::will_wake(meta, sk);
        }
    }
}

#[inline(never)]
fn udp_readable(probe: Probe, sk: impl Pointer) {
    let Some(skb) = newest(sk) else { return };
    if filter::is_open() {
        if let Some(meta) = datagram(probe, sk, skb, 0) {
            sched::will_wake(meta, sk);
        }
        return;
    }
    // Whoever has read from it before will read this.
    let inode = inode(sk);
    let seen = seen_of_reader(sk.address(), inode);
    if let Some(meta) = datagram(probe, sk, skb, seen & !QUEUED) {
        let _ = READERS.insert(sk.address(), Reader { inode, seen: seen | QUEUED }, 0);
        sched::will_wake(meta, sk);
    }
}

/// The inode number of a socket, 0 if it has none (any more).
#[inline(always)]
pub(super) fn inode(sk: impl Pointer) -> u32 {
    // `sock_alloc_file()`: the inode of its file is its own.
    let file = sk.pointer(&offset::SOCK_SOCKET).pointer(&offset::SOCKET_FILE);
    file.pointer(&offset::FILE_INODE).field::<u64>(&offset::INODE_INO) as u32
}

/// The `sk_buff` at the end of a socket's receive queue, if it is not empty. Somebody may be taking it at this moment.
#[inline(always)]
pub(super) fn newest<P: Pointer>(sk: P) -> Option<P::Target> {
    let queue = sk.inner(&offset::SOCK_RECEIVE_QUEUE);
    let last = queue.pointer(&offset::SK_BUFF_QUEUE_PREV);
    // An empty queue points at itself.
    (last.address() != queue.address()).then_some(last)
}

/// A process has copied data out of a TCP socket. `seq`: `copied_seq`, everything before it was read.
#[inline(always)]
pub(crate) fn read_up_to(args: &impl Args, probe: Probe, sk: usize) {
    let sk = args.pointer(sk);
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    // `tcp_read_sock` comes here from softirqs, too; only a process owns the socket meanwhile.
    let probe = probe.in_process_if(sk.field::<u32>(&offset::SOCK_OWNED) != 0);
    if let Some((meta, flow)) = tcp_flow(probe, sk, Direction::In, key) {
        let seq = number(sk, &offset::TCP_SOCK_COPIED_SEQ);
        if sample::is_read(key, seq) {
            record::hop(meta, Hop { sk: sk.address(), flow, seq, ..EMPTY });
        }
    }
}

/// A process has copied a datagram out of a UDP socket, and frees it. `skb`: the datagram.
#[inline(always)]
pub(crate) fn udp_read(args: &impl Args, probe: Probe, sk: usize, skb: usize, len: usize) {
    let (len, skb) = (args.arg(len) as u32, args.pointer(skb));
    // `udp_recvmsg` gives the negative length where it has only peeked, and the datagram stays in the queue. Of no bytes
    // that says nothing; but what was taken is in no list any more (`__skb_unlink`).
    let peeks = len.cast_signed().is_negative() || len == 0 && !skb.pointer(&offset::SK_BUFF_NEXT).is_null();
    if !peeks {
        datagram(probe, args.pointer(sk), skb, 0);
    }
}

/// A process has received from a socket. `skb`: for UDP, the datagram that is next in the queue, 0 if it is empty: what was
/// there before was read. `seq`: bytes; `aux`: 1 if no datagram can have come to the socket that is not wanted: it is
/// connected, or all that comes to its port is.
#[inline(always)]
pub(crate) fn udp_received(args: &impl Args, probe: Probe, sk: usize, ret: usize, flags: usize) {
    let (sk, ret) = (args.pointer(sk), args.arg(ret) as i32);
    let is_ip = matches!(sk.field::<u16>(&offset::SOCK_FAMILY) as u8, AF_INET | AF_INET6);
    if ret < 0
        || args.arg(flags) as u32 & (MSG_PEEK | MSG_ERRQUEUE) != 0
        || !is_ip
        || sk.field::<u16>(&offset::SOCK_PROTOCOL) != u16::from(UDP)
    {
        return;
    }
    let address = sk.address();
    if !filter::is_open() {
        let inode = inode(sk);
        let (seen, now) = (seen_of_reader(address, inode), probe.marks());
        if now & !seen != 0 {
            let _ = READERS.insert(address, Reader { inode, seen: seen | now }, 0);
        }
        // Who sent the datagram is not known any more, so a socket that wanted ones come to may read others as well.
        if seen & QUEUED == 0 {
            return;
        }
    }
    let is_connected = sk.field::<u16>(&offset::SOCK_DPORT) != 0;
    let aux =
        u32::from(!sample::is_on() && (is_connected || filter::wants_all_to(sk.field(&offset::SOCK_NUM))));
    record::hop(probe.now(), Hop { sk: address, skb: oldest(address), seq: ret as u32, aux, ..EMPTY });
}

/// The datagram that a UDP socket's next read gets, 0 if there is none. `__skb_recv_udp` moves all that has come to a queue
/// of its own, and takes from there first.
#[inline(always)]
fn oldest(sk: Address) -> Address {
    for queue in [&offset::UDP_SOCK_READER_QUEUE, &offset::SOCK_RECEIVE_QUEUE] {
        let queue = sk.wrapping_add(u64::from(queue.load()));
        let first = Raw(queue).address_in(&offset::SK_BUFF_QUEUE_NEXT);
        if first != queue {
            return first;
        }
    }
    0
}

/// An `sk_buff` is freed, and was not dropped: if it is a UNIX socket's, its connection was accepted.
#[inline(always)]
pub(crate) fn consumed(args: &impl Args, probe: Probe, skb: usize) {
    let skb = args.pointer(skb);
    let sk = skb.pointer(&offset::SK_BUFF_SK);
    if !sk.is_null() && sk.field::<u16>(&offset::SOCK_FAMILY) as u8 == AF_UNIX {
        unix::connection_taken(probe, skb, sk);
    }
}

/// A datagram that its protocol has received, for a socket of which `seen` was seen. `None` if it is none, or not wanted.
#[inline(always)]
fn datagram(probe: Probe, sk: impl Pointer, skb: impl Pointer, seen: u32) -> Option<Meta> {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(Network::of(skb, NetworkHeader::Recorded)) || packet.key.protocol != UDP {
        return None;
    }
    // UDP lays other things over `skb->dev`, so the namespace is that of the socket.
    packet.key.netns = flow::inode_of(sk.pointer(&offset::SOCK_NET));
    packets::write_received(probe, skb, sk.address(), packet, seen)
}

/// A field of a TCP socket beyond what all sockets have.
#[inline(always)]
fn number(sk: impl Given, field: &Global<u32>) -> u32 {
    if kread::memory_is_loaded() {
        return sk.raw().field(field);
    }
    let tcp = sk.tcp_sock();
    if tcp.is_null() { 0 } else { tcp.field(field) }
}

/// The flow of a connected TCP socket, and the moment; `None` if it is none, or not wanted. Fills in the flow.
#[inline(always)]
fn tcp_flow(probe: Probe, sk: impl Pointer, direction: Direction, key: &mut FlowKey) -> Option<(Meta, u64)> {
    let is_tcp = flow::of_socket(sk, direction, key) && key.protocol == TCP;
    // What comes in was sent in a call, which was drawn, or was not. But who reads may be what makes the flow a wanted one.
    let is_asked = direction == Direction::Out || filter::needed_of_flow() != 0 || sample::has_call(key);
    let may_be = is_tcp && is_asked;
    if may_be { wanted_flow(probe, key) } else { None }
}

#[inline(always)]
fn wanted_flow(probe: Probe, key: &FlowKey) -> Option<(Meta, u64)> {
    if !filter::packet(key) {
        return None;
    }
    let meta = probe.now();
    Some((meta, flow::number_if_seen(key, meta.marks(), 0)?))
}
