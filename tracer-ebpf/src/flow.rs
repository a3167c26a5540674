//! Gives each flow a number, and announces it before its first hop.

use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};
use aya_log_ebpf::debug;
use tracer_common::event::{DeviceRecord, FlowRecord, KIND_DEVICE, KIND_FLOW, NO_FLOW};

use crate::{
    counter::add,
    filter,
    kread::{Address, Fields, Plain, Pointer, offset},
    numbers,
    packet::Packet,
    record::{self, Meta},
    words::{Name, bytes_of, is_zero, until_nul},
};

/// `AF_UNIX`.
pub(crate) const AF_UNIX: u8 = 1;
/// `AF_INET`.
pub(crate) const AF_INET: u8 = 2;
/// `AF_INET6`.
pub(crate) const AF_INET6: u8 = 10;

/// `LOOPBACK_IFINDEX`: the loopback device has index 1 in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// What makes two packets part of the same flow. Ports in host byte order, addresses in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct FlowKey {
    /// In memory order, as two words; IPv4 in the first four bytes, the rest zero.
    pub(crate) saddr: [u64; 2],
    pub(crate) daddr: [u64; 2],
    /// Inode number of the namespace: the same addresses and ports mean another flow in another one.
    pub(crate) netns: u32,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) protocol: u8,
    pub(crate) family: u8,
    pub(crate) pad: u16,
    pub(crate) pad2: u32,
}

// SAFETY: integers and arrays of them, without padding.
unsafe impl Plain for FlowKey {}

/// What is known of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct Known {
    /// Its number; [`NO_FLOW`] until it is announced.
    id: u64,
    /// What was seen of it, as `filter` names it.
    seen: u32,
    /// Sequence number of the last SYN that was sent on it; 0 if none was seen.
    syn: u32,
}

/// How many flows are known, each direction by itself. Userspace knows several times as many (`correlate::flows`): of what lies unused
/// in this map for long, none may be kept here that was forgotten there.
const FLOWS_KNOWN: u32 = 32768;

/// Exact, with no hash in its place: two flows never share a number.
#[map]
static FLOWS: LruHashMap<FlowKey, Known> = LruHashMap::with_max_entries(FLOWS_KNOWN, 0);

/// A packet that is on its way between two namespaces. Its flow in the other one is another flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct Traveller {
    /// `Packet::fingerprint`.
    fingerprint: u64,
    /// When the driver got it.
    left_ns: u64,
    /// What was seen of its flow.
    seen: u32,
    pad: u32,
}

/// By `sk_buff`. A network card frees the packet, and whoever gets its memory is no traveller.
#[map]
static TRAVELLING: LruHashMap<u64, Traveller> = LruHashMap::with_max_entries(16384, 0);

/// A driver that does not hand a packet to another device within this time has sent it away, ns. Emulated machines take
/// milliseconds.
const TRAVELS_NS: u64 = 100_000_000;

#[map]
static FLOW_COUNT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Devices that were announced, by namespace and index; the value is the name they had.
#[map]
static DEVICES: LruHashMap<[u32; 2], Name> = LruHashMap::with_max_entries(1024, 0);

/// The number of a flow, of which `seen` was seen now, [`NO_FLOW`] if it is new and cannot be announced, which the next hop
/// tries again. `None` if the filter does not want it. Where the namespace is not known it is left to the other filters.
#[inline(always)]
pub(crate) fn wanted_somewhere(key: &FlowKey, seen: u32) -> Option<u64> {
    let may_be = if key.netns == 0 { filter::packet_anywhere(key) } else { filter::packet(key) };
    may_be.then(|| number_if_seen(key, seen, 0)).flatten()
}

/// The number of the flow of a packet, which may begin a connection, and which the filter's own words want.
#[inline(always)]
pub(crate) fn number_of(packet: &Packet, seen: u32) -> Option<u64> {
    number_if_seen(&packet.key, seen, packet.begins())
}

/// The number of a flow that the filter's own words want, if what was seen of it is enough. `syn`: as in [`Known::syn`].
#[inline(always)]
pub(crate) fn number_if_seen(key: &FlowKey, seen: u32, syn: u32) -> Option<u64> {
    // Constants, so for most filters nothing is left of this.
    let needed = filter::needed_of_flow();
    if needed == 0 {
        return Some(number(key, 0));
    }
    let seen = seen_of(key, seen, syn);
    (seen & needed == needed).then(|| number(key, seen))
}

/// What was seen of a flow, with what is seen now. Who uses a socket uses both directions. A SYN begins a connection, and
/// what was seen of an earlier one between the same ends says nothing of it; but a SYN comes by several times, and may be
/// sent again, so only one with another sequence number does.
#[inline(never)]
fn seen_of(key: &FlowKey, now: u32, syn: u32) -> u32 {
    // SAFETY: an LRU map may hand this entry to another flow meanwhile; then a flow is wanted that is not, or is not yet.
    let (mut before, last_syn) = unsafe { FLOWS.get(key) }.map_or((0, 0), |known| (known.seen, known.syn));
    let begins = syn != 0 && syn != last_syn;
    let kept = if begins { 0 } else { u32::MAX };
    before &= kept;
    if begins || now & !before != 0 {
        remember(key, kept, now, syn);
        let back = FlowKey { saddr: key.daddr, daddr: key.saddr, sport: key.dport, dport: key.sport, ..*key };
        remember(&back, kept, now, 0);
    }
    before | now
}

/// `kept`: what still holds of what was seen before. `syn`: the sequence number of a SYN, or 0.
#[inline(always)]
fn remember(key: &FlowKey, kept: u32, now: u32, syn: u32) {
    if let Some(known) = FLOWS.get_ptr_mut(key) {
        // SAFETY: a live element of the map; an update that is lost is made by the next packet.
        unsafe {
            (*known).seen = (*known).seen & kept | now;
            if syn != 0 {
                (*known).syn = syn;
            }
        }
    } else {
        let _ = FLOWS.insert(key, Known { id: NO_FLOW, seen: now, syn }, 0);
    }
}

/// A wanted packet leaves through a device that may lead into another namespace.
#[inline(always)]
pub(crate) fn leaves(meta: &Meta, skb: Address, packet: &Packet) {
    let needed = filter::needed_of_flow();
    if needed != 0 {
        let fingerprint = packet.fingerprint();
        let traveller = Traveller { fingerprint, left_ns: meta.time_ns, seen: needed, pad: 0 };
        let _ = TRAVELLING.insert(skb, traveller, 0);
    }
}

/// What is known of a packet that comes out of a device.
#[inline(always)]
pub(crate) fn arrives(meta: &Meta, skb: Address, packet: &Packet) -> u32 {
    if filter::needed_of_flow() == 0 {
        return 0;
    }
    // SAFETY: an LRU map may hand this entry to another packet meanwhile, whose fingerprint is another one.
    let Some(traveller) = unsafe { TRAVELLING.get(skb) }.copied() else { return 0 };
    let _ = TRAVELLING.remove(skb);
    let is_it = is_zero(traveller.fingerprint ^ packet.fingerprint());
    let is_recent = u64::from(meta.time_ns.wrapping_sub(traveller.left_ns) < TRAVELS_NS);
    traveller.seen & ((is_it & is_recent) as u32).wrapping_neg()
}

#[inline(always)]
fn number(key: &FlowKey, seen: u32) -> u64 {
    let recent = numbers::find(key);
    if recent == NO_FLOW { number_in_table(key, seen) } else { recent }
}

#[inline(never)]
fn number_in_table(key: &FlowKey, seen: u32) -> u64 {
    // SAFETY: an LRU map may hand this entry to another flow between look-up and load only after thousands of younger ones;
    // the number is 8 aligned bytes, so the load is not torn.
    let known = unsafe { FLOWS.get(key) }.map_or(NO_FLOW, |known| known.id);
    let number = if known == NO_FLOW { announce(key, seen) } else { known };
    if number != NO_FLOW {
        numbers::keep(key, number);
    }
    number
}

/// A function of its own, as hardly any packet needs it, and its record would take stack from all.
#[inline(never)]
fn announce(key: &FlowKey, seen: u32) -> u64 {
    let id = next_flow_number();
    if id == NO_FLOW {
        return NO_FLOW;
    }
    let announced = record::submit(
        KIND_FLOW,
        FlowRecord {
            kind: KIND_FLOW,
            protocol: key.protocol,
            family: key.family,
            pad: 0,
            netns: key.netns,
            id,
            saddr: bytes_of(key.saddr),
            daddr: bytes_of(key.daddr),
            sport: key.sport,
            dport: key.dport,
            pad2: 0,
        },
    );
    if !announced {
        return NO_FLOW;
    }
    // Announced first, entered second: no other CPU can use a number that userspace has not heard of. Two CPUs may
    // announce the same flow under two numbers, which userspace allows for.
    // SAFETY: one aligned word, which may be another flow's only after thousands of younger ones.
    let syn = unsafe { FLOWS.get(key) }.map_or(0, |known| known.syn);
    let _ = FLOWS.insert(key, Known { id, seen, syn }, 0);
    flow_is_announced(id, key.sport.into(), key.dport.into());
    id
}

/// For the debug log; nothing at all unless userspace asks for it. Verified by itself, as a log line has many ways through.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_is_announced(id: u64, sport: u64, dport: u64) -> u64 {
    debug!((), "flow {} announced: port {} to port {}", id, sport, dport);
    0
}

/// A number that no other flow gets; [`NO_FLOW`] if none can be had now.
///
/// The kernel has no fetching atomic add before 5.12, so the counter is read on both sides of a plain one: if it moved
/// by exactly one, nobody who interrupted this program on this CPU can have taken the same number.
///
/// Verified by itself, as it has a name of its own (`BTF_FUNC_GLOBAL`): each try would be followed to the program's end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn next_flow_number() -> u64 {
    let Some(count) = FLOW_COUNT.get_ptr_mut(0) else { return NO_FLOW };
    for _ in 0..4 {
        // SAFETY: this CPU's slot, aligned and alive; volatile and atomic, as interrupting programs write it too.
        let (before, after) = unsafe {
            let before = count.read_volatile();
            add(count, 1);
            (before, count.read_volatile())
        };
        if after == before + 1 {
            return after << 16 | u64::from(record::cpu() & 0xffff);
        }
    }
    NO_FLOW
}

/// The namespace that a device is in.
#[inline(always)]
pub(crate) fn namespace_of(dev: impl Pointer) -> u32 {
    inode_of(dev.pointer(&offset::NET_DEVICE_NET))
}

/// The inode number of a namespace, by which all know it; 0 if there is none. (Where the kernel's types say that a pointer is
/// RCU's, the verifier wants to know that there is something behind it.)
#[inline(always)]
pub(crate) fn inode_of(net: impl Pointer) -> u32 {
    if net.is_null() { 0 } else { net.field(&offset::NET_INUM) }
}

/// What a device is called.
#[inline(always)]
pub(crate) fn device_name(dev: impl Pointer) -> Name {
    until_nul(dev.raw().words(&offset::NET_DEVICE_NAME))
}

/// Announces the name of a device, if it is not known under this name yet. A function of its own for the stack's sake.
#[inline(never)]
pub(crate) fn device(dev: impl Pointer, netns: u32, ifindex: u32) {
    let name = device_name(dev);
    let key = [netns, ifindex];
    // SAFETY: a torn name only makes the comparison fail, and the name is sent once more.
    if let Some(known) = unsafe { DEVICES.get(key) }
        && *known == name
    {
        return;
    }
    let record =
        DeviceRecord { kind: KIND_DEVICE, pad: 0, pad3: 0, ifindex, netns, pad2: 0, name: bytes_of(name) };
    if record::submit(KIND_DEVICE, record) {
        let _ = DEVICES.insert(key, name, 0);
    }
}

/// Which way a socket's flow is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From this socket to its peer.
    Out,
    /// From the peer to this socket.
    In,
}

/// Fills in the flow of a connected IPv4 or IPv6 socket; says whether it is one that may be wanted.
#[inline(always)]
pub(crate) fn of_socket(sk: impl Pointer, direction: Direction, key: &mut FlowKey) -> bool {
    // More than a byte: IPPROTO_MPTCP is 262, and such a socket is no `tcp_sock`.
    let protocol: u16 = sk.field(&offset::SOCK_PROTOCOL);
    let num = match direction {
        // Nobody sends on one that has ended.
        Direction::Out => sk.field(&offset::SOCK_NUM),
        Direction::In => port_of(sk),
    };
    if protocol > 0xff || !ends_of(sk, num, direction, key) {
        return false;
    }
    key.protocol = protocol as u8;
    key.netns = inode_of(sk.pointer(&offset::SOCK_NET));
    true
}

/// A socket's own port. One that has ended (`TCP_CLOSE`) may still be read from, but has given back a port that was not bound to it by
/// `bind` (`inet_put_port()`), as that of an accepted socket is not either. What it was stays where headers are made from.
#[inline(always)]
fn port_of(sk: impl Pointer) -> u16 {
    let num = sk.field(&offset::SOCK_NUM);
    if num == 0 { u16::from_be(sk.raw().field(&offset::INET_SOCK_SPORT)) } else { num }
}

/// Fills in addresses and ports of a connected socket, whose own port is `num`; says whether it is one of IP whose ports may be wanted. A
/// socket of family `AF_INET6` whose peer is an IPv4-mapped address carries IPv4 packets, so its flow is an IPv4 flow.
#[inline(always)]
pub(crate) fn ends_of(sk: impl Fields, num: u16, direction: Direction, key: &mut FlowKey) -> bool {
    let dport = u16::from_be(sk.field(&offset::SOCK_DPORT));
    if dport == 0 {
        return false;
    }
    key.family = sk.field::<u16>(&offset::SOCK_FAMILY) as u8;
    let (local, peer) = match direction {
        Direction::Out => {
            (key.sport, key.dport) = (num, dport);
            (&mut key.saddr, &mut key.daddr)
        }
        Direction::In => {
            (key.sport, key.dport) = (dport, num);
            (&mut key.daddr, &mut key.saddr)
        }
    };
    if !filter::wants_ports(key.sport, key.dport) {
        return false;
    }
    if key.family == AF_INET6 {
        let address = sk.words(&offset::SOCK_V6_DADDR);
        if is_v4_mapped(address) {
            key.family = AF_INET;
        } else {
            (*peer, *local) = (address, sk.words(&offset::SOCK_V6_RCV_SADDR));
        }
    }
    if key.family == AF_INET {
        peer[0] = u64::from(sk.field::<u32>(&offset::SOCK_DADDR));
        local[0] = u64::from(sk.field::<u32>(&offset::SOCK_RCV_SADDR));
        return true;
    }
    key.family == AF_INET6
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
fn is_v4_mapped([first, second]: [u64; 2]) -> bool {
    first == 0 && second as u32 == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}
