//! Whatever comes, memory is bounded.

use tracer_common::{
    event::{RouteRecord, UNIX_PATH_LEN, UnixRecord},
    probes::Point,
};

use super::kernel::{
    ACK, CLIENT, Kernel, SERVER, by_kprobes, by_tracepoints, control, data, empty_unix, reasons,
    route_record, seen, seqs,
};
use crate::{correlate::Limits, model::Incomplete};

fn limited(in_flight: usize, known: usize) -> Kernel {
    Kernel::limited(by_kprobes(), Limits { in_flight, known, ..Limits::default() })
}

#[test]
fn the_oldest_packet_makes_room() {
    let mut kernel = limited(4, 100);
    for at in 0..6u32 {
        kernel.send(0, data(u64::from(0xa0 + at), at, 1));
    }
    let paths = kernel.paths();
    assert_eq!((seqs(&paths), reasons(&paths)), (vec![0, 1], vec![Some(Incomplete::TooMany); 2]));
    assert_eq!(kernel.correlator.unfinished(), 4);
}

#[test]
fn unread_data_makes_room_too() {
    let mut kernel = limited(4, 100);
    for at in 0..6u32 {
        kernel.transfer(data(u64::from(0xa0 + at), at, 1));
    }
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::TooMany); 2]);
    kernel.read(1, 6);
    assert_eq!(reasons(&kernel.paths()), [None; 4]);
    let flow = kernel.correlator.flows.find(1).unwrap();
    assert_eq!(kernel.correlator.flows.get(flow).unwrap().waiting.len(), 0);
}

#[test]
fn a_limit_of_nothing_is_one() {
    let mut kernel = limited(0, 0);
    kernel.transfer(control(0xa0, ACK));
    kernel.send(0, control(0xb0, ACK));
    kernel.send(0, control(0xc0, ACK));
    assert_eq!(kernel.correlator.unfinished(), 1);
}

#[test]
fn keys_of_packets_that_ended_are_forgotten() {
    let mut kernel = limited(1000, 100);
    // Unread data holds the front of the queue.
    kernel.transfer(data(0xa0, 1, 1));
    for at in 0..10_000 {
        kernel.transfer(control(0xb0, ACK).seq(at));
        kernel.paths();
    }
    kernel.path();
    let [packets, by_skb, by_age] = kernel.correlator.in_flight.kept();
    assert_eq!((packets, by_skb), (1, 1));
    assert!(by_age <= 1100, "{by_age}");
}

#[test]
fn numbers_of_flows_are_forgotten() {
    let mut kernel = limited(100, 16);
    for id in 10..10_000u64 {
        let port = 10_000 + id;
        kernel.flow(id, &format!("127.0.0.1:{port}"), SERVER);
    }
    assert_eq!(kernel.correlator.flows.sizes(), [16; 4]);
}

#[test]
fn the_table_of_flows_does_not_outgrow_its_places() {
    let mut kernel = Kernel::new(by_kprobes());
    for id in 10..120_000u64 {
        kernel.flow(id, &format!("127.0.{}.1:{}", id >> 14, 10_000 + (id & 0x3fff)), SERVER);
    }
    assert!(kernel.correlator.flows.sizes().iter().all(|size| *size <= 7 << 14));
}

#[test]
fn a_flow_in_use_keeps_its_number() {
    let mut kernel = limited(100, 64);
    for id in 10..5000u64 {
        kernel.flow(id, &format!("127.0.0.1:{}", 10_000 + id), SERVER);
        if id % 10 == 0 {
            kernel.transfer(control(0xa0, ACK));
            assert!(kernel.path().flow.is_some(), "after {id} others");
        }
    }
    assert!(kernel.correlator.flows.sizes().iter().all(|size| *size <= 128));
}

#[test]
fn flows_with_unread_data_keep_a_number_and_no_more() {
    let mut kernel = limited(100, 16);
    kernel.transfer(data(0xa0, 1000, 10));
    // The kernel forgets and announces the same two flows for ever, under new numbers.
    for id in 10..5000u64 {
        let (src, dst) = if id % 2 == 0 { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        kernel.flow(id, src, dst);
    }
    let sizes = kernel.correlator.flows.sizes();
    assert!(sizes.iter().all(|size| *size <= 32), "{sizes:?}");
    kernel.read(4998, 1010);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn unread_data_outlives_the_numbers_of_its_flow() {
    let mut kernel = limited(100, 4);
    kernel.transfer(data(0xa0, 1000, 10));
    // Numbers that name another flow all of a sudden.
    kernel.flow(1, "127.0.0.1:1", "127.0.0.1:2");
    for id in 10..100u64 {
        kernel.flow(id, &format!("127.0.0.1:{}", 10_000 + id), SERVER);
    }
    kernel.flow(200, CLIENT, SERVER);
    kernel.read(200, 1010);
    assert_eq!(kernel.path().incomplete, None);
    let sizes = kernel.correlator.flows.sizes();
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
}

#[test]
fn flows_without_number_and_data_are_gone() {
    let mut kernel = limited(100, 4);
    for round in 0..100u32 {
        kernel.flow(1, CLIENT, SERVER);
        kernel.transfer(data(0xa0, round * 10, 10));
        kernel.flow(1, "127.0.0.1:1", &format!("127.0.0.1:{}", 1000 + round));
    }
    kernel.finish();
    let [states, by_flow, ..] = kernel.correlator.flows.sizes();
    assert!(states <= 8 && by_flow <= 8, "{:?}", kernel.correlator.flows.sizes());
}

#[test]
fn threads_that_ask_are_bounded() {
    let mut kernel = Kernel::new(by_kprobes());
    for tid in 0..20_000 {
        kernel.route(RouteRecord { tid, ..route_record(1, 255, 0) });
    }
    assert!(kernel.correlator.routes.threads() <= 4096);
}

#[test]
fn unix_calls_and_names_are_bounded() {
    let mut kernel = limited(16, 16);
    for at in 0..10_000u32 {
        kernel.unix_name(u64::from(at), &[b'a'; UNIX_PATH_LEN]);
        let sk = u64::from(at);
        kernel.unix(UnixRecord { sk, tid: at, peer: 5, len: 1, ..empty_unix(Point::UnixStreamSendmsg, 0) });
    }
    let [calls, sockets, buffers, connecting] = kernel.correlator.unix.sizes();
    assert!(calls <= 1100 && sockets <= 40, "{calls} calls, {sockets} sockets");
    assert_eq!((buffers, connecting), (0, 0));
    assert_eq!(kernel.correlator.unfinished(), 16);
}

#[test]
fn cpus_are_bounded() {
    let mut kernel = Kernel::new(by_tracepoints());
    for at in 0..200_000u32 {
        let cpu = (at.wrapping_mul(0x9e37_79b1) >> 16) as u16;
        kernel.hop(seen(Point::NetifReceiveSkb, 0, cpu, control(u64::from(at) + 1, ACK)));
        kernel.poll(cpu);
    }
    let mut by_kprobe = Kernel::new(by_kprobes());
    for at in 0..200_000u32 {
        by_kprobe.poll((at.wrapping_mul(0x9e37_79b1) >> 16) as u16);
    }
    assert!(kernel.correlator.receiving.cpus() <= 1 << 16);
    assert!(by_kprobe.correlator.receiving.cpus() <= 1 << 16);
}

#[test]
fn names_of_processes_and_devices_are_bounded() {
    let mut kernel = limited(16, 16);
    for at in 0..1000 {
        kernel.task(at, b"task");
        kernel.device(at, 0, "dev");
    }
    assert_eq!(kernel.correlator.names.sizes(), [16, 16]);
}
