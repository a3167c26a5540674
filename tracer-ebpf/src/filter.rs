//! The in-kernel filter. It runs before anything is written, so traffic that it excludes never reaches the ring buffer.
//!
//! What a packet says of itself (ports, addresses, protocol, namespace) is looked at in each packet. Who uses a socket,
//! and which device its packets pass, is only seen at some places: there the flow is marked, and from then on all of it is
//! wanted (`flow::wanted`). Filters that were not given are constants for the verifier, which removes their code.

use aya_ebpf::{Global, macros::map, maps::Array};
use tracer_common::settings::{
    AddressPattern, MAX_ADDRESSES, MAX_NAMES, MAX_NUMBERS, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP,
    PROTOCOL_UNIX, UNIX_WORDS, UnixPattern,
};

use crate::{
    flow::{self, FlowKey},
    kread::Pointer,
    packet::{ICMP, ICMPV6, TCP, UDP},
    record, sample,
    words::{Name, element, is_zero},
};

#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_NUMBERS]> = Global::new([0; MAX_NUMBERS]);
#[unsafe(no_mangle)]
static SOURCE_PORTS: Global<[u16; MAX_NUMBERS]> = Global::new([0; MAX_NUMBERS]);
#[unsafe(no_mangle)]
static DESTINATION_PORTS: Global<[u16; MAX_NUMBERS]> = Global::new([0; MAX_NUMBERS]);
#[unsafe(no_mangle)]
static PROTOCOLS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static PIDS: Global<[u32; MAX_NUMBERS]> = Global::new([0; MAX_NUMBERS]);
#[unsafe(no_mangle)]
static NAMESPACES: Global<[u32; MAX_NUMBERS]> = Global::new([0; MAX_NUMBERS]);
#[unsafe(no_mangle)]
static ADDRESS_COUNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static COMM_COUNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static INTERFACE_COUNT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static UNIX_PATTERN_COUNT: Global<u32> = Global::new(0);

#[map]
static ADDRESSES: Array<AddressPattern> = Array::with_max_entries(MAX_ADDRESSES as u32, 0);
#[map]
static COMMS: Array<Name> = Array::with_max_entries(MAX_NAMES as u32, 0);
#[map]
static INTERFACES: Array<Name> = Array::with_max_entries(MAX_NAMES as u32, 0);
#[map]
static UNIX_PATTERNS: Array<UnixPattern> = Array::with_max_entries(MAX_NAMES as u32, 0);

/// A wanted process uses the socket.
pub(crate) const BY_PROCESS: u32 = 1;
/// The flow passes a wanted device.
pub(crate) const ON_DEVICE: u32 = 2;
/// The socket has a wanted name.
pub(crate) const BY_NAME: u32 = 4;

/// What must have been seen of an IP flow before it is wanted.
#[inline(always)]
pub(crate) fn needed_of_flow() -> u32 {
    needed_of_process() | if INTERFACE_COUNT.load() == 0 { 0 } else { ON_DEVICE }
}

/// What must have been seen of a UNIX socket before it is wanted.
#[inline(always)]
pub(crate) fn needed_of_unix() -> u32 {
    needed_of_process() | if UNIX_PATTERN_COUNT.load() == 0 { 0 } else { BY_NAME }
}

#[inline(always)]
fn needed_of_process() -> u32 {
    if element(&PIDS, 0) == 0 && COMM_COUNT.load() == 0 { 0 } else { BY_PROCESS }
}

/// Whether a packet's own words say that it may be wanted. Ports in host byte order.
#[inline(always)]
pub(crate) fn packet(key: &FlowKey) -> bool {
    packet_anywhere(key) && wants(&NAMESPACES, key.netns)
}

/// [`packet`] where the namespace cannot be told.
#[inline(always)]
pub(crate) fn packet_anywhere(key: &FlowKey) -> bool {
    wants_ports(key.sport, key.dport)
        && protocol(key.protocol)
        && (ADDRESS_COUNT.load() == 0 || addresses(key))
}

/// Whether a datagram that a socket is about to send may be wanted: only its ports are known.
#[inline(always)]
pub(crate) fn datagram(key: &FlowKey) -> bool {
    ports(key.sport, key.dport)
        && (key.sport == 0 || wants(&SOURCE_PORTS, key.sport))
        && wants(&DESTINATION_PORTS, key.dport)
        && protocol(key.protocol)
}

/// Whether a filter of numbers wants this one: none was given, or it is among them.
#[inline(always)]
fn wants<T: Copy + Into<u64>>(wanted: &Global<[T; MAX_NUMBERS]>, number: T) -> bool {
    wants_either(wanted, number, number)
}

#[inline(always)]
fn wants_either<T: Copy + Into<u64>>(wanted: &Global<[T; MAX_NUMBERS]>, one: T, other: T) -> bool {
    let first = element(wanted, 0).into();
    if first == 0 {
        return true;
    }
    let (one, other) = (one.into(), other.into());
    let mut matches = is_zero(first ^ one) | is_zero(first ^ other);
    for index in 1..MAX_NUMBERS {
        let number = element(wanted, index).into();
        // Places that are not used repeat the first. Both are constants for the verifier, which leaves the rest out.
        if number == first {
            break;
        }
        matches |= is_zero(number ^ one) | is_zero(number ^ other);
    }
    matches != 0
}

#[inline(always)]
fn ports(source: u16, destination: u16) -> bool {
    wants_either(&PORTS, source, destination)
}

/// Whether what goes from one port to the other may be wanted.
#[inline(always)]
pub(crate) fn wants_ports(source: u16, destination: u16) -> bool {
    ports(source, destination) && wants(&SOURCE_PORTS, source) && wants(&DESTINATION_PORTS, destination)
}

/// Whether other ports than the wanted ones are all that must be known of a packet: a constant for the verifier.
#[inline(always)]
pub(crate) fn ports_may_suffice() -> bool {
    asks_for_ports() && !needs_more_than_headers()
}

#[inline(always)]
fn protocol(number: u8) -> bool {
    if PROTOCOLS.load() == 0 {
        return true;
    }
    let bit = match number {
        TCP => PROTOCOL_TCP,
        UDP => PROTOCOL_UDP,
        ICMP | ICMPV6 => PROTOCOL_ICMP,
        // Received packets are routed without a transport.
        _ => 0,
    };
    PROTOCOLS.load() & bit != 0
}

/// Whether only some ports are wanted.
#[inline(always)]
fn asks_for_ports() -> bool {
    element(&PORTS, 0) != 0 || element(&SOURCE_PORTS, 0) != 0 || element(&DESTINATION_PORTS, 0) != 0
}

/// Whether only some ports or addresses are wanted.
#[inline(always)]
fn asks_for_ends() -> bool {
    asks_for_ports() || ADDRESS_COUNT.load() != 0
}

/// Whether all IP traffic is wanted, and traced: a constant for the verifier.
#[inline(always)]
pub(crate) fn is_open() -> bool {
    !sample::is_on() && !asks_for_ends() && PROTOCOLS.load() == 0 && !needs_more_than_headers()
}

/// Whether each datagram that comes to this port is wanted, whoever sends it.
#[inline(always)]
pub(crate) fn wants_all_to(port: u16) -> bool {
    element(&SOURCE_PORTS, 0) == 0
        && ADDRESS_COUNT.load() == 0
        && !needs_more_than_headers()
        && ports(0, port)
        && wants(&DESTINATION_PORTS, port)
}

/// Whether a packet's own headers do not say that it is wanted.
#[inline(always)]
pub(crate) fn needs_more_than_headers() -> bool {
    has_namespaces() || needed_of_flow() != 0
}

/// Whether only some namespaces are traced.
#[inline(always)]
pub(crate) fn has_namespaces() -> bool {
    element(&NAMESPACES, 0) != 0
}

/// `--host`, `--saddr` and `--daddr`: values of one kind are joined with OR, the kinds with AND.
#[inline(never)]
fn addresses(key: &FlowKey) -> bool {
    let (source, destination) = (key.saddr, key.daddr);
    let count = ADDRESS_COUNT.load();
    // A bit for each side: asked for, and matched.
    let (mut asked, mut matched) = (0, 0);
    for index in 0..MAX_ADDRESSES as u32 {
        if index >= count {
            break;
        }
        let Some(pattern) = ADDRESSES.get(index) else { break };
        let fits = |address: [u64; 2]| {
            is_zero(
                ((address[0] & pattern.mask[0]) ^ pattern.address[0])
                    | ((address[1] & pattern.mask[1]) ^ pattern.address[1])
                    | u64::from(pattern.family ^ u32::from(key.family)),
            )
        };
        let side = u64::from(pattern.side & 3);
        // Bit 0 of `SIDE_*` is set where the destination does not count, bit 1 where the source does not.
        let at_source = fits(source) & !(side >> 1);
        let at_destination = fits(destination) & !side;
        asked |= 1 << side;
        matched |= ((at_source | at_destination) & 1) << side;
    }
    asked == matched
}

/// Whether UNIX sockets can be wanted at all: no filter asks for what only IP has, or names are asked for as well, and
/// either will do.
#[inline(always)]
pub(crate) fn allows_unix() -> bool {
    (!asks_for_ends() || UNIX_PATTERN_COUNT.load() != 0)
        && INTERFACE_COUNT.load() == 0
        && !has_namespaces()
        && (PROTOCOLS.load() == 0 || PROTOCOLS.load() & PROTOCOL_UNIX != 0)
}

/// [`BY_PROCESS`] if the process on the CPU is a wanted one.
#[inline(always)]
pub(crate) fn process() -> u32 {
    if needed_of_process() == 0 { 0 } else { current_process() }
}

#[inline(never)]
fn current_process() -> u32 {
    let matches = wants(&PIDS, record::tgid())
        && (COMM_COUNT.load() == 0 || is_among(&COMMS, COMM_COUNT.load(), record::comm()));
    if matches { BY_PROCESS } else { 0 }
}

/// [`ON_DEVICE`] if the device is a wanted one. It is only asked for where some are.
#[inline(always)]
pub(crate) fn device<P: Pointer>(dev: impl FnOnce() -> P) -> u32 {
    if INTERFACE_COUNT.load() == 0 { 0 } else { is_wanted_device(dev()) }
}

#[inline(never)]
fn is_wanted_device(dev: impl Pointer) -> u32 {
    if is_among(&INTERFACES, INTERFACE_COUNT.load(), flow::device_name(dev)) { ON_DEVICE } else { 0 }
}

/// Whether the name is one of the first `count` names of the table.
#[inline(always)]
fn is_among(names: &Array<Name>, count: u32, name: Name) -> bool {
    let mut matches = 0;
    for index in 0..MAX_NAMES as u32 {
        if index >= count {
            break;
        }
        let Some(wanted) = names.get(index) else { break };
        matches |= is_zero((wanted[0] ^ name[0]) | (wanted[1] ^ name[1]));
    }
    matches != 0
}

/// Whether the name, `len` bytes of it, is a wanted one. `word` reads eight of them, with zeroes behind the last one.
#[inline(always)]
pub(crate) fn is_unix_name(len: u32, word: impl Fn(usize) -> u64) -> bool {
    let count = UNIX_PATTERN_COUNT.load();
    // A bit for each pattern, as long as nothing differs: the stack of who calls this has room for a word.
    let mut alike = 0;
    for index in 0..MAX_NAMES as u32 {
        if index >= count {
            break;
        }
        let Some(pattern) = UNIX_PATTERNS.get(index) else { break };
        let len = u64::from(len);
        // The sign of a difference: too short, or too long.
        let is_outside = len.wrapping_sub(pattern.least.into()) | u64::from(pattern.most).wrapping_sub(len);
        alike |= is_zero(is_outside >> 63) << index;
    }
    for at in 0..UNIX_WORDS {
        let word = word(at);
        for index in 0..MAX_NAMES as u32 {
            if index >= count {
                break;
            }
            let Some(pattern) = UNIX_PATTERNS.get(index) else { break };
            let is_same = is_zero((word & pattern.mask[at]) ^ pattern.name[at]);
            alike &= !((is_same ^ 1) << index);
        }
    }
    alike != 0
}
