//! Hands what one process of this host sends to another over TCP right to the other's socket: no IP, no device.
//!
//! `sockmap_join` runs for the sockets of one cgroup and puts those of the wanted port into a map as soon as they are
//! connected; `sockmap_deliver` runs for each message that is sent through a socket of that map.
#![no_std]
#![no_main]
#![cfg_attr(
    target_arch = "bpf",
    feature(asm_experimental_arch),
    expect(unstable_features, reason = "inline assembly for BPF")
)]
#![allow(
    clippy::inline_always,
    clippy::needless_pass_by_value,
    reason = "the verifier wants one function a program, and programs are handed their context by value"
)]

mod counter;
mod object;

use aya_ebpf::{
    Global,
    bindings::{
        BPF_ANY, BPF_F_INGRESS, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        sk_action::SK_PASS,
    },
    macros::{map, sk_msg, sock_ops},
    maps::{Array, SockHash},
    programs::{SkMsgContext, SockOpsContext},
};
use tracer_common::settings::MAX_SOCKETS;

/// Connections with this port at either end are wanted, host byte order. 0: none.
#[unsafe(no_mangle)]
static SOCKMAP_PORT: Global<u16> = Global::new(0);

#[map]
static SOCKETS: SockHash<Ends> = SockHash::with_max_entries(MAX_SOCKETS, 0);
#[map]
static DELIVERED: Array<u64> = Array::with_max_entries(1, 0);

/// `AF_INET`.
const IPV4: u32 = 2;
/// The first byte of a loopback address.
const LOOPBACK: u32 = 127;

/// What a socket program has to return for the kernel to go on as usual.
const GO_ON: u32 = 1;

/// The ends of an IPv4 connection as one of its sockets has them. Addresses and ports in host byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ends {
    local_address: u32,
    remote_address: u32,
    local_port: u32,
    remote_port: u32,
}

impl Ends {
    /// As the socket at the other end has them.
    #[inline(always)]
    fn reversed(self) -> Self {
        Self {
            local_address: self.remote_address,
            remote_address: self.local_address,
            local_port: self.remote_port,
            remote_port: self.local_port,
        }
    }

    #[inline(always)]
    fn are_wanted(self) -> bool {
        let port = u32::from(SOCKMAP_PORT.load());
        port != 0
            && (self.local_port == port || self.remote_port == port)
            && self.local_address >> 24 == LOOPBACK
            && self.remote_address >> 24 == LOOPBACK
    }
}

/// The ends of the connection of a `bpf_sock_ops` or `sk_msg_md`, whose fields have the same names; `None` if it is none of
/// IPv4. Each field is read once and whole: the verifier refuses what LLVM makes of a comparison with one byte.
macro_rules! ends {
    ($context:expr) => {{
        let context = $context;
        // SAFETY: the kernel hands a valid context to the program, and lets it read these fields.
        let (family, local, remote, local_port, remote_port) = unsafe {
            (
                (&raw const (*context).family).read_volatile(),
                (&raw const (*context).local_ip4).read_volatile(),
                (&raw const (*context).remote_ip4).read_volatile(),
                (&raw const (*context).local_port).read_volatile(),
                (&raw const (*context).remote_port).read_volatile(),
            )
        };
        (family == IPV4).then_some(Ends {
            local_address: u32::from_be(local),
            remote_address: u32::from_be(remote),
            // The local port alone is in host byte order already (`sock_ops_convert_ctx_access`).
            local_port,
            remote_port: u32::from_be(remote_port),
        })
    }};
}

#[sock_ops]
fn sockmap_join(context: SockOpsContext) -> u32 {
    let is_connected =
        matches!(context.op(), BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB);
    if is_connected
        && let Some(ends) = ends!(context.ops)
        && ends.are_wanted()
    {
        // SAFETY: the kernel hands a valid context to the program, which nobody else uses meanwhile.
        let socket = unsafe { &mut *context.ops };
        // A socket that finds no room stays an ordinary one.
        let _ = SOCKETS.update(ends, socket, BPF_ANY.into());
    }
    GO_ON
}

#[sk_msg]
fn sockmap_deliver(context: SkMsgContext) -> u32 {
    // The other end may not be in the map (yet): then the message goes the usual way.
    // SAFETY: the kernel hands a valid context to the program, and lets it read this field.
    let bytes = unsafe { (&raw const (*context.msg).size).read_volatile() };
    if let Some(ends) = ends!(context.msg)
        && SOCKETS.redirect_msg(context, ends.reversed(), BPF_F_INGRESS.into()) == i64::from(SK_PASS)
        && let Some(delivered) = DELIVERED.get_ptr_mut(0)
    {
        // SAFETY: an element of the map, which lives as long as the program.
        unsafe { counter::add(delivered, bytes.into()) };
    }
    SK_PASS
}
