//! Finds the transport header of an `sk_buff` and reads from it what names the packet.

use core::mem::MaybeUninit;

use tracer_common::event::{is_icmp_error, is_icmpv6_error};

use crate::{
    flow::{AF_INET, AF_INET6, FlowKey},
    kread::{self, Address, Plain, Pointer, offset},
    words::{is_zero, mix},
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
const IPV6_HEADER: u32 = 40;
/// Extension headers that are skipped at most. RFC 8200 allows each but one once.
const EXTENSIONS: u32 = 6;

/// Bytes of IPv4's header without options.
const IPV4_HEADER: u32 = 20;

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
    /// Of UDP the first eight bytes of payload.
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

impl Packet {
    /// Reads an IPv4 or IPv6 packet; says whether it is one of TCP, UDP or ICMP. Later fragments are not: they have no
    /// ports, and with them no flow. A frame of its own on the stack.
    #[inline(never)]
    pub(crate) fn read(&mut self, skb: impl Pointer, header: NetworkHeader) -> bool {
        let data: u64 = skb.field(&offset::SK_BUFF_DATA);
        let network = match header {
            NetworkHeader::Recorded => {
                let head: u64 = skb.field(&offset::SK_BUFF_HEAD);
                head.wrapping_add(u64::from(skb.field::<u16>(&offset::SK_BUFF_NETWORK_HEADER)))
            }
            NetworkHeader::Data => data,
        };
        // Where the header cannot be read, the zeroes that come instead are no version of IP.
        let mut room = MaybeUninit::uninit();
        let Bytes(bytes) = kread::read_to::<Bytes<FIRST_READ>>(network, &mut room);
        // Bytes from the network header to the packet's end. Below the IP layer `data` is before the network header
        // (a link-layer header), in TCP it is behind it: the wrapping sum is right for both.
        let behind = skb.field::<u32>(&offset::SK_BUFF_LEN).wrapping_add(data.wrapping_sub(network) as u32);

        let key = &mut self.key;
        // Of a frame that is no IP packet the first byte says nothing.
        let ethertype = u16::from_be(skb.field(&offset::SK_BUFF_PROTOCOL));
        let (header_len, network_len) = match (bytes[0] >> 4, ethertype) {
            (4, ETH_P_IP) => {
                if u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff != 0 {
                    return false;
                }
                key.family = AF_INET;
                key.protocol = bytes[9];
                key.saddr[0] = u64::from(u32::from_ne_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]));
                key.daddr[0] = u64::from(u32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]));
                let total = u16::from_be_bytes([bytes[2], bytes[3]]);
                (u32::from(bytes[0] & 0xf) * 4, shorter(behind, u32::from(total)))
            }
            (6, ETH_P_IPV6) => {
                key.family = AF_INET6;
                key.saddr = [word(bytes, 8), word(bytes, 16)];
                key.daddr = [word(bytes, 24), word(bytes, 32)];
                let payload = u32::from(u16::from_be_bytes([bytes[4], bytes[5]]));
                let (protocol, header_len) = match bytes[6] {
                    simple @ (TCP | UDP | ICMPV6) => (simple, IPV6_HEADER),
                    next => {
                        let behind_extensions = skip_extensions(network, u32::from(next));
                        (behind_extensions as u8, (behind_extensions >> 8) as u32)
                    }
                };
                key.protocol = protocol;
                (header_len, shorter(behind, if payload == 0 { 0 } else { payload + IPV6_HEADER }))
            }
            _ => return false,
        };
        let transport = network.wrapping_add(u64::from(header_len));
        let len = network_len.saturating_sub(header_len);
        // Mostly it has been read already.
        match header_len {
            IPV4_HEADER => self.transport(bytes, IPV4_HEADER as usize, transport, len),
            IPV6_HEADER => self.transport(bytes, IPV6_HEADER as usize, transport, len),
            _ => self.read_transport(transport, len),
        }
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
        let mut room = MaybeUninit::uninit();
        let Bytes(bytes) = kread::read_to::<Bytes<TRANSPORT_READ>>(transport, &mut room);
        self.transport(bytes, 0, transport, len)
    }

    /// The same where it has been read, and begins at `at`.
    #[inline(always)]
    fn transport(&mut self, bytes: &[u8], at: usize, transport: Address, len: u32) -> bool {
        let key = &mut self.key;
        if key.protocol == ICMP || key.protocol == ICMPV6 {
            self.len = len.saturating_sub(8);
            read_icmp(self, transport);
            return true;
        }
        if key.protocol != TCP && key.protocol != UDP {
            return false;
        }
        key.sport = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        key.dport = u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]);
        if key.protocol == TCP {
            self.tcp_flags = u32::from(bytes[at + 13]);
            self.seq = u32::from_be_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
            self.ack = u32::from_be_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]);
            self.len = len.saturating_sub(u32::from(bytes[at + 12] >> 4) * 4);
        } else {
            self.len = len.saturating_sub(8);
            let mut first = [0; 8];
            first.copy_from_slice(&bytes[at + 8..at + 16]);
            self.first_bytes = u64::from_ne_bytes(first);
        }
        true
    }
}

/// Eight of the bytes.
#[inline(always)]
fn word(bytes: &[u8; FIRST_READ], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// Reads an ICMP header, and of an error the ports of the packet that it answers (RFC 792, RFC 4443): an error goes back
/// to where that one came from, so they are taken the other way round. A function of its own, as hardly any packet is one.
#[inline(never)]
fn read_icmp(packet: &mut Packet, transport: Address) {
    let [kind, code, _, _, a, b, c, d]: [u8; 8] = kread::read(transport, 0);
    packet.seq = u32::from(kind) << 8 | u32::from(code);
    let is_v4 = packet.key.family == AF_INET;
    let is_error = if is_v4 { is_icmp_error(kind) } else { is_icmpv6_error(kind) };
    if !is_error {
        packet.ack = u32::from_be_bytes([a, b, c, d]);
        return;
    }
    let answered = transport.wrapping_add(8);
    let (protocol, ports) = if is_v4 {
        let first: u8 = kread::read(answered, 0);
        (kread::read(answered, 9), u64::from(first & 0xf) * 4)
    } else {
        (kread::read::<u8>(answered, 6), u64::from(IPV6_HEADER))
    };
    packet.ack = u32::from(protocol);
    if protocol == TCP || protocol == UDP {
        let [a, b, c, d]: [u8; 4] = kread::read(answered, ports);
        packet.key.sport = u16::from_be_bytes([c, d]);
        packet.key.dport = u16::from_be_bytes([a, b]);
    }
}

/// A received frame may be padded, so the IP header's length counts; it is 0 where a GSO packet is larger than it can
/// say (BIG TCP), and there is no padding then.
#[inline(always)]
fn shorter(behind: u32, by_header: u32) -> u32 {
    if by_header != 0 && by_header < behind { by_header } else { behind }
}

/// Skips IPv6's extension headers (a BIG TCP packet has one, for its length). Returns the transport's protocol in the
/// lowest byte and the bytes before it above; 0 for a later fragment or too many headers. A function of its own, as
/// hardly any packet needs it.
#[inline(never)]
fn skip_extensions(network: Address, first: u32) -> u64 {
    let mut next = first as u8;
    let mut at = u64::from(IPV6_HEADER);
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
