//! What holds of TCP's packets, whatever is lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use tracer_common::{
    event::{FlowRecord, HopRecord, RouteRecord, STILL_LOST, UnixNameRecord, UnixRecord},
    probes::Point,
};

use super::{
    super::kernel::{
        ACK, SYN, Skb, TID, by_kprobes, empty_unix, hops, loss_record, route_record, unix_name_record,
    },
    world::{World, flows},
};
use crate::{
    correlate::{Correlator, Limits},
    decode::{Record, decode},
    model::{Hop, Path},
};

pub(super) fn correlate(flows: &[FlowRecord], records: &[Record]) -> Vec<Path> {
    let mut correlator = Correlator::new(by_kprobes(), Limits::default());
    for flow in flows {
        correlator.record(&Record::Flow(*flow));
    }
    for record in records {
        correlator.record(record);
    }
    correlator.finish();
    assert_nothing_left(&correlator);
    correlator.drain().collect()
}

fn is_own(point: Point) -> bool {
    !matches!(point, Point::ProcessBacklog | Point::SockDefReadable | Point::TcpRecvmsg)
}

/// Which packets have a hop of their own at a time: one, or all that were cut from one.
fn owners(world: &World) -> BTreeMap<u64, BTreeSet<usize>> {
    let mut owners: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (packet, truth) in world.truths.iter().enumerate() {
        for (_, time) in truth.hops.iter().filter(|(point, _)| is_own(*point)) {
            owners.entry(*time).or_default().insert(packet);
        }
    }
    owners
}

/// No path has hops of two packets or hops that nobody saw, times go forward, and no packet is missing.
fn assert_nothing_joined_or_lost(world: &World, records: &[Record], paths: &[Path]) {
    let owners = owners(world);
    let sent: BTreeSet<(u8, u64)> = records.iter().map(place_of).collect();
    let asks_open = |record: &Record| match record {
        Record::Route(route) if route.flow % 10 == 3 => Some(route.time_ns),
        _ => None,
    };
    let open: BTreeSet<u64> = world.records.iter().filter_map(asks_open).collect();
    let mut shown: BTreeSet<u64> = BTreeSet::new();
    for path in paths {
        assert!(!path.hops.is_empty());
        assert!(path.hops.is_sorted_by_key(|hop| hop.time_ns), "{path:#?}");
        for hop in &path.hops {
            assert!(sent.contains(&(hop.point as u8, hop.time_ns)), "nobody saw {hop:?}");
            shown.insert(hop.time_ns);
        }
        let (questions, own): (Vec<&Hop>, Vec<&Hop>) =
            path.hops.iter().filter(|hop| is_own(hop.point)).partition(|hop| hop.point == Point::FibLookup);
        // Garbage has no owner.
        let none = BTreeSet::new();
        let of = own
            .iter()
            .map(|hop| owners.get(&hop.time_ns).unwrap_or(&none).clone())
            .reduce(|some, others| if some == others { some } else { &some & &others });
        let is_garbage = own.iter().all(|hop| !owners.contains_key(&hop.time_ns));
        let of = of.unwrap_or_default();
        assert!(is_garbage || !of.is_empty(), "hops of several packets: {path:#?}");
        // Where the records of a packet and of a later one's question are lost, the question is taken for the later
        // one's: it was asked by the same thread for the same flow, or for any to the same place.
        for (packet, question) in
            of.first().into_iter().flat_map(|packet| questions.iter().map(move |q| (packet, q)))
        {
            let Some(asker) = owners.get(&question.time_ns).and_then(|owners| owners.first()) else {
                continue;
            };
            let (asker, flow) = (world.skbs[*asker].flow, world.skbs[*packet].flow);
            assert!(asker == flow || open.contains(&question.time_ns) && flow % 10 == 1, "{path:#?}");
        }
    }
    for record in records {
        if let Record::Hop(hop) = record
            && hop.skb != 0
            && hop.point != Point::KfreeSkb as u8
            && owners.contains_key(&hop.time_ns)
        {
            assert!(shown.contains(&hop.time_ns), "not shown: {record:#?}");
        }
    }
    assert!(paths.len() <= records.len());
}

/// Point, time and CPU of a record.
fn of_record(record: &Record) -> (u8, u64, u16) {
    match record {
        Record::Hop(hop) => (hop.point, hop.time_ns, hop.cpu),
        Record::Unix(unix) => (unix.point, unix.time_ns, unix.cpu),
        Record::Route(route) => (route.point, route.time_ns, route.cpu),
        _ => (u8::MAX, 0, 0),
    }
}

fn place_of(record: &Record) -> (u8, u64) {
    let (point, time, _) = of_record(record);
    (point, time)
}

/// What can happen to a stream of records.
#[derive(Clone, Debug)]
enum Damage {
    Drop,
    Repeat,
    /// It comes before the one before it, if that is of another CPU.
    Early,
    /// The number of its flow is gone.
    WithoutFlow,
    Garbage(Box<Record>),
}

/// After the end nothing is kept.
pub(super) fn assert_nothing_left(correlator: &Correlator) {
    assert_eq!(correlator.unfinished(), 0);
    let [calls, _, buffers, connecting] = correlator.unix.sizes();
    assert_eq!((calls, buffers, connecting, correlator.unix.unread()), (0, 0, 0, 0));
    assert_eq!(correlator.datagrams.sizes(), [0; 3]);
    assert_eq!(correlator.at_device.flows(), 0);
    assert_eq!(
        (correlator.receiving.cpus(), correlator.routes.threads(), correlator.wakes.threads()),
        (0, 0, 0)
    );
    let [packets, by_skb, _] = correlator.in_flight.kept();
    assert_eq!((packets, by_skb), (0, 0));
}

/// A record of any kind, among few sockets, threads and places in memory.
fn any_record() -> impl Strategy<Value = Record> {
    let unix_points = prop::sample::select(vec![
        Point::UnixStreamConnect,
        Point::UnixStreamSendmsg,
        Point::UnixDgramSendmsg,
        Point::SockDefReadable,
        Point::UnixAccept,
        Point::UnixStreamRecvmsg,
        Point::UnixDgramRecvmsg,
        Point::TcpV4Rcv,
    ]);
    let who = (1u64..4, 0u64..4, 0u64..4, 0u32..3);
    let unix = (unix_points, 0u8..4, who, 0u32..4, 0u32..3, prop_oneof![4 => 0u32..4, 1 => any::<u32>()]);
    let unix = (unix, prop::sample::select(vec![1u8, 2, 5, 9])).prop_map(
        |((point, marks, (sk, peer, skb, tid), offset, total, len), socket_type)| {
            Record::Unix(UnixRecord {
                marks,
                sk,
                peer,
                skb,
                tid,
                len,
                offset,
                total,
                socket_type,
                ..empty_unix(point, 1_000_000_000 + u64::from(len.min(100_000)))
            })
        },
    );
    let route = (0u64..36, 0u32..3, any::<u32>(), any::<u64>(), 0u32..4).prop_map(
        |(flow, table, tid, time_ns, ifindex)| {
            let record = route_record(flow, table, 1_000_000_000 + time_ns % 100_000);
            Record::Route(RouteRecord { tid: TID + tid % 3, ifindex, ..record })
        },
    );
    let name = (1u64..4, 0u32..3, vec(any::<u8>(), 0..20)).prop_map(|(sk, inode, name)| {
        Record::UnixName(Box::new(UnixNameRecord { inode, ..unix_name_record(sk, &name) }))
    });
    prop_oneof![4 => any_hop().prop_map(Record::Hop), 4 => unix, 1 => route, 1 => name]
}

fn any_hop() -> impl Strategy<Value = HopRecord> {
    let small = |range: std::ops::Range<u64>| prop_oneof![3 => range, 1 => any::<u64>()];
    let what = (0u8..36, 0u8..4, any::<u8>(), prop_oneof![3 => 0u16..4, 1 => any::<u16>()], 0u16..4);
    let who = (
        small(0..4).prop_map(|at| at.wrapping_mul(256).wrapping_add(0xffff_0000)),
        any::<u64>(),
        small(0..36),
    );
    let when = prop_oneof![4 => 1_000_000_000u64..1_000_100_000, 1 => any::<u64>()];
    (what, who, when, any::<[u32; 5]>(), prop_oneof![0u32..4, any::<u32>()]).prop_map(
        |(
            (point, backend, tcp_flags, cpu, marks),
            (skb, sk, flow),
            time_ns,
            [tgid, tid, seq, ack, len],
            aux,
        )| {
            HopRecord {
                kind: 1,
                point,
                backend,
                tcp_flags,
                cpu,
                marks,
                time_ns,
                skb,
                sk,
                flow,
                tgid,
                tid: if tid % 2 == 0 { TID + tid % 3 } else { tid },
                seq,
                ack,
                len,
                aux,
            }
        },
    )
}

/// Where records are lost, and how many at each place.
pub(super) fn stretches() -> impl Strategy<Value = Vec<(prop::sample::Index, usize)>> {
    vec((any::<prop::sample::Index>(), 1usize..40), 0..4)
}

/// What comes where these are lost, to a reader that looks after every `batch` records whether there are no more.
pub(super) fn with_losses(
    records: &[Record],
    stretches: &[(prop::sample::Index, usize)],
    batch: usize,
) -> Vec<Record> {
    let mut lost = vec![false; records.len()];
    for (place, len) in stretches.iter().filter(|_| !records.is_empty()) {
        lost.iter_mut().skip(place.index(records.len())).take(*len).for_each(|lost| *lost = true);
    }
    let (mut came, mut is_known, mut is_losing, mut now_ns) = (Vec::new(), true, false, 0);
    for (at, (record, is_lost)) in records.iter().zip(lost).enumerate() {
        now_ns = of_record(record).1.max(now_ns);
        if is_lost {
            is_known = false;
        } else {
            if !is_known && !is_losing {
                is_losing = true;
                came.push(Record::Loss(loss_record(STILL_LOST)));
            }
            came.push(record.clone());
        }
        let has_looked = at % batch == 0 || at + 1 == records.len();
        if has_looked && (is_losing || !is_known) {
            (is_known, is_losing) = (true, false);
            came.push(Record::Loss(loss_record(now_ns)));
        }
    }
    came
}

fn in_order(hops: &[(Point, u64)]) -> Vec<(u64, Point)> {
    let mut hops: Vec<_> = hops.iter().map(|(point, time)| (*time, *point)).collect();
    hops.sort_unstable();
    hops
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => Just(Damage::Drop),
        2 => Just(Damage::Repeat),
        2 => Just(Damage::Early),
        1 => Just(Damage::WithoutFlow),
        2 => any_record().prop_map(|record| Damage::Garbage(Box::new(record))),
    ]
}

/// Damages records at random places; garbage takes no time that a true record has.
fn damaged(records: &[Record], damages: &[(prop::sample::Index, Damage)]) -> Vec<Record> {
    let times: BTreeSet<u64> = records.iter().map(|record| of_record(record).1).collect();
    let mut records = records.to_vec();
    for (place, damage) in damages {
        if records.is_empty() {
            break;
        }
        let at = place.index(records.len());
        match damage {
            Damage::Drop => {
                records.remove(at);
            }
            Damage::Repeat => records.insert(at, records[at].clone()),
            Damage::Early if at > 0 && of_record(&records[at - 1]).2 != of_record(&records[at]).2 => {
                records.swap(at - 1, at);
            }
            Damage::Early => {}
            Damage::WithoutFlow => match &mut records[at] {
                Record::Hop(hop) => hop.flow = 0,
                Record::Route(route) => route.flow = 0,
                _ => {}
            },
            Damage::Garbage(garbage) if times.contains(&of_record(garbage).1) => {}
            Damage::Garbage(garbage) => records.insert(at, *garbage.clone()),
        }
    }
    records
}

proptest! {
    #[test]
    fn every_packet_has_its_path(
        isn in prop_oneof![Just(1u32), Just(u32::MAX - 3000), any::<u32>()],
        repeats: bool,
        choices in vec(any::<u16>(), 0..400),
    ) {
        let world = World::of(isn, repeats, &choices);
        let paths = correlate(&flows(), &world.records);
        prop_assert_eq!(paths.len(), world.truths.len() - world.wholes.len());
        // By the last hop of its own, as segments share the first.
        let own_end = |hops: &[(Point, u64)]| hops.iter().filter(|(point, _)| is_own(*point)).map(|(_, time)| *time).max();
        let mut by_end: BTreeMap<Option<u64>, &Path> = BTreeMap::new();
        for path in &paths {
            prop_assert_eq!(path.incomplete, None, "{:?}", hops(path));
            let seen: Vec<_> = path.hops.iter().map(|hop| (hop.point, hop.time_ns)).collect();
            by_end.insert(own_end(&seen), path);
        }
        for (at, (truth, skb)) in world.truths.iter().zip(&world.skbs).enumerate() {
            if world.wholes.contains(&at) {
                continue;
            }
            let mut expected = truth.hops.clone();
            expected.sort_by_key(|(_, time)| *time);
            let path = by_end.get(&own_end(&expected)).unwrap();
            let seen: Vec<_> = path.hops.iter().map(|hop| (hop.point, hop.time_ns)).collect();
            prop_assert_eq!(&seen, &expected, "{:?}", skb);
            let tcp = path.tcp.unwrap();
            prop_assert_eq!((tcp.flags, tcp.seq, path.len), (skb.flags, skb.seq, skb.len));
            prop_assert!(truth.read || skb.len == 0 || !hops(path).contains(&"tcp_recvmsg"));
            prop_assert_eq!(path.dropped.is_some(), truth.dropped);
        }
    }

    #[test]
    fn damage_joins_and_hides_nothing(
        choices in vec(any::<u16>(), 0..300),
        damages in vec((any::<prop::sample::Index>(), damage()), 0..60),
        flows_lost in vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let world = World::of(1, false, &choices);
        let mut flows = flows();
        for lost in flows_lost {
            flows.remove(lost.index(flows.len()));
        }
        let records = damaged(&world.records, &damages);
        let paths = correlate(&flows, &records);
        assert_nothing_joined_or_lost(&world, &records, &paths);
    }

    #[test]
    fn a_stretch_of_loss_joins_and_hides_nothing(
        choices in vec(any::<u16>(), 100..400),
        from in any::<prop::sample::Index>(),
        len in 1usize..200,
    ) {
        let world = World::of(1, false, &choices);
        let mut records = world.records.clone();
        if !records.is_empty() {
            let from = from.index(records.len());
            records.drain(from..(from + len).min(records.len()));
        }
        let paths = correlate(&flows(), &records);
        assert_nothing_joined_or_lost(&world, &records, &paths);
    }

    #[test]
    fn where_losses_are_said_what_is_whole_is_true(
        isn in prop_oneof![Just(1u32), any::<u32>()],
        repeats: bool,
        choices in vec(any::<u16>(), 0..400),
        stretches in stretches(),
        batch in 1usize..40,
    ) {
        let world = World::of_lasting_connections(isn, repeats, &choices);
        let records = with_losses(&world.records, &stretches, batch);
        let paths = correlate(&flows(), &records);
        let truths: BTreeSet<Vec<(u64, Point)>> = world.truths.iter().map(|truth| in_order(&truth.hops)).collect();
        for path in paths.iter().filter(|path| path.incomplete.is_none()) {
            let seen: Vec<_> = path.hops.iter().map(|hop| (hop.point, hop.time_ns)).collect();
            let seen = in_order(&seen);
            let truth = truths.iter().filter(|truth| truth.iter().any(|hop| seen.contains(hop)));
            prop_assert!(truths.contains(&seen), "{seen:?} is none of {:?}", truth.collect::<Vec<_>>());
        }
        // What began with its call after the last loss is not in doubt.
        let end = records.iter().rev().find_map(|record| match record {
            Record::Loss(loss) => Some(loss.until_ns),
            _ => None,
        });
        let end = end.unwrap_or(0);
        for path in &paths {
            let first = path.hops[0];
            if first.point == Point::TcpSendmsg && first.time_ns > end {
                prop_assert_eq!(path.incomplete, None, "{:?}", path);
            }
        }
    }

    #[test]
    fn any_bytes_do_no_harm(
        bytes in vec((0u8..12, vec(any::<u8>(), 160), 0usize..8), 0..200),
        records in vec(any_record(), 0..400),
        in_flight in 0usize..8,
        known in 0usize..8,
        closes in prop::option::of(1_000_000_000u64..1_000_100_000),
    ) {
        let limits = Limits { in_flight, known, patience_ns: 1000 };
        let mut correlator = Correlator::new(by_kprobes(), limits);
        if let Some(time) = closes {
            correlator.close(time);
        }
        let mut sent = 0;
        for (kind, mut bytes, cut) in bytes {
            bytes[0] = kind;
            let len = match kind { 1 | 6 => 64, 2 | 7 => 56, 3 => 24, 4 => 32, 8 => 80, 9 => 16, _ => 128 };
            // Some are cut short.
            bytes.truncate(if cut == 0 { len - 1 } else { len });
            if let Ok(record) = decode(&bytes) {
                sent += 1;
                correlator.record(&record);
            }
        }
        for record in records {
            sent += 1;
            correlator.record(&record);
            prop_assert!(correlator.unfinished() <= in_flight.max(1));
            prop_assert!(correlator.flows.sizes().iter().all(|size| *size <= 2 * known.max(1) + in_flight + 2));
        }
        correlator.advance(u64::MAX);
        correlator.finish();
        assert_nothing_left(&correlator);
        let paths: Vec<Path> = correlator.drain().collect();
        prop_assert!(paths.len() <= sent);
        prop_assert!(paths.iter().all(|path| path.hops.is_sorted_by_key(|hop| hop.time_ns)));
        let ids: BTreeSet<u64> = paths.iter().map(|path| path.id).collect();
        prop_assert_eq!(ids.len(), paths.len());
    }

    #[test]
    fn the_same_records_give_the_same_paths(choices in vec(any::<u16>(), 0..200)) {
        let world = World::of(1, true, &choices);
        prop_assert_eq!(correlate(&flows(), &world.records), correlate(&flows(), &world.records));
    }
}

#[test]
fn the_small_kernel_makes_all_kinds_of_packets() {
    let choices: Vec<u16> = (0..3000u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 16) as u16).collect();
    let world = World::of(1, true, &choices);
    let count = |is: &dyn Fn(&Skb) -> bool| world.skbs.iter().filter(|skb| is(skb)).count();
    assert!(count(&|skb| skb.len > 0) > 50);
    assert!(count(&|skb| skb.flags == SYN | ACK) > 20);
    assert!(world.wholes.len() > 20);
    assert!(world.truths.iter().any(|truth| truth.hops.len() == 10));
    assert!(world.truths.iter().filter(|truth| truth.dropped).count() > 5);
    assert!(
        world.truths.iter().any(|truth| truth.hops.iter().all(|(point, _)| *point != Point::ProcessBacklog))
    );
    assert!(world.skbs.len() > 2 * world.skbs.iter().map(|skb| skb.at).collect::<BTreeSet<_>>().len());
}
