//! Which send call a segment comes from, and whether it is sent again.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::Point,
};

use super::kernel::{
    ACK, BACK, FIN, Kernel, PSH, SYN, THERE, TID, by_kprobes, control, data, empty, hops, loss_record,
    reasons, seen, seqs, way_and,
};
use crate::{
    correlate::Limits,
    decode::Record,
    model::{Incomplete, Path},
};

const OTHER: u32 = 700;

fn call(kernel: &mut Kernel, tid: u32, seq: u32, len: u32) -> u64 {
    kernel.hop(HopRecord { flow: THERE, tid, tgid: tid, seq, len, sk: 0x40, ..empty(Point::TcpSendmsg, 0) })
}

/// The calls that the paths begin with; 0 where there is none.
fn calls(paths: &[Path]) -> Vec<u64> {
    let call =
        |path: &Path| path.hops.iter().find(|hop| hop.point == Point::TcpSendmsg).map(|hop| hop.time_ns);
    paths.iter().map(|path| call(path).unwrap_or(0)).collect()
}

/// Sends segments (sequence number, length) and reads them all.
fn transfer(kernel: &mut Kernel, segments: &[(u32, u32)]) -> Vec<Path> {
    for (at, (seq, len)) in segments.iter().enumerate() {
        kernel.transfer(data(0xa0 + 0x10 * at as u64, *seq, *len));
    }
    let (seq, len) = segments[segments.len() - 1];
    kernel.read(THERE, seq.wrapping_add(len));
    kernel.paths()
}

#[test]
fn a_segment_comes_from_the_call_of_its_first_byte() {
    let mut kernel = Kernel::new(by_kprobes());
    let called = call(&mut kernel, TID, 1000, 100);
    let paths = transfer(&mut kernel, &[(1000, 100)]);
    assert_eq!(calls(&paths), [called]);
    assert_eq!(paths[0].hops[1..].len(), way_and(&["tcp_recvmsg"]).len());
    let sender = paths[0].sender.unwrap();
    assert_eq!((sender.pid, sender.tid), (TID, Some(TID)));
    // Of what has no call only the process is known.
    let unasked = transfer(&mut kernel, &[(1100, 0)])[0].sender.unwrap();
    assert_eq!((unasked.pid, unasked.tid), (TID, None));

    // Two calls in one segment, and one call in two.
    let first = call(&mut kernel, TID, 1100, 10);
    call(&mut kernel, TID, 1110, 10);
    let third = call(&mut kernel, TID, 1120, 200);
    let paths = transfer(&mut kernel, &[(1100, 20), (1120, 100), (1220, 100)]);
    assert_eq!(calls(&paths), [first, third, third]);
}

#[test]
fn a_call_whose_length_is_not_known_ends_where_the_next_begins() {
    let mut kernel = Kernel::new(by_kprobes());
    let first = call(&mut kernel, TID, 1000, AUX_UNKNOWN);
    let second = call(&mut kernel, TID, 1500, 10);
    let paths = transfer(&mut kernel, &[(1000, 400), (1400, 100), (1500, 10), (1510, 10)]);
    assert_eq!(calls(&paths), [first, first, second, 0], "the last one's call was lost");
}

/// Where ports are translated (REDIRECT), two sockets may send on what is one flow to the device.
#[test]
fn a_segment_of_another_socket_has_another_call() {
    let mut kernel = Kernel::new(by_kprobes());
    let first = call(&mut kernel, TID, 1000, 10);
    let second = call(&mut kernel, TID, 1010, AUX_UNKNOWN);
    let sent = [(1000, 0x40), (5000, 0x80), (1010, 0x40)];
    for (at, (seq, sk)) in [0xa0, 0xb0, 0xc0].into_iter().zip(sent) {
        let skb = data(at, seq, 10);
        kernel.hop(HopRecord { sk, ..seen(Point::IpQueueXmit, 0, 0, skb) });
        kernel.send_from_device(0, skb);
        kernel.poll(0);
        kernel.receive(0, skb);
    }
    kernel.correlator.finish();
    let mut paths = kernel.paths();
    paths.sort_unstable_by_key(|path| path.id);
    assert_eq!(calls(&paths), [first, 0, second]);
    let senders: Vec<bool> = paths.iter().map(|path| path.sender.is_some()).collect();
    assert_eq!(senders, [true, false, true]);
    assert!(paths.iter().all(|path| !path.retransmitted));
}

/// Its own call is not on this flow, so after a loss nobody knows whether there was one.
#[test]
fn after_a_loss_a_segment_of_another_socket_is_in_doubt() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.correlator.record(&Record::Loss(loss_record(kernel.now_ns)));
    call(&mut kernel, TID, 1000, 10);
    let skb = data(0xa0, 5000, 10);
    kernel.hop(HopRecord { sk: 0x80, ..seen(Point::IpQueueXmit, 0, 0, skb) });
    kernel.send_from_device(0, skb);
    kernel.poll(0);
    kernel.receive(0, skb);
    kernel.read(THERE, 5010);
    assert_eq!(kernel.path().incomplete, Some(Incomplete::EventsLost));
}

/// A connection whose SYN was not seen has the ends of an earlier one, whose calls are not its own.
#[test]
fn the_calls_of_an_earlier_socket_are_forgotten() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 1000, AUX_UNKNOWN);
    let own = HopRecord { sk: 0x80, tid: TID, tgid: TID, ..empty(Point::TcpSendmsg, 0) };
    let called = kernel.hop(HopRecord { flow: THERE, seq: 5000, len: 10, ..own });
    let paths = transfer(&mut kernel, &[(4000, 10), (5000, 10)]);
    assert_eq!(calls(&paths), [0, called]);
}

#[test]
fn a_call_that_was_cut_short_ends_where_the_next_begins() {
    let mut kernel = Kernel::new(by_kprobes());
    let first = call(&mut kernel, TID, 1000, 1000);
    let again = call(&mut kernel, TID, 1300, 700);
    let failed = call(&mut kernel, TID, 2000, 50);
    let second = call(&mut kernel, TID, 2000, 50);
    assert!(failed < second);
    let paths = transfer(&mut kernel, &[(1000, 300), (1300, 700), (2000, 50)]);
    assert_eq!(calls(&paths), [first, again, second]);
}

#[test]
fn calls_of_two_threads_at_once_are_nobodys() {
    let mut kernel = Kernel::new(by_kprobes());
    // Both have entered before one has written.
    call(&mut kernel, TID, 1000, 100);
    call(&mut kernel, OTHER, 1000, 100);
    // This one waits for the second half of the first.
    call(&mut kernel, OTHER + 1, 1150, 10);
    let last = call(&mut kernel, OTHER, 1300, 10);
    let paths = transfer(&mut kernel, &[(1000, 100), (1100, 50), (1150, 150), (1300, 10)]);
    assert_eq!(calls(&paths)[..2], [0, 0]);
    assert_eq!(calls(&paths)[3], last);
    assert!(paths[..2].iter().all(|path| path.incomplete == Some(Incomplete::Entangled)));

    // One after the other they are not.
    let one = call(&mut kernel, TID, 1310, 100);
    let two = call(&mut kernel, OTHER, 1410, 100);
    assert_eq!(calls(&transfer(&mut kernel, &[(1310, 100), (1410, 100)])), [one, two]);
}

#[test]
fn a_call_in_progress_is_in_progress_for_everybody() {
    let mut kernel = Kernel::new(by_kprobes());
    // A long call waits for memory again and again; others come between.
    call(&mut kernel, TID, 1000, 10_000);
    call(&mut kernel, OTHER, 1100, 10);
    kernel.transfer(data(0xa0, 1000, 100));
    kernel.transfer(data(0xb0, 1100, 10));
    call(&mut kernel, OTHER + 1, 1200, 10);
    kernel.transfer(data(0xc0, 1110, 90));
    kernel.transfer(data(0xd0, 1200, 10));
    kernel.read(THERE, 1210);
    assert_eq!(calls(&kernel.paths())[1..], [0, 0, 0], "the first one's bytes had been sent before");
}

#[test]
fn calls_after_the_segment_are_not_its_own() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 100);
    kernel.at(Point::IpQueueXmit, 0, skb);
    call(&mut kernel, TID, 1000, 100);
    kernel.send_from_device(0, skb);
    kernel.receive(0, skb);
    kernel.read(THERE, 1100);
    assert_eq!(calls(&kernel.paths()), [0]);
}

#[test]
fn sequence_numbers_of_calls_wrap_around() {
    let mut kernel = Kernel::new(by_kprobes());
    let start = u32::MAX - 149;
    let seqs_of = |from: u32| start.wrapping_add(from);
    let one = call(&mut kernel, TID, seqs_of(0), 100);
    let two = call(&mut kernel, TID, seqs_of(100), 100);
    let three = call(&mut kernel, TID, seqs_of(200), 100);
    let segments = [0, 100, 150, 200].map(|from| (seqs_of(from), if from == 100 { 50 } else { 100 }));
    let paths = transfer(&mut kernel, &[segments[0], segments[1], (segments[2].0, 50), segments[3]]);
    assert_eq!(calls(&paths), [one, two, two, three]);
    assert!(paths.iter().all(|path| !path.retransmitted));
}

#[test]
fn acknowledgements_come_from_no_call() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 1000, 100);
    kernel.transfer(control(0xa0, ACK));
    kernel.transfer(data(0xb0, 1000, 10).on(BACK));
    kernel.read(BACK, 1010);
    assert_eq!(calls(&kernel.paths()), [0, 0]);
}

#[test]
fn what_is_sent_again_is_marked() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, TID, 1000, 100);
    // In its own memory, in other memory, in part, with more behind it.
    let segments = [
        data(0xa0, 1000, 100),
        data(0xa0, 1000, 100),
        data(0xb0, 1000, 100),
        data(0xb0, 1050, 50),
        data(0xb0, 1050, 100),
    ];
    for skb in segments {
        kernel.transfer(skb);
    }
    kernel.transfer(data(0xc0, 1150, 10));
    kernel.read(THERE, 1160);
    let mut paths = kernel.finish();
    paths.sort_by_key(|path| path.id);
    assert!(
        paths.iter().map(|path| path.retransmitted).eq([false, true, true, true, true, false]),
        "{paths:#?}"
    );
    assert_eq!(calls(&paths)[1..], [0; 5]);
    assert_eq!(reasons(&paths), [None; 6]);
    assert_eq!(seqs(&paths), [1000, 1000, 1000, 1050, 1050, 1150]);
}

#[test]
fn syn_and_fin_are_sent_again_like_data() {
    let mut kernel = Kernel::new(by_kprobes());
    let fin = control(0xd0, FIN | ACK).seq(1101);
    let segments = [
        (control(0xa0, SYN), false),
        (control(0xa0, SYN), true),
        (control(0xb0, ACK).seq(1001), false),
        (data(0xc0, 1001, 100), false),
        (fin, false),
        (fin, true),
        (control(0xb0, ACK).seq(1102), false),
        // Keepalive probes repeat an old number, without data.
        (control(0xb0, ACK).seq(1101), false),
        // Another connection between the same ends.
        (control(0xa0, SYN).seq(500), false),
        (data(0xc0, 501, 10).flags(PSH | ACK), false),
    ];
    for (skb, is_again) in segments {
        kernel.transfer(skb);
        kernel.read(THERE, skb.end());
        let path = kernel.path();
        assert_eq!(path.retransmitted, is_again, "{skb:?} {:?}", hops(&path));
    }
}

#[test]
fn data_whose_call_is_not_remembered_says_so() {
    let mut kernel = Kernel::limited(by_kprobes(), Limits { in_flight: 100, ..Limits::default() });
    // The receiver is slow: many calls wait in the send buffer.
    let first = call(&mut kernel, TID, 1000, 10);
    for at in 1..=100 {
        call(&mut kernel, TID, 1000 + 10 * at, 10);
    }
    let paths = transfer(&mut kernel, &[(1000, 10), (1010, 10)]);
    assert_eq!(reasons(&paths), [Some(Incomplete::CallNotKept), None]);
    assert_eq!(calls(&paths), [0, first + 1000]);
}

#[test]
fn thousands_of_calls_may_wait() {
    let mut kernel = Kernel::new(by_kprobes());
    let called: Vec<u64> = (0..20_000).map(|at| call(&mut kernel, TID, 1000 + 10 * at, 10)).collect();
    let paths = transfer(&mut kernel, &[(1000, 10), (1010, 99_990), (101_000, 10)]);
    assert_eq!(calls(&paths), [called[0], called[1], called[10_000]]);
}
