//! Finds the transport header of an `sk_buff` and reads from it what names the packet.

use core::mem::MaybeUninit;

use tracer_common::event::{is_icmp_error, is_icmpv6_error};

use crate::{
    flow::{AF_INET, AF_INET6, FlowKey},
    kread::{self, Address, Plain, Pointer, offset},
    words::{is_zero, mask_if_negative, mask_if_zero, mix},
};

/// `IPPROTO_TCP`.
pub(crate) const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub(crate) const UDP: u8 = 17;

/// `IPPROTO_ICMP`.
pub(crate) const ICMP: u8 = 1;
/// `IPPROTO_ICMPV6`.
pub(crate) const ICMPV6: u8 = 58;

/// `ETH_P_IP`.
const ETH_P_IP: u16 = 0x0800;
/// `ETH_P_IPV6`.
const ETH_P_IPV6: u16 = 0x86dd;
/// Bytes of IPv6's fixed header.
const IPV6_HEADER: u64 = 40;
/// Extension headers that are skipped at most. RFC 8200 allows each but one once.
const EXTENSIONS: u32 = 6;

/// Bytes of IPv4's header without options.
const IPV4_HEADER: u64 = 20;

/// Bytes of a TCP header up to and with the flags, rounded up to 8.
const TRANSPORT_READ: usize = 16;
/// Bytes read from the start of the network header: that of IPv6 and the transport's. There is memory behind a shorter packet,
/// as `struct skb_shared_info` follows its data.
const FIRST_READ: usize = IPV6_HEADER as usize + TRANSPORT_READ;

/// The beginning of a packet. Aligned, so that LLVM reads it in words.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Bytes<const N: usize>([u8; N]);

// SAFETY: bytes, and no padding as long as they are whole words.
unsafe impl<const N: usize> Plain for Bytes<N> {}

impl<const N: usize> Bytes<N> {
    /// Two bytes, in host byte order.
    #[inline(always)]
    fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Four bytes, as they are.
    #[inline(always)]
    fn raw_word(&self, at: usize) -> u64 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]]).into()
    }

    /// Eight bytes, as they are.
    #[inline(always)]
    fn raw(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(word)
    }

    /// The same where they are aligned to four.
    #[inline(always)]
    fn pair(&self, at: usize) -> u64 {
        let (first, second) = (self.raw_word(at), self.raw_word(at + 4));
        if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
    }
}

/// A packet's flow and what its TCP header says. For ICMP `seq` is the type and, in the lowest byte, the code; `ack` is the
/// protocol of the packet that an error answers, or the identifier and number of an echo. Filled in place: 512 bytes of stack leave no room for copies.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) key: FlowKey,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) len: u32,
    pub(crate) tcp_flags: u32,
    /// Of UDP the first eight bytes of payload, as a number.
    pub(crate) first_bytes: u64,
}

// SAFETY: integers and arrays of them, without padding.
unsafe impl Plain for Packet {}

/// Where the network header of an `sk_buff` begins.
#[derive(Clone, Copy)]
pub(crate) enum NetworkHeader {
    /// At `skb->head + skb->network_header`: on the way out, and in a protocol's receive function.
    Recorded,
    /// At `skb->data`: between a device's receive function and the protocol, where `network_header` is not set yet
    /// (`__netif_receive_skb_core` sets it).
    Data,
}

/// The network header of an `sk_buff`.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    /// Where it begins.
    pub(crate) at: Address,
    /// Bytes from there to the packet's end.
    pub(crate) len: u32,
    /// Of IP, as `skb->protocol` says: of a frame that is no IP packet the first byte says nothing. 0 if it is none.
    pub(crate) version: u8,
}

impl Network {
    #[inline(always)]
    pub(crate) fn of(skb: impl Pointer, header: NetworkHeader) -> Self {
        let data = skb.address_in(&offset::SK_BUFF_DATA);
        let at = match header {
            NetworkHeader::Recorded => {
                let head = skb.address_in(&offset::SK_BUFF_HEAD);
                head.wrapping_add(u64::from(skb.field::<u16>(&offset::SK_BUFF_NETWORK_HEADER)))
            }
            NetworkHeader::Data => data,
        };
        // Below the IP layer `data` is before the network header (a link-layer header), in TCP it is behind it: the wrapping
        // sum is right for both.
        let len = skb.field::<u32>(&offset::SK_BUFF_LEN).wrapping_add(data.wrapping_sub(at) as u32);
        // Without branches, which the verifier would follow.
        let ethertype = u64::from(u16::from_be(skb.field(&offset::SK_BUFF_PROTOCOL)));
        let is = |wanted: u16| is_zero(ethertype ^ u64::from(wanted)) as u8;
        Self { at, len, version: (is(ETH_P_IP) * 4) | (is(ETH_P_IPV6) * 6) }
    }
}

impl Packet {
    /// Reads an IPv4 or IPv6 packet; says whether it is one of TCP, UDP or ICMP. Later fragments are not: they have no
    /// ports, and with them no flow. A frame of its own on the stack.
    #[inline(never)]
    pub(crate) fn read(&mut self, network: Network) -> bool {
        let Network { at: network, len: behind, version } = network;
        // Where the header cannot be read, the zeroes that come instead are no version of IP.
        let mut room = MaybeUninit::uninit();
        let bytes = kread::read_to::<Bytes<FIRST_READ>>(network, &mut room);
        let is_v6 = mask_if_zero(u64::from(version) ^ 6);
        // Of both versions' words the right one, without a branch: older verifiers would follow each of them to the end.
        let of = |v4: u64, v6: u64| v4 ^ (v4 ^ v6) & is_v6;
        let is_other = u64::from(bytes.0[0] >> 4 ^ version) | is_zero(version.into());
        let is_later_fragment = u64::from(bytes.half(6) & 0x1fff) & !is_v6;
        if is_other | is_later_fragment != 0 {
            return false;
        }
        let key = &mut self.key;
        key.family = of(AF_INET.into(), AF_INET6.into()) as u8;
        key.saddr = [of(bytes.raw_word(12), bytes.raw(8)), bytes.raw(16) & is_v6];
        key.daddr = [of(bytes.raw_word(16), bytes.raw(24)), bytes.raw(32) & is_v6];
        let payload = u64::from(bytes.half(4));
        let with_header = (payload + IPV6_HEADER) & !mask_if_zero(payload);
        let network_len = shorter(behind.into(), of(bytes.half(2).into(), with_header));
        let mut protocol = of(bytes.0[9].into(), bytes.0[6].into());
        let mut header_len = of(u64::from(bytes.0[0] & 0xf) * 4, IPV6_HEADER);
        // Mostly the transport's header has been read already.
        let mut transport = [of(bytes.pair(20), bytes.raw(40)), of(bytes.pair(28), bytes.raw(48))];
        let is_extended =
            !(is_protocol(protocol, TCP) | is_protocol(protocol, UDP) | is_protocol(protocol, ICMPV6));
        let is_long = of(header_len ^ IPV4_HEADER, is_extended) != 0;
        if is_long {
            if is_v6 != 0 {
                let behind_extensions = ipv6_skip_extensions(network, protocol);
                (protocol, header_len) = (behind_extensions & 0xff, behind_extensions >> 8);
            }
            transport = kread::read(network, header_len);
        }
        key.protocol = protocol as u8;
        let len = network_len.wrapping_sub(header_len);
        self.transport(transport, network.wrapping_add(header_len), len & !mask_if_negative(len))
    }

    /// Of a SYN without ACK, which begins a connection, the sequence number; else 0.
    #[inline(always)]
    pub(crate) fn begins(&self) -> u32 {
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        if self.tcp_flags & (SYN | ACK) == SYN { self.seq } else { 0 }
    }

    /// What tells this packet from others that may lie in the same memory, on all its way: of TCP what the header numbers,
    /// of the others also its ends, which only translation of addresses changes.
    #[inline(always)]
    pub(crate) fn fingerprint(&self) -> u64 {
        let key = &self.key;
        let ([a, b], [c, d]) = (key.saddr, key.daddr);
        let ports = u64::from(key.sport) << 16 | u64::from(key.dport);
        let ends = mix(mix(mix(mix(ports, a), b), c), d);
        let is_tcp = is_zero(u64::from(key.protocol ^ TCP));
        let header = mix(u64::from(self.seq) << 32 | u64::from(self.ack), u64::from(self.len));
        let kind = u64::from(key.protocol) << 8 | u64::from(self.tcp_flags);
        mix(mix(header, kind), ends & is_tcp.wrapping_sub(1))
    }

    /// Reads the transport header at `transport`, `len` bytes from the packet's end; says whether it is TCP, UDP or ICMP.
    #[inline(always)]
    pub(crate) fn read_transport(&mut self, transport: Address, len: u32) -> bool {
        self.transport(kread::read(transport, 0), transport, len.into())
    }

    /// The same where it has been read: its first sixteen bytes. (As words: what is in registers is no more than a number for the
    /// verifier, however it came there.)
    #[inline(always)]
    fn transport(&mut self, [first, second]: [u64; 2], transport: Address, len: u64) -> bool {
        let (first, second) = (u64::from_be(first), u64::from_be(second));
        let key = &mut self.key;
        let protocol = u64::from(key.protocol);
        let (is_tcp, is_udp) = (is_protocol(protocol, TCP), is_protocol(protocol, UDP));
        let is_icmp = is_protocol(protocol, ICMP) | is_protocol(protocol, ICMPV6);
        if is_tcp | is_udp | is_icmp == 0 {
            return false;
        }
        let tcp_header_len = (second >> 28 & 0xf) * 4;
        let header_len = 8 ^ (8 ^ tcp_header_len) & is_tcp;
        let len = len.wrapping_sub(header_len);
        self.len = (len & !mask_if_negative(len)) as u32;
        let (mut ports, mut seq) = (first >> 32 & !is_icmp, first & is_tcp);
        // Of ICMP type and code; of an echo, identifier and number.
        seq |= first >> 48 & is_icmp;
        let mut ack = second >> 32 & is_tcp | first & is_icmp;
        self.tcp_flags = (second >> 16 & 0xff & is_tcp) as u32;
        self.first_bytes = second & is_udp;
        if is_icmp != 0 {
            // An error goes back to where the packet came from that it answers, so its ports are taken the other way round.
            let answered = icmp_answered(transport, protocol, first >> 56);
            let is_echo = mask_if_zero(answered);
            ack = ack & is_echo | answered & 0xff;
            ports |= answered >> 16;
        }
        (key.sport, key.dport) = ((ports >> 16) as u16, ports as u16);
        (self.seq, self.ack) = (seq as u32, ack as u32);
        true
    }
}

/// All ones if it is this one, and 0 if it is not.
#[inline(always)]
fn is_protocol(protocol: u64, wanted: u8) -> u64 {
    mask_if_zero(protocol ^ u64::from(wanted))
}

/// What an ICMP error says of the packet that it answers (RFC 792, RFC 4443): its protocol in the lowest byte, 1 in the next one, source
/// port from bit 16 on, destination port from bit 32 on; 0 of what is no error. Verified by itself: numbers, and a name of its own
/// (`BTF_FUNC_GLOBAL`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn icmp_answered(transport: u64, protocol: u64, kind: u64) -> u64 {
    let (is_v4, kind) = (protocol as u8 == ICMP, kind as u8);
    let is_error = if is_v4 { is_icmp_error(kind) } else { is_icmpv6_error(kind) };
    if !is_error {
        return 0;
    }
    let answered = transport.wrapping_add(8);
    let (protocol, ports) = if is_v4 {
        let first: u8 = kread::read(answered, 0);
        (kread::read(answered, 9), u64::from(first & 0xf) * 4)
    } else {
        (kread::read::<u8>(answered, 6), IPV6_HEADER)
    };
    let mut says = 1 << 8 | u64::from(protocol);
    if protocol == TCP || protocol == UDP {
        let [a, b, c, d]: [u8; 4] = kread::read(answered, ports);
        let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        says |= u64::from(source) << 16 | u64::from(destination) << 32;
    }
    says
}

/// A received frame may be padded, so the IP header's length counts; it is 0 where a GSO packet is larger than it can
/// say (BIG TCP), and there is no padding then.
#[inline(always)]
fn shorter(behind: u64, by_header: u64) -> u64 {
    let counts = mask_if_negative(by_header.wrapping_sub(behind)) & !mask_if_zero(by_header);
    behind ^ (behind ^ by_header) & counts
}

/// Skips IPv6's extension headers (a BIG TCP packet has one, for its length). Returns the transport's protocol in the
/// lowest byte and the bytes before it above; 0 for a later fragment or too many headers. Verified by itself, as
/// [`icmp_answered`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ipv6_skip_extensions(network: u64, first: u64) -> u64 {
    let mut next = first as u8;
    let mut at = IPV6_HEADER;
    for _ in 0..EXTENSIONS {
        // Next header, length, and in a fragment header the offset (RFC 8200, 4.3 to 4.6; RFC 4302, 2.2).
        let [following, len, high, low]: [u8; 4] = kread::read(network, at);
        at += match next {
            0 | 43 | 60 => (u64::from(len) + 1) * 8,
            44 if u16::from_be_bytes([high, low]) & 0xfff8 == 0 => 8,
            44 => return 0,
            51 => (u64::from(len) + 2) * 4,
            _ => return at << 8 | u64::from(next),
        };
        next = following;
    }
    0
}
