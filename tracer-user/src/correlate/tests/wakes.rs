//! The scheduler's part: who was woken for what.

use tracer_common::{event::HopRecord, probes::Point};

use super::kernel::{Kernel, THERE, by_kprobes, data, empty, hops, time_at, way_and, without};
use crate::model::Path;

const READER: u32 = 900;
/// The socket that `Kernel::wake` and `Kernel::read` are about.
const SOCKET: u64 = 0x50;

fn waking(kernel: &mut Kernel, tid: u32, sk: u64) -> u64 {
    kernel.hop(HopRecord { sk, tid, tgid: 0, ..empty(Point::SchedWaking, 0) })
}

fn switched(kernel: &mut Kernel, tid: u32, sk: u64) -> u64 {
    kernel.hop(HopRecord { sk, tid, tgid: 0, ..empty(Point::SchedSwitch, 0) })
}

fn read(kernel: &mut Kernel, tid: u32, seq: u32) {
    kernel.hop(HopRecord { flow: THERE, seq, sk: SOCKET, tid, tgid: 60, ..empty(Point::TcpRecvmsg, 0) });
}

/// Data that its reader is woken for.
fn arrive(kernel: &mut Kernel, seq: u32) -> u64 {
    kernel.transfer(data(u64::from(seq), seq, 10));
    kernel.wake(THERE, seq + 10)
}

fn scheduler(path: &Path) -> Vec<u64> {
    [Point::SchedWaking, Point::SchedSwitch].into_iter().filter_map(|point| time_at(path, point)).collect()
}

#[test]
fn the_reader_is_woken_and_gets_a_cpu() {
    let mut kernel = Kernel::new(by_kprobes());
    let woken = arrive(&mut kernel, 1000);
    let times = [waking(&mut kernel, READER, SOCKET), switched(&mut kernel, READER, SOCKET)];
    read(&mut kernel, READER, 1010);
    let path = kernel.path();
    assert_eq!(hops(&path), way_and(&["sock_def_readable", "sched_waking", "sched_switch", "tcp_recvmsg"]));
    assert_eq!((scheduler(&path), path.incomplete), (times.to_vec(), None));
    let shares = path.shares().unwrap();
    assert_eq!((shares.scheduler_ns, shares.reader_ns), (1000, 1000));
    assert!(woken < times[0]);
}

#[test]
fn what_the_scheduler_did_for_others_is_not_shown() {
    type Schedule = fn(&mut Kernel);
    let cases: [(&str, Schedule); 5] = [
        ("nothing", |_| ()),
        ("another thread", |kernel| _ = waking(kernel, READER + 1, SOCKET)),
        ("another socket", |kernel| _ = waking(kernel, READER, SOCKET + 1)),
        ("another one's switch", |kernel| _ = switched(kernel, READER, SOCKET)),
        ("woken for another socket since", |kernel| {
            waking(kernel, READER, SOCKET);
            waking(kernel, READER, SOCKET + 1);
            switched(kernel, READER, SOCKET);
        }),
    ];
    for (whose, schedule) in cases {
        let mut kernel = Kernel::new(by_kprobes());
        arrive(&mut kernel, 1000);
        schedule(&mut kernel);
        read(&mut kernel, READER, 1010);
        assert_eq!(scheduler(&kernel.path()), [0; 0], "{whose}");
    }
}

#[test]
fn a_wake_up_is_for_what_was_there() {
    let mut kernel = Kernel::new(by_kprobes());
    arrive(&mut kernel, 1000);
    let times = [waking(&mut kernel, READER, SOCKET), switched(&mut kernel, READER, SOCKET)];
    // More comes before the thread has read.
    arrive(&mut kernel, 1010);
    read(&mut kernel, READER, 1020);
    let paths = kernel.paths();
    assert_eq!(scheduler(&paths[0]), times);
    assert_eq!(scheduler(&paths[1]), [0; 0]);
    // And the next read finds data without having slept.
    arrive(&mut kernel, 1020);
    read(&mut kernel, READER, 1030);
    assert_eq!(scheduler(&kernel.path()), [0; 0]);
}

#[test]
fn data_that_no_reader_was_woken_for_was_not_waited_for() {
    let mut kernel = Kernel::new(without(&[Point::SockDefReadable]));
    arrive(&mut kernel, 1000);
    waking(&mut kernel, READER, SOCKET);
    read(&mut kernel, READER, 1010);
    assert_eq!(scheduler(&kernel.path()), [0; 0]);
}

#[test]
fn a_thread_is_not_forgotten_because_thousands_are_woken_after_it() {
    let mut kernel = Kernel::new(by_kprobes());
    arrive(&mut kernel, 1000);
    let times = [waking(&mut kernel, READER, SOCKET), switched(&mut kernel, READER, SOCKET)];
    for tid in 0..4096 {
        waking(&mut kernel, 100_000 + tid, SOCKET + 64);
    }
    read(&mut kernel, READER, 1010);
    assert_eq!(scheduler(&kernel.path()), times);
}

#[test]
fn threads_that_are_woken_are_bounded() {
    let mut kernel = Kernel::new(by_kprobes());
    for tid in 0..20_000 {
        waking(&mut kernel, tid, SOCKET);
    }
    assert!(kernel.correlator.wakes.threads() <= 8192);
    kernel.finish();
    assert_eq!(kernel.correlator.wakes.threads(), 0);
}
