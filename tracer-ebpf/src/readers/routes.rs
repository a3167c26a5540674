//! Answers of routing tables.

use core::mem::MaybeUninit;

use tracer_common::event::{KIND_ROUTE, RouteRecord};

use crate::{
    context::Args,
    flow::{self, AF_INET, AF_INET6, FlowKey, LOOPBACK},
    kread::{self, Fields as _, Pointer, Raw, offset},
    record::{self, Meta, Probe},
    words::bytes_of,
};

/// More next hops than one route has.
const MAX_NEXT_HOPS_BYTES: u64 = 1 << 16;

/// `-ENETUNREACH`: what `ip6_null_entry` says to whoever asks.
const NET_UNREACHABLE: i32 = -101;

/// The first `RTN_*` that is no route but a refusal, and what `fib6_prop` and `fib_props` say of it and of those behind it:
/// blackhole `EINVAL`, unreachable `EHOSTUNREACH`, prohibit `EACCES`, throw `EAGAIN`.
const FIRST_REFUSAL: u8 = 6;
const REFUSALS: u32 = u32::from_le_bytes([22, 113, 13, 11]);

/// What a table has answered, as far as [`RouteRecord`] has it.
#[derive(Clone, Copy)]
struct Answer {
    table: u32,
    error: i32,
    route_type: u8,
    device: Raw,
    source: [u64; 2],
}

/// An IPv4 table has answered.
#[inline(always)]
pub(crate) fn route_v4(
    args: &impl Args,
    probe: Probe,
    table_id: usize,
    flow: usize,
    nhc: usize,
    error: usize,
) {
    let meta = probe.now();
    let (flow, nhc) = (args.pointer(flow), Raw(args.number(nhc)));
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = flow.field(&offset::FLOWI4_PROTO);
    key.family = AF_INET;
    key.sport = u16::from_be(flow.field(&offset::FLOWI4_SPORT));
    key.dport = u16::from_be(flow.field(&offset::FLOWI4_DPORT));
    key.saddr[0] = u64::from(flow.field::<u32>(&offset::FLOWI4_SADDR));
    key.daddr[0] = u64::from(flow.field::<u32>(&offset::FLOWI4_DADDR));
    let mut answer = Answer {
        table: args.arg(table_id) as u32,
        error: args.arg(error) as i32,
        route_type: 0,
        device: Raw(0),
        source: [0; 2],
    };
    if !nhc.is_null() {
        answer.device = nhc.pointer(&offset::NHC_DEV);
        // `struct fib_nh` begins with the `fib_nh_common`, and lies within its `struct fib_info`; that of a nexthop object
        // lies elsewhere, and then there is no route to be read from here.
        let route = nhc.pointer(&offset::FIB_NH_PARENT);
        let first = route.inner(&offset::FIB_INFO_NH);
        if nhc.address().wrapping_sub(first.address()) < MAX_NEXT_HOPS_BYTES {
            answer.route_type = route.field(&offset::FIB_INFO_TYPE);
            answer.source[0] = u64::from(route.field::<u32>(&offset::FIB_INFO_PREFSRC));
        }
    }
    key.netns = if answer.device.is_null() { namespace() } else { flow::namespace_of(answer.device) };
    write(meta, key, answer);
}

/// The network namespace of the process on the CPU, whose question it is unless a softirq asks; 0 in the idle task and in
/// other threads of the kernel, where only softirqs ask.
#[inline(always)]
fn namespace() -> u32 {
    let task = Raw(record::current_task());
    if task.pointer(&offset::TASK_MM).is_null() {
        return 0;
    }
    task.pointer(&offset::TASK_NSPROXY).pointer(&offset::NSPROXY_NET).field(&offset::NET_INUM)
}

/// An IPv6 table has answered.
#[inline(always)]
pub(crate) fn route_v6(args: &impl Args, probe: Probe, net: usize, res: usize, table: usize, flow: usize) {
    let meta = probe.now();
    let (flow, res, net) = (args.pointer(flow), args.pointer(res).raw(), args.pointer(net).raw());
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = flow.field(&offset::FLOWI6_PROTO);
    key.family = AF_INET6;
    key.sport = u16::from_be(flow.field(&offset::FLOWI6_SPORT));
    key.dport = u16::from_be(flow.field(&offset::FLOWI6_DPORT));
    key.saddr = flow.words(&offset::FLOWI6_SADDR);
    key.daddr = flow.words(&offset::FLOWI6_DADDR);
    key.netns = net.field(&offset::NET_INUM);
    let route = res.pointer(&offset::FIB6_RESULT_ROUTE);
    let mut answer = Answer {
        table: args.pointer(table).field(&offset::FIB6_TABLE_ID),
        error: 0,
        route_type: res.field(&offset::FIB6_RESULT_TYPE),
        device: Raw(0),
        source: route.words(&offset::FIB6_INFO_PREFSRC),
    };
    if route.address() == net.field(&offset::NET_FIB6_NULL_ENTRY) {
        // `rt6_select()` found nothing. The entry that stands for that has a type and a device, which are no answer.
        (answer.error, answer.route_type) = (NET_UNREACHABLE, 0);
    } else {
        answer.error = refusal(answer.route_type);
        if answer.error == 0 {
            // `struct fib6_nh` begins with the `fib_nh_common`.
            answer.device = res.pointer(&offset::FIB6_RESULT_NH).pointer(&offset::NHC_DEV);
        }
    }
    write(meta, key, answer);
}

/// What a route of this type says instead of the way (`ip6_rt_type_to_error()`); 0 if it says the way. Its device, the
/// loopback device, is none that anything goes by.
#[inline(always)]
fn refusal(route_type: u8) -> i32 {
    let place = u32::from(route_type.wrapping_sub(FIRST_REFUSAL));
    if place < 4 { -((REFUSALS >> (place * 8) & 0xff).cast_signed()) } else { 0 }
}

#[inline(always)]
fn write(meta: Meta, key: &FlowKey, answer: Answer) {
    let Some(flow) = flow::wanted_somewhere(key, meta.marks()) else { return };
    let ifindex: u32 = answer.device.field(&offset::NET_DEVICE_IFINDEX);
    if ifindex > LOOPBACK {
        flow::device(answer.device, key.netns, ifindex);
    }
    record::submit(
        KIND_ROUTE,
        RouteRecord {
            kind: KIND_ROUTE,
            point: meta.point as u8,
            backend: meta.backend as u8,
            route_type: answer.route_type,
            cpu: record::cpu() as u16,
            pad: 0,
            time_ns: meta.time_ns,
            flow,
            tid: record::tid(),
            table: answer.table,
            ifindex,
            error: answer.error,
            source: bytes_of(answer.source),
        },
    );
}
