//! What is not known where records were lost.

use tracer_common::{
    event::{HopRecord, STILL_LOST},
    probes::Point,
};

use super::kernel::{
    ETH0, Kernel, SYN, THERE, WAY, by_kprobes, control, data, empty, hops, loss_record, reasons,
};
use crate::{decode::Record, model::Incomplete};

const LOST: Option<Incomplete> = Some(Incomplete::EventsLost);

/// Records are lost, and the reader catches up.
fn lose(kernel: &mut Kernel) {
    kernel.correlator.record(&Record::Loss(loss_record(STILL_LOST)));
    kernel.now_ns += 1000;
    kernel.correlator.record(&Record::Loss(loss_record(kernel.now_ns)));
}

fn call(kernel: &mut Kernel, seq: u32, len: u32) {
    kernel.hop(HopRecord { flow: THERE, seq, len, sk: 0x40, ..empty(Point::TcpSendmsg, 0) });
}

/// Sends a segment and reads it. Why its path is not whole.
fn message(kernel: &mut Kernel, seq: u32, len: u32) -> Option<Incomplete> {
    kernel.transfer(data(0xa0, seq, len));
    kernel.read(THERE, seq + len);
    let [reason] = reasons(&kernel.paths())[..] else { panic!("one path") };
    reason
}

#[test]
fn what_is_under_way_is_in_doubt_and_nothing_later() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1000, 100);
    kernel.transfer(data(0xa0, 1000, 100));
    lose(&mut kernel);
    kernel.read(THERE, 1100);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [LOST]);
    // The call, the poll and the read may be those of others.
    let own: Vec<&str> = WAY.into_iter().filter(|hop| *hop != "process_backlog").collect();
    assert_eq!(hops(&paths[0]), own);
    let (sender, receiver) = (paths[0].sender.unwrap(), paths[0].receiver.unwrap());
    assert_eq!((sender.pid, sender.tid, receiver.pid, receiver.tid), (50, None, 60, None));
    call(&mut kernel, 1100, 100);
    assert_eq!(message(&mut kernel, 1100, 100), None);
    // While the reader has not caught up, everything is.
    kernel.correlator.record(&Record::Loss(loss_record(STILL_LOST)));
    call(&mut kernel, 1200, 100);
    assert_eq!(message(&mut kernel, 1200, 100), LOST);
}

#[test]
fn what_comes_in_soon_may_have_been_sent_here() {
    let mut kernel = Kernel::new(by_kprobes());
    let from_outside = data(0xa0, 1000, 0).over(ETH0);
    for (waits, expected) in [(1_000_000, LOST), (200_000_000, None)] {
        lose(&mut kernel);
        kernel.wait(waits);
        kernel.receive(0, from_outside);
        assert_eq!(reasons(&kernel.all_settled()), [expected], "{waits}");
    }
}

#[test]
fn data_without_a_call_is_in_doubt_until_calls_are_known() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 1000, 100);
    assert_eq!(message(&mut kernel, 1000, 100), None);
    lose(&mut kernel);
    // However late it is sent.
    kernel.wait(1_000_000_000);
    assert_eq!(message(&mut kernel, 1100, 100), LOST);
    call(&mut kernel, 1200, 100);
    assert_eq!(message(&mut kernel, 1200, 100), None);
    // The kernel's own: its call would have been seen.
    assert_eq!(message(&mut kernel, 1300, 100), None);
    lose(&mut kernel);
    assert_eq!(message(&mut kernel, 1400, 100), None, "as before");
}

#[test]
fn calls_that_are_never_seen_were_not_lost() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(control(0xa0, SYN));
    assert_eq!(kernel.all_settled().len(), 1);
    assert_eq!(message(&mut kernel, 1001, 100), None);
    lose(&mut kernel);
    assert_eq!(message(&mut kernel, 1101, 100), None);
}

#[test]
fn another_conversation_may_have_begun() {
    let mut kernel = Kernel::new(by_kprobes());
    call(&mut kernel, 9000, 100);
    assert_eq!(message(&mut kernel, 9000, 100), None);
    lose(&mut kernel);
    // Between the same ends, from another sequence number on.
    call(&mut kernel, 1000, 100);
    kernel.transfer(data(0xa0, 1000, 100));
    kernel.read(THERE, 1100);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None]);
    assert!(!paths[0].retransmitted && paths[0].hops[0].point == Point::TcpSendmsg, "{paths:#?}");
}
