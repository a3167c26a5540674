//! The readers of the probe table: each takes the arguments that a row names, filters, and writes one record.
//!
//! What a reader puts into `seq`, `len` and `aux` is part of the wire format and is said at each.

use core::mem::MaybeUninit;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracer_common::event::{AUX_UNKNOWN, KIND_UNIX_NAME, NO_FLOW, UNIX_PATH_LEN, UnixNameRecord};

use crate::{
    context::Args,
    counter::add_one,
    filter,
    flow::{self, AF_INET, AF_UNIX, Direction, FlowKey, LOOPBACK},
    kread::{self, Address, offset},
    packet::{NetworkHeader, Packet, TCP},
    record::{self, Hop, Meta},
};

/// How many CPUs the backlog marks cover; a CPU beyond them polls unseen.
const MAX_CPUS: u32 = 4096;

/// How many traced packets were put on each CPU's backlog; any CPU counts.
#[map]
static QUEUED: Array<u64> = Array::with_max_entries(MAX_CPUS, 0);

/// This CPU's count at its last poll, and at the one before.
#[map]
static POLLED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

const EMPTY: Hop =
    Hop { skb: 0, sk: 0, flow: NO_FLOW, tcp_flags: 0, seq: 0, ack: 0, len: 0, aux: AUX_UNKNOWN };

/// A packet whose headers are complete. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn packet(args: &impl Args, meta: Meta, skb: usize) {
    on_device(meta, args.arg(skb), NetworkHeader::Recorded);
}

/// [`packet`], if the device that it is given to is the loopback device.
#[inline(always)]
pub(crate) fn packet_to_loopback(args: &impl Args, meta: Meta, skb: usize, dev: usize) {
    if kread::u32_field(args.arg(dev), &offset::NET_DEVICE_IFINDEX) == LOOPBACK {
        on_device(meta, args.arg(skb), NetworkHeader::Recorded);
    }
}

/// A segment on an established socket. Its device and namespace are those of the socket: `tcp_v4_rcv` may have cleared
/// `skb->dev`.
#[inline(always)]
pub(crate) fn established(args: &impl Args, meta: Meta, sk: usize, skb: usize) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if wanted(args.arg(skb), NetworkHeader::Recorded, packet) {
        packet.key.net = kread::u64_field(args.arg(sk), &offset::SOCK_NET);
        write(meta, args.arg(skb), args.arg(sk), packet, AUX_UNKNOWN);
    }
}

/// A packet on its way from a device to its protocol. `aux`: index of `skb->dev`.
#[inline(always)]
pub(crate) fn received(args: &impl Args, meta: Meta, skb: usize) {
    on_device(meta, args.arg(skb), NetworkHeader::Data);
}

/// A packet that is put on a CPU's backlog. `aux`: that CPU.
#[inline(always)]
pub(crate) fn queued(args: &impl Args, meta: Meta, skb: usize, cpu: usize) {
    to_backlog(meta, args.arg(skb), args.arg(cpu) as u32);
}

/// [`queued`] where the CPU is not said. `aux`: [`AUX_UNKNOWN`].
#[inline(always)]
pub(crate) fn queued_here(args: &impl Args, meta: Meta, skb: usize) {
    to_backlog(meta, args.arg(skb), AUX_UNKNOWN);
}

/// A poll of this CPU's backlog begins. Says nothing of packets, so it is only written where a traced packet may wait:
/// for the two polls after each was queued, as the packet is counted before it is in the queue, and a poll that begins
/// in between leaves it to the next. `aux`: this CPU.
#[inline(always)]
pub(crate) fn poll(_args: &impl Args, meta: Meta, _napi: usize) {
    let cpu = record::cpu();
    let (Some(queued), Some(polled)) = (QUEUED.get_ptr(cpu), POLLED.get_ptr_mut(0)) else { return };
    // SAFETY: aligned elements that live as long as the maps; `QUEUED` is written by other CPUs, whole, hence volatile,
    // `POLLED` by this CPU's polls only, which do not interrupt each other.
    let (queued, before_last) = unsafe {
        let queued = queued.read_volatile();
        let [last, before_last] = *polled;
        *polled = [queued, last];
        (queued, before_last)
    };
    if queued != before_last {
        record::hop(meta, Hop { aux: cpu, ..EMPTY });
    }
}

/// A TCP segment before its IP header is written: addresses from the socket, ports from the TCP header.
#[inline(always)]
pub(crate) fn from_socket(args: &impl Args, meta: Meta, sk: usize, skb: usize) {
    let (sk, skb) = (args.arg(sk), args.arg(skb));
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !flow::of_socket(sk, Direction::Out, &mut packet.key) || packet.key.protocol != TCP {
        return;
    }
    let head = kread::u64_field(skb, &offset::SK_BUFF_HEAD);
    let transport = head.wrapping_add(u64::from(kread::u16_field(skb, &offset::SK_BUFF_TRANSPORT_HEADER)));
    let len = kread::u32_field(skb, &offset::SK_BUFF_LEN);
    if packet.read_transport(transport, len) && filter::ports(packet.key.sport, packet.key.dport) {
        write(meta, skb, sk, packet, AUX_UNKNOWN);
    }
}

/// A question to a routing table. `aux`: its number (255 local, 254 main).
#[inline(always)]
pub(crate) fn route_query(args: &impl Args, meta: Meta, table: usize, flow: usize) {
    routed(meta, kread::u32_field(args.arg(table), &offset::FIB_TABLE_ID), args.arg(flow));
}

/// [`route_query`] where the table's number is an argument.
#[inline(always)]
pub(crate) fn route_answer(args: &impl Args, meta: Meta, table_id: usize, flow: usize) {
    routed(meta, args.arg(table_id) as u32, args.arg(flow));
}

/// A process calls send on a TCP socket. `seq`: the sequence number that its first byte gets if nobody else is
/// sending; `len`: bytes.
#[inline(always)]
pub(crate) fn send_call(args: &impl Args, meta: Meta, sk: usize, _msg: usize, len: usize) {
    let sk = args.arg(sk);
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::Out, key) {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_WRITE_SEQ);
        record::hop(meta, Hop { sk, flow: flow::number(key), seq, len: args.arg(len) as u32, ..EMPTY });
    }
}

/// A process has called send on a TCP socket. `seq`: the sequence number of the next byte; `len`: bytes taken.
#[inline(always)]
pub(crate) fn sent(args: &impl Args, meta: Meta, sk: usize, ret: usize) {
    let (sk, ret) = (args.arg(sk), args.arg(ret) as i32);
    if ret <= 0 {
        return;
    }
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::Out, key) {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_WRITE_SEQ);
        record::hop(meta, Hop { sk, flow: flow::number(key), seq, len: ret as u32, ..EMPTY });
    }
}

/// A socket has data. `seq`, for TCP: `rcv_nxt`, everything before it is there.
#[inline(always)]
pub(crate) fn readable(args: &impl Args, meta: Meta, sk: usize) {
    let sk = args.arg(sk);
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::In, key) {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_RCV_NXT);
        record::hop(meta, Hop { sk, flow: flow::number(key), seq, ..EMPTY });
    } else if filter::portless() && kread::u16_field(sk, &offset::SOCK_FAMILY) as u8 == AF_UNIX {
        record::hop(meta, Hop { sk, ..EMPTY });
    }
}

/// A process has copied data out of a TCP socket. `seq`: `copied_seq`, everything before it was read.
#[inline(always)]
pub(crate) fn read_up_to(args: &impl Args, meta: Meta, sk: usize) {
    let sk = args.arg(sk);
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    if tcp_flow(sk, Direction::In, key) {
        let seq = kread::u32_field(sk, &offset::TCP_SOCK_COPIED_SEQ);
        // `tcp_read_sock` comes here from softirqs, too; only a process owns the socket meanwhile.
        let meta = meta.in_process_if(kread::u32_field(sk, &offset::SOCK_OWNED) != 0);
        record::hop(meta, Hop { sk, flow: flow::number(key), seq, ..EMPTY });
    }
}

/// A process connects a UNIX socket. The name goes before it in a record of its own.
#[inline(always)]
pub(crate) fn unix_connect(args: &impl Args, meta: Meta, socket: usize, addr: usize, addr_len: usize) {
    if !filter::portless() {
        return;
    }
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    // `struct sockaddr_un`: two bytes of family, then the path. The kernel's copy is always as long as
    // `struct sockaddr_storage`, so all of the path can be read.
    let len = (args.arg(addr_len) as u32).wrapping_sub(2);
    let len = if len <= UNIX_PATH_LEN as u32 { len as u8 } else { 0 };
    let path: [u8; UNIX_PATH_LEN] = kread::read(args.arg(addr), 2);
    record::submit(
        KIND_UNIX_NAME,
        UnixNameRecord { kind: KIND_UNIX_NAME, len, pad: 0, pad3: 0, sk, path, pad2: 0 },
    );
    record::hop(meta, Hop { sk, ..EMPTY });
}

/// A process sends on a UNIX stream socket. `sk`: the sender's; `skb` carries the receiver's socket, which is where
/// the data goes; `len`: bytes.
#[inline(always)]
pub(crate) fn unix_send(args: &impl Args, meta: Meta, socket: usize, _msg: usize, len: usize) {
    if !filter::portless() {
        return;
    }
    let sk = kread::u64_field(args.arg(socket), &offset::SOCKET_SK);
    let peer = kread::u64_field(sk, &offset::UNIX_SOCK_PEER);
    record::hop(meta, Hop { sk, skb: peer, len: args.arg(len) as u32, ..EMPTY });
}

/// Fills in the flow of a connected TCP socket that the filter wants; says whether it is one.
#[inline(always)]
fn tcp_flow(sk: Address, direction: Direction, key: &mut FlowKey) -> bool {
    flow::of_socket(sk, direction, key) && key.protocol == TCP && filter::ports(key.sport, key.dport)
}

#[inline(always)]
fn on_device(meta: Meta, skb: Address, header: NetworkHeader) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !wanted(skb, header, packet) {
        return;
    }
    let dev = kread::u64_field(skb, &offset::SK_BUFF_DEV);
    let ifindex = kread::u32_field(dev, &offset::NET_DEVICE_IFINDEX);
    packet.key.net = kread::u64_field(dev, &offset::NET_DEVICE_NET);
    if ifindex != LOOPBACK {
        flow::device(dev, packet.key.net, ifindex);
    }
    write(meta, skb, 0, packet, ifindex);
}

#[inline(always)]
fn to_backlog(meta: Meta, skb: Address, cpu: u32) {
    let mut packet = MaybeUninit::uninit();
    let packet: &mut Packet = kread::zeroed(&mut packet);
    if !wanted(skb, NetworkHeader::Data, packet) {
        return;
    }
    let dev = kread::u64_field(skb, &offset::SK_BUFF_DEV);
    packet.key.net = kread::u64_field(dev, &offset::NET_DEVICE_NET);
    let marked = if cpu == AUX_UNKNOWN { record::cpu() } else { cpu };
    if let Some(queued) = QUEUED.get_ptr_mut(marked) {
        // SAFETY: an aligned element that lives as long as the map.
        unsafe { add_one(queued) };
    }
    write(meta, skb, 0, packet, cpu);
}

/// Reads a packet; says whether the filter wants it.
#[inline(always)]
fn wanted(skb: Address, header: NetworkHeader, packet: &mut Packet) -> bool {
    packet.read(skb, header) && filter::ports(packet.key.sport, packet.key.dport)
}

#[inline(always)]
fn write(meta: Meta, skb: Address, sk: Address, packet: &Packet, aux: u32) {
    let Packet { key, tcp_flags, seq, ack, len } = packet;
    let flow = flow::number(key);
    record::hop(
        meta,
        Hop { skb, sk, flow, tcp_flags: *tcp_flags as u8, seq: *seq, ack: *ack, len: *len, aux },
    );
}

#[inline(always)]
fn routed(meta: Meta, table_id: u32, flow: Address) {
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = kread::u8_field(flow, &offset::FLOWI4_PROTO);
    key.family = AF_INET;
    key.sport = u16::from_be(kread::u16_field(flow, &offset::FLOWI4_SPORT));
    key.dport = u16::from_be(kread::u16_field(flow, &offset::FLOWI4_DPORT));
    if !filter::ports(key.sport, key.dport) {
        return;
    }
    key.saddr[..4].copy_from_slice(&kread::u32_field(flow, &offset::FLOWI4_SADDR).to_ne_bytes());
    key.daddr[..4].copy_from_slice(&kread::u32_field(flow, &offset::FLOWI4_DADDR).to_ne_bytes());
    record::hop(meta, Hop { flow: flow::number(key), aux: table_id, ..EMPTY });
}
