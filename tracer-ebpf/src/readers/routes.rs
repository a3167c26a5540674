//! Answers of routing tables.

use core::mem::MaybeUninit;

use tracer_common::event::{KIND_ROUTE, RouteRecord};

use crate::{
    context::Args,
    flow::{self, AF_INET, AF_INET6, FlowKey, LOOPBACK},
    kread::{self, Address, offset},
    record::{self, Meta},
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
    device: Address,
    source: [u8; 16],
}

/// An IPv4 table has answered.
#[inline(always)]
pub(crate) fn route_v4(args: &impl Args, meta: Meta, table_id: usize, flow: usize, nhc: usize, error: usize) {
    let (flow, nhc) = (args.arg(flow), args.number(nhc));
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = kread::u8_field(flow, &offset::FLOWI4_PROTO);
    key.family = AF_INET;
    key.sport = u16::from_be(kread::u16_field(flow, &offset::FLOWI4_SPORT));
    key.dport = u16::from_be(kread::u16_field(flow, &offset::FLOWI4_DPORT));
    key.saddr[..4].copy_from_slice(&kread::u32_field(flow, &offset::FLOWI4_SADDR).to_ne_bytes());
    key.daddr[..4].copy_from_slice(&kread::u32_field(flow, &offset::FLOWI4_DADDR).to_ne_bytes());
    let mut answer = Answer {
        table: args.arg(table_id) as u32,
        error: args.arg(error) as i32,
        route_type: 0,
        device: 0,
        source: [0; 16],
    };
    if nhc != 0 {
        answer.device = kread::u64_field(nhc, &offset::NHC_DEV);
        // `struct fib_nh` begins with the `fib_nh_common`, and lies within its `struct fib_info`; that of a nexthop object
        // lies elsewhere, and then there is no route to be read from here.
        let route = kread::u64_field(nhc, &offset::FIB_NH_PARENT);
        let first = route.wrapping_add(u64::from(offset::FIB_INFO_NH.load()));
        if nhc.wrapping_sub(first) < MAX_NEXT_HOPS_BYTES {
            answer.route_type = kread::u8_field(route, &offset::FIB_INFO_TYPE);
            answer.source[..4]
                .copy_from_slice(&kread::u32_field(route, &offset::FIB_INFO_PREFSRC).to_ne_bytes());
        }
    }
    key.net = if answer.device == 0 {
        namespace()
    } else {
        kread::u64_field(answer.device, &offset::NET_DEVICE_NET)
    };
    write(meta, key, answer);
}

/// The network namespace of the process on the CPU, whose question it is unless a softirq asks; 0 in the idle task and in
/// other threads of the kernel, where only softirqs ask.
#[inline(always)]
fn namespace() -> Address {
    let task = record::current_task();
    if kread::u64_field(task, &offset::TASK_MM) == 0 {
        return 0;
    }
    kread::u64_field(kread::u64_field(task, &offset::TASK_NSPROXY), &offset::NSPROXY_NET)
}

/// An IPv6 table has answered.
#[inline(always)]
pub(crate) fn route_v6(args: &impl Args, meta: Meta, net: usize, res: usize, table: usize, flow: usize) {
    let (flow, res) = (args.arg(flow), args.arg(res));
    let mut key = MaybeUninit::uninit();
    let key: &mut FlowKey = kread::zeroed(&mut key);
    key.protocol = kread::u8_field(flow, &offset::FLOWI6_PROTO);
    key.family = AF_INET6;
    key.sport = u16::from_be(kread::u16_field(flow, &offset::FLOWI6_SPORT));
    key.dport = u16::from_be(kread::u16_field(flow, &offset::FLOWI6_DPORT));
    kread::read_into(flow, u64::from(offset::FLOWI6_SADDR.load()), &mut key.saddr);
    kread::read_into(flow, u64::from(offset::FLOWI6_DADDR.load()), &mut key.daddr);
    key.net = args.arg(net);
    let route = kread::u64_field(res, &offset::FIB6_RESULT_ROUTE);
    let mut answer = Answer {
        table: kread::u32_field(args.arg(table), &offset::FIB6_TABLE_ID),
        error: 0,
        route_type: kread::u8_field(res, &offset::FIB6_RESULT_TYPE),
        device: 0,
        source: kread::read(route, u64::from(offset::FIB6_INFO_PREFSRC.load())),
    };
    if route == kread::u64_field(key.net, &offset::NET_FIB6_NULL_ENTRY) {
        // `rt6_select()` found nothing. The entry that stands for that has a type and a device, which are no answer.
        (answer.error, answer.route_type) = (NET_UNREACHABLE, 0);
    } else {
        answer.error = refusal(answer.route_type);
        if answer.error == 0 {
            // `struct fib6_nh` begins with the `fib_nh_common`.
            let next_hop = kread::u64_field(res, &offset::FIB6_RESULT_NH);
            answer.device = kread::u64_field(next_hop, &offset::NHC_DEV);
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
    let ifindex = kread::u32_field(answer.device, &offset::NET_DEVICE_IFINDEX);
    if ifindex > LOOPBACK {
        flow::device(answer.device, key.net, ifindex);
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
            source: answer.source,
        },
    );
}
