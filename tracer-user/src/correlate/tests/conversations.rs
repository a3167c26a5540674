//! Connections between the same two ends, one after the other.

use tracer_common::{
    event::{HopRecord, NO_FLOW},
    probes::Point,
};

use super::kernel::{
    ACK, BACK, Kernel, RST, SYN, by_kprobes, control, data, empty, hops, reasons, seqs, time_at, way_and,
};
use crate::model::Incomplete;

#[test]
fn what_was_read_before_does_not_count() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1_000_000, 10));
    kernel.read(1, 1_000_010);
    kernel.transfer(control(0xa0, SYN).seq(1000));
    kernel.all_settled();
    kernel.transfer(data(0xa0, 1001, 10));
    assert_eq!(kernel.paths(), [], "it must wait for its own reader");
    kernel.read(1, 1011);
    let path = kernel.path();
    assert_eq!(hops(&path), way_and(&["tcp_recvmsg"]));
}

#[test]
fn what_was_not_read_is_never_read() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 5000, 10));
    kernel.transfer(data(0xb0, 700, 10).on(BACK));
    kernel.transfer(control(0xc0, SYN).seq(9000));
    let paths = kernel.all_settled();
    assert_eq!(seqs(&paths), [5000, 700, 9000]);
    assert_eq!(reasons(&paths), [Some(Incomplete::NeverRead), Some(Incomplete::NeverRead), None]);
    kernel.transfer(data(0xd0, 9001, 10));
    kernel.read(1, 9011);
    kernel.read(BACK, 9011);
    assert_eq!(seqs(&kernel.paths()), [9001]);
}

/// What an earlier connection has left in its socket may be read when the next one has data of its own, whose numbers may be earlier.
#[test]
fn a_read_on_the_socket_of_an_earlier_connection_ends_nothing() {
    let mut kernel = Kernel::new(by_kprobes());
    let on = |point, sk, tgid, seq| HopRecord { flow: 1, sk, tgid, tid: tgid, seq, ..empty(point, 0) };
    let (earlier, own) = (0x40, 0x80);
    kernel.transfer(data(0xa0, 899_000, 1000));
    kernel.hop(on(Point::SockDefReadable, earlier, 7, 900_000));
    kernel.transfer(control(0xb0, SYN).seq(1000));
    assert_eq!(reasons(&kernel.all_settled()), [Some(Incomplete::NeverRead), None]);
    kernel.hop(on(Point::TcpRecvmsg, earlier, 8, 899_500));
    kernel.transfer(data(0xa0, 1001, 10));
    assert_eq!(kernel.paths(), []);
    kernel.hop(on(Point::SockDefReadable, own, 7, 1011));
    kernel.hop(on(Point::TcpRecvmsg, earlier, 8, 900_000));
    assert_eq!(kernel.paths(), []);
    kernel.transfer(data(0xb0, 1011, 10));
    let read = kernel.hop(on(Point::TcpRecvmsg, own, 9, 1021));
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [1001, 1011]);
    for path in paths {
        assert_eq!(time_at(&path, Point::TcpRecvmsg), Some(read));
        assert_eq!(path.receiver.map(|who| who.tid), Some(Some(9)), "{path:?}");
    }
}

#[test]
fn a_syn_sent_again_begins_nothing() {
    let mut kernel = Kernel::new(by_kprobes());
    let (syn, answer) = (control(0xa0, SYN), control(0xa0, SYN | ACK).on(BACK).seq(500));
    kernel.transfer(syn);
    kernel.transfer(answer);
    kernel.transfer(data(0xb0, 1001, 10));
    kernel.transfer(data(0xc0, 501, 10).on(BACK));
    // The ACK that ends the handshake was late.
    kernel.transfer(answer);
    kernel.transfer(syn);
    assert!(reasons(&kernel.all_settled()).iter().all(Option::is_none));
    kernel.read(1, 1011);
    kernel.read(BACK, 511);
    assert_eq!(reasons(&kernel.paths()), [None, None]);
}

#[test]
fn a_syn_counts_as_soon_as_its_flow_is_known() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.transfer(data(0xa0, 1_000_000, 10));
    kernel.read(1, 1_000_010);
    let syn = control(0xa0, SYN).seq(1000);
    kernel.send(0, syn.on(NO_FLOW));
    kernel.poll(0);
    kernel.receive(0, syn);
    kernel.all_settled();
    kernel.transfer(data(0xa0, 1001, 10));
    assert_eq!(kernel.paths(), []);
}

#[test]
fn a_new_connection_forgets_the_reset_and_the_names() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.hop(HopRecord { flow: 1, ..empty(Point::TcpSendmsg, 0) });
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.read(1, 1010);
    kernel.transfer(control(0xa0, RST));
    kernel.transfer(control(0xa0, SYN).seq(7000));
    kernel.all_settled();
    kernel.transfer(data(0xa0, 7001, 10));
    let paths = kernel.finish();
    assert_eq!(reasons(&paths), [Some(Incomplete::NotRead)]);
    assert_eq!((paths[0].sender, paths[0].receiver), (None, None));
}
