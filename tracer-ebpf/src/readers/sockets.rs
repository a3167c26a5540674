//! Points that have a socket of TCP or UDP in hand, and those that every kind of socket passes.

use core::mem::MaybeUninit;

use aya_ebpf::{macros::map, maps::LruHashMap};
use tracer_common::{
    event::{AUX_UNKNOWN, MARK_TO_PEER},
    probes::Point,
};

use super::{EMPTY, packets, sched, unix};
use crate::{
    context::Args,
    filter,
    flow::{self, AF_INET, AF_INET6, AF_UNIX, Direction, FlowKey},
    kread::{self, Address, offset},
    packet::{NetworkHeader, Packet, TCP, UDP},
    record::{self, Hop, Meta},
    words::is_zero,
};

/// `MSG_PEEK`: the datagram stays in the queue. `MSG_ERRQUEUE`: what is read is an error, from another queue.
const MSG_PEEK: u32 = 2;
const MSG_ERRQUEUE: u32 = 0x2000;

/// A process calls send on a TCP socket. `seq`: the sequence number that its first byte gets if nobody else is
/// sending; `len`: bytes.
#[inline(always)]
pub(crate) fn tcp_send(args: &impl Args, meta: Meta, sk: usize, _msg: usize, len: usize) {
    sends_tcp(meta, args.arg(sk), args.arg(len) as u32);
}

#[inline(always)]
pub(super) fn sends_tcp(meta: Meta, sk: Address, len: u32) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::Out, key)
        && let Some(flow) = flow::wanted(key, meta.marks())
    {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_WRITE_SEQ);
        record::hop(meta, Hop { sk, flow, seq, len, ..EMPTY });
    }
}

/// A process calls send on a UDP socket. `sk`: the socket; `len`: bytes. Where to, its packets say.
#[inline(always)]
pub(crate) fn udp_send(args: &impl Args, meta: Meta, sk: usize, msg: usize, len: usize) {
    // The kernel's copy of the address, as long as `struct sockaddr_storage`.
    let name = kread::u64_field(args.arg(msg), &offset::MSGHDR_NAME);
    let port = if name == 0 { 0 } else { u16::from_be(kread::read(name, 2)) };
    sends_udp(meta, args.arg(sk), port, args.arg(len) as u32);
}

/// `port`: where the datagram goes, host byte order; 0 if to the socket's peer.
#[inline(always)]
pub(super) fn sends_udp(meta: Meta, sk: Address, port: u16, len: u32) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = UDP;
    key.sport = kread::u16_field(sk, &offset::SOCK_NUM);
    key.dport = if port == 0 { u16::from_be(kread::u16_field(sk, &offset::SOCK_DPORT)) } else { port };
    // Without a branch: the verifier would follow both sides for each way that the call may have said its address.
    let marks = MARK_TO_PEER * is_zero(u64::from(port)) as u16;
    if filter::is_open() {
        record::hop(meta, Hop { sk, marks, len, ..EMPTY });
    } else if filter::datagram(key) {
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
pub(crate) fn readable(args: &impl Args, meta: Meta, sk: usize) {
    let sk = args.arg(sk);
    match kread::u16_field(sk, &offset::SOCK_FAMILY) as u8 {
        AF_UNIX => unix::woken(&meta, sk),
        AF_INET | AF_INET6 if kread::u16_field(sk, &offset::SOCK_PROTOCOL) == u16::from(UDP) => {
            udp_readable(&meta, sk);
        }
        AF_INET | AF_INET6 => tcp_readable(&meta, sk),
        _ => {}
    }
}

#[inline(never)]
fn tcp_readable(meta: &Meta, sk: Address) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::In, key)
        && let Some(flow) = flow::wanted(key, 0)
    {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_RCV_NXT);
        record::hop(*meta, Hop { sk, flow, seq, ..EMPTY });
        sched::will_wake(*meta, sk);
    }
}

#[inline(never)]
fn udp_readable(meta: &Meta, sk: Address) {
    let skb = newest(sk);
    if skb == 0 {
        return;
    }
    if filter::is_open() {
        if datagram(*meta, sk, skb, 0) {
            sched::will_wake(*meta, sk);
        }
        return;
    }
    // Whoever has read from it before will read this.
    let inode = inode(sk);
    let seen = seen_of_reader(sk, inode);
    if datagram(*meta, sk, skb, seen & !QUEUED) {
        let _ = READERS.insert(sk, Reader { inode, seen: seen | QUEUED }, 0);
        sched::will_wake(*meta, sk);
    }
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

/// The `sk_buff` at the end of a socket's receive queue, 0 if it is empty. Somebody may be taking it at this moment.
#[inline(always)]
pub(super) fn newest(sk: Address) -> Address {
    let queue = sk.wrapping_add(u64::from(offset::SOCK_RECEIVE_QUEUE.load()));
    let last = kread::u64_field(queue, &offset::SK_BUFF_QUEUE_PREV);
    // An empty queue points at itself.
    if last == queue { 0 } else { last }
}

/// A process has copied data out of a TCP socket. `seq`: `copied_seq`, everything before it was read.
#[inline(always)]
pub(crate) fn read_up_to(args: &impl Args, meta: Meta, sk: usize) {
    let sk = args.arg(sk);
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if !tcp_flow(sk, Direction::In, key) {
        return;
    }
    // `tcp_read_sock` comes here from softirqs, too; only a process owns the socket meanwhile.
    let meta = meta.in_process_if(kread::u32_field(sk, &offset::SOCK_OWNED) != 0);
    if let Some(flow) = flow::wanted(key, meta.marks()) {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_COPIED_SEQ);
        record::hop(meta, Hop { sk, flow, seq, ..EMPTY });
    }
}

/// A process has copied a datagram out of a UDP socket, and frees it. `skb`: the datagram.
#[inline(always)]
pub(crate) fn udp_read(args: &impl Args, meta: Meta, sk: usize, skb: usize, len: usize) {
    let (len, skb) = (args.arg(len) as u32, args.arg(skb));
    // `udp_recvmsg` gives the negative length where it has only peeked, and the datagram stays in the queue. Of no bytes
    // that says nothing; but what was taken is in no list any more (`__skb_unlink`).
    let peeks =
        len.cast_signed().is_negative() || len == 0 && kread::u64_field(skb, &offset::SK_BUFF_NEXT) != 0;
    if !peeks {
        datagram(meta, args.arg(sk), skb, 0);
    }
}

/// A process has received from a socket. `skb`: for UDP, the datagram that is next in the queue, 0 if it is empty: what was
/// there before was read. `seq`: bytes; `aux`: 1 if no datagram can have come to the socket that is not wanted: it is
/// connected, or all that comes to its port is.
#[inline(always)]
pub(crate) fn udp_received(args: &impl Args, meta: Meta, sk: usize, ret: usize, flags: usize) {
    let (sk, ret) = (args.arg(sk), args.arg(ret) as i32);
    let is_ip = matches!(kread::u16_field(sk, &offset::SOCK_FAMILY) as u8, AF_INET | AF_INET6);
    if ret < 0
        || args.arg(flags) as u32 & (MSG_PEEK | MSG_ERRQUEUE) != 0
        || !is_ip
        || kread::u16_field(sk, &offset::SOCK_PROTOCOL) != u16::from(UDP)
    {
        return;
    }
    if !filter::is_open() {
        let inode = inode(sk);
        let (seen, now) = (seen_of_reader(sk, inode), meta.marks());
        if now & !seen != 0 {
            let _ = READERS.insert(sk, Reader { inode, seen: seen | now }, 0);
        }
        // Who sent the datagram is not known any more, so a socket that wanted ones come to may read others as well.
        if seen & QUEUED == 0 {
            return;
        }
    }
    let is_connected = kread::u16_field(sk, &offset::SOCK_DPORT) != 0;
    let aux = u32::from(is_connected || filter::wants_all_to(kread::u16_field(sk, &offset::SOCK_NUM)));
    record::hop(meta, Hop { sk, skb: oldest(sk), seq: ret as u32, aux, ..EMPTY });
}

/// The datagram that a UDP socket's next read gets, 0 if there is none. `__skb_recv_udp` moves all that has come to a queue
/// of its own, and takes from there first.
#[inline(always)]
fn oldest(sk: Address) -> Address {
    for queue in [&offset::UDP_SOCK_READER_QUEUE, &offset::SOCK_RECEIVE_QUEUE] {
        let queue = sk.wrapping_add(u64::from(queue.load()));
        let first = kread::u64_field(queue, &offset::SK_BUFF_QUEUE_NEXT);
        if first != queue {
            return first;
        }
    }
    0
}

/// An `sk_buff` is freed, and was not dropped: if it is a UNIX socket's, its connection was accepted.
#[inline(always)]
pub(crate) fn consumed(args: &impl Args, meta: Meta, skb: usize) {
    let skb = args.arg(skb);
    let sk = kread::u64_field(skb, &offset::SK_BUFF_SK);
    if sk != 0 && kread::u16_field(sk, &offset::SOCK_FAMILY) as u8 == AF_UNIX {
        unix::connection_taken(meta, skb, sk);
    }
}

/// A datagram that its protocol has received, for a socket of which `seen` was seen. Says whether it was one, and wanted.
#[inline(always)]
fn datagram(meta: Meta, sk: Address, skb: Address, seen: u32) -> bool {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !packet.read(skb, NetworkHeader::Recorded) || packet.key.protocol != UDP {
        return false;
    }
    // UDP lays other things over `skb->dev`, so the namespace is that of the socket.
    packet.key.net = kread::u64_field(sk, &offset::SOCK_NET);
    packets::write(meta, skb, sk, 0, packet, seen, AUX_UNKNOWN)
}

/// Fills in the flow of a connected TCP socket; says whether it is one.
#[inline(always)]
fn tcp_flow(sk: Address, direction: Direction, key: &mut FlowKey) -> bool {
    flow::of_socket(sk, direction, key) && key.protocol == TCP
}
