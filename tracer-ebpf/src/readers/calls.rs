//! System calls, where the functions behind them cannot be probed.

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
};
use tracer_common::{event::AUX_UNKNOWN, probes::Point, settings::Calls};

use super::{
    DATAGRAM, STREAM,
    files::{self, Socket},
    sockets, unix,
};
use crate::{
    context::Args,
    flow::{AF_INET, AF_INET6, AF_UNIX},
    kread::{self, Address, Fields as _, Pointer, Typed},
    packet::{TCP, UDP},
    record::Probe,
    words::element,
};

/// As sockets have them, which know more protocols than packets.
const IPPROTO_TCP: u16 = TCP as u16;
const IPPROTO_UDP: u16 = UDP as u16;

const CALLS: usize = Calls::Recvmmsg as usize + 1;

#[unsafe(no_mangle)]
static SYSTEM_CALLS: Global<[u32; CALLS]> = Global::new([0; CALLS]);
#[unsafe(no_mangle)]
static LOW_CALLS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static CALL_ARGUMENTS: Global<[u32; 6]> = Global::new([0; 6]);
#[unsafe(no_mangle)]
static CALL_NUMBER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static CODE_SEGMENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static CALLS_ARE_SEEN: Global<u32> = Global::new(0);

/// `__USER32_CS`: a 32-bit program calls, by other numbers.
const USER32_CS: u16 = 0x23;

/// `MSG_PEEK`: what is read stays in the queue.
const MSG_PEEK: u32 = 2;

/// `struct iovec`s that are added up; with more of them the length is not known.
const VECTORS: u64 = 8;

/// A system call begins. If it sends on a socket, or connects one, it is the first hop of what is sent: the point is that
/// of the socket's kind.
#[inline(always)]
pub(crate) fn system_call(args: &impl Args, probe: Probe, regs: usize, id: usize) {
    let number = args.arg(id) as u32;
    // Most calls end here. (A load of all numbers costs more than all the rest of it.)
    if number < u64::BITS && LOW_CALLS.load() >> number & 1 == 0 {
        return;
    }
    let is = |call: Calls| number == element(&SYSTEM_CALLS, call as usize);
    let descriptor = if is(Calls::Splice) { 2 } else { 0 };
    let known = is(Calls::Write)
        || is(Calls::Sendto)
        || is(Calls::Writev)
        || is(Calls::Sendmsg)
        || is(Calls::Sendmmsg)
        || is(Calls::Sendfile)
        || is(Calls::Splice)
        || is(Calls::Connect);
    if !known {
        return;
    }
    let call = Call { regs: args.pointer(regs) };
    if CODE_SEGMENT.load() != 0 && call.regs.read::<u16>(u64::from(CODE_SEGMENT.load())) == USER32_CS {
        return;
    }
    let Some(socket) = files::socket(call.argument(descriptor) as u32) else { return };
    let Socket { sk, family, kind, protocol, .. } = socket;
    let unix = unix::Socket { inode: socket.inode, socket_type: kind };
    if is(Calls::Connect) {
        if family == AF_UNIX
            && kind != DATAGRAM
            && let Some(probe) = probe.at(Point::UnixStreamConnect)
        {
            unix::connects(probe, sk, unix, unix::Name::user(call.argument(1), call.argument(2) as u32));
        }
        return;
    }
    let point = match (family, protocol) {
        (AF_UNIX, _) if kind == STREAM => Point::UnixStreamSendmsg,
        (AF_UNIX, _) => Point::UnixDgramSendmsg,
        (AF_INET | AF_INET6, IPPROTO_TCP) => Point::TcpSendmsg,
        (AF_INET, IPPROTO_UDP) => Point::UdpSendmsg,
        (AF_INET6, IPPROTO_UDP) => Point::Udpv6Sendmsg,
        _ => return,
    };
    let Some(probe) = probe.at(point) else { return };
    // Where the message is described by a `struct msghdr`: name, length of the name, vectors, their number.
    let message = if is(Calls::Sendmsg) || is(Calls::Sendmmsg) { call.argument(1) } else { 0 };
    let is_unix = matches!(point, Point::UnixStreamSendmsg | Point::UnixDgramSendmsg);
    let len = if is(Calls::Write) || is(Calls::Sendto) {
        call.argument(2) as u32
    } else if is(Calls::Writev) {
        sum(call.argument(1), call.argument(2))
    } else if is(Calls::Sendmsg) || is(Calls::Sendmmsg) && is_unix {
        // Of several messages this is the start of the first one.
        sum(kread::read_user(message.wrapping_add(16)), kread::read_user(message.wrapping_add(24)))
    } else {
        AUX_UNKNOWN
    };
    // Without its length the first message of several on a stream does not end.
    if is(Calls::Sendmmsg) && matches!(point, Point::UnixStreamSendmsg) && len == AUX_UNKNOWN {
        return;
    }
    // Where to, if the call says so.
    let (name, name_len) = if is(Calls::Sendto) {
        (call.argument(4), call.argument(5) as u32)
    } else if message != 0 {
        (kread::read_user(message), kread::read_user(message.wrapping_add(8)))
    } else {
        (0, 0)
    };
    match point {
        Point::UnixStreamSendmsg | Point::UnixDgramSendmsg => {
            unix::sends(probe, sk, unix, len, unix::Name::user(name, name_len));
        }
        Point::TcpSendmsg => sockets::sends_tcp_by_file(probe, sk, socket.netns, len),
        _ => {
            let port = if name == 0 { 0 } else { u16::from_be(kread::read_user(name.wrapping_add(2))) };
            sockets::sends_udp(probe, sk, port, len);
        }
    }
}

/// The registers at the entry of a system call.
struct Call<P> {
    regs: P,
}

impl<P: Pointer> Call<P> {
    #[inline(always)]
    fn argument(&self, index: usize) -> u64 {
        self.regs.read(u64::from(element(&CALL_ARGUMENTS, index)))
    }
}

/// Whether it can be told in which system call the process on the CPU is.
#[inline(always)]
pub(super) fn are_seen() -> bool {
    CALLS_ARE_SEEN.load() != 0
}

/// Whether the process on the CPU only looks at what it reads (`MSG_PEEK`), as far as that can be told.
#[inline(always)]
pub(super) fn peeks() -> bool {
    are_seen() && call_peeks()
}

/// The system call in which the process on the CPU is. The verifier must know the helpers (since [`are_seen`]).
#[inline(always)]
fn current() -> (Call<Typed>, impl Fn(Calls) -> bool) {
    // SAFETY: the task on the CPU is alive, and so is its stack, where the registers are.
    let call = unsafe { Call { regs: Typed::to(bpf_task_pt_regs(bpf_get_current_task_btf()) as Address) } };
    let number = call.regs.read::<u64>(u64::from(CALL_NUMBER.load())) as u32;
    (call, move |call: Calls| number == element(&SYSTEM_CALLS, call as usize))
}

/// How many vectors the call on the CPU was given, 0 if that is not known.
#[inline(never)]
pub(super) fn vectors() -> u64 {
    let (call, is) = current();
    if is(Calls::Writev) {
        call.argument(2)
    } else if is(Calls::Sendmsg) {
        kread::read_user(call.argument(1).wrapping_add(24))
    } else {
        0
    }
}

#[inline(never)]
fn call_peeks() -> bool {
    let (call, is) = current();
    let flags = if is(Calls::Recvfrom) || is(Calls::Recvmmsg) {
        call.argument(3)
    } else if is(Calls::Recvmsg) {
        call.argument(2)
    } else {
        0
    };
    flags as u32 & MSG_PEEK != 0
}

/// Bytes of all vectors together.
#[inline(never)]
fn sum(vectors: Address, count: u64) -> u32 {
    if count > VECTORS {
        return AUX_UNKNOWN;
    }
    let mut sum = 0u64;
    for index in 0..VECTORS {
        if index < count {
            sum += kread::read_user::<u64>(vectors.wrapping_add(index * 16 + 8));
        }
    }
    sum as u32
}
