//! Where only tracepoints can be had: `tcp:tcp_probe` sees established sockets only, and sees some of them late.

use tracer_common::{
    event::{HopRecord, NO_FLOW},
    probes::Point,
};

use super::kernel::{
    ACK, ETH0, Kernel, RST, SYN, by_tracepoints, control, data, datagram, hops, reasons, seen, seqs,
};
use crate::model::Incomplete;

const TO_PROTOCOL: [&str; 4] = ["dev_queue_xmit", "loopback_xmit", "enqueue_to_backlog", "netif_receive_skb"];

fn up_to_protocol(kernel: &mut Kernel, cpu: u16, skb: super::kernel::Skb) {
    kernel.send(cpu, skb);
    kernel.at(Point::NetifReceiveSkb, cpu, skb);
}

fn and<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TO_PROTOCOL[..], more].concat()
}

#[test]
fn data_on_an_established_socket() {
    let mut kernel = Kernel::new(by_tracepoints());
    kernel.transfer(data(0xa0, 1000, 10));
    kernel.wake(1, 1010);
    kernel.read(1, 1010);
    let path = kernel.path();
    assert_eq!(
        (hops(&path), path.incomplete),
        (and(&["tcp_v4_rcv", "sock_def_readable", "tcp_recvmsg"]), None)
    );
}

#[test]
fn control_packets_settle_when_the_cpu_receives_the_next() {
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, control(0xa0, SYN));
    up_to_protocol(&mut kernel, 1, control(0xb0, SYN).seq(7));
    assert_eq!(kernel.paths(), []);
    up_to_protocol(&mut kernel, 0, control(0xc0, RST));
    let path = kernel.path();
    assert_eq!((hops(&path), path.tcp.unwrap().flags, path.incomplete), (TO_PROTOCOL.to_vec(), SYN, None));
}

/// `__netif_receive_skb_list_core()`: a driver's list is received as a whole before the transport gets the first packet.
#[test]
fn control_packets_of_a_list_settle_when_all_of_it_is_dealt_with() {
    let mut kernel = Kernel::new(by_tracepoints());
    let list = [(0xa0, SYN, 7), (0xb0, ACK, 8), (0xc0, SYN, 9), (0xd0, ACK, 10)]
        .map(|(at, flags, seq)| control(at, flags).seq(seq).over(ETH0));
    for skb in list {
        kernel.at(Point::NetifReceiveSkb, 0, skb);
    }
    assert_eq!(kernel.paths(), []);
    // The first and the last come to an established socket, the third is dropped.
    kernel.at(Point::TcpV4Rcv, 0, list[1]);
    assert_eq!(seqs(&kernel.paths()), [7], "what came before it has been dealt with");
    let dropped = seen(Point::KfreeSkb, 0, 0, list[2]);
    kernel.hop(HopRecord { aux: 3, flow: NO_FLOW, ..dropped });
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [9]);
    assert_eq!(hops(&paths[0]), ["netif_receive_skb", "kfree_skb"]);
    kernel.at(Point::TcpV4Rcv, 0, list[3]);
    // What comes off the backlog was received after all of that.
    up_to_protocol(&mut kernel, 0, control(0xe0, SYN));
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [8, 10]);
    assert!(paths.iter().all(|path| hops(path) == ["netif_receive_skb", "tcp_v4_rcv"]), "{paths:#?}");
}

#[test]
fn lists_are_bounded() {
    let mut kernel = Kernel::new(by_tracepoints());
    for at in 0..1000u32 {
        kernel.at(Point::NetifReceiveSkb, 0, control(u64::from(at) + 1, SYN).seq(at).over(ETH0));
    }
    assert!(kernel.correlator.unfinished() <= 66, "{}", kernel.correlator.unfinished());
}

#[test]
fn control_packets_settle_after_a_while() {
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, control(0xa0, SYN));
    kernel.wait(9_999_999);
    assert_eq!(kernel.paths(), []);
    kernel.wait(1);
    assert_eq!(kernel.path().incomplete, None);
}

#[test]
fn control_packets_settle_when_their_memory_is_used_again() {
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, control(0xa0, SYN));
    kernel.at(Point::DevQueueXmit, 1, control(0xa0, SYN | ACK).on(2));
    assert_eq!((kernel.path().incomplete, kernel.correlator.unfinished()), (None, 1));
}

#[test]
fn control_packets_settle_at_the_end() {
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, control(0xa0, SYN));
    assert_eq!(reasons(&kernel.finish()), [None]);
}

#[test]
fn an_acknowledgement_ends_in_the_probe() {
    let mut kernel = Kernel::new(by_tracepoints());
    kernel.transfer(control(0xa0, ACK));
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (and(&["tcp_v4_rcv"]), None));
}

#[test]
fn the_probe_may_come_late_and_on_another_cpu() {
    let mut kernel = Kernel::new(by_tracepoints());
    // A system call owns the socket, so the segments wait until it lets go.
    up_to_protocol(&mut kernel, 0, data(0xa0, 1000, 10));
    up_to_protocol(&mut kernel, 0, data(0xb0, 1010, 10));
    kernel.at(Point::TcpV4Rcv, 1, data(0xa0, 1000, 10));
    kernel.at(Point::TcpV4Rcv, 1, data(0xb0, 1010, 10));
    kernel.read(1, 1020);
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [1000, 1010]);
    for path in &paths {
        assert_eq!((hops(path), path.incomplete), (and(&["tcp_v4_rcv", "tcp_recvmsg"]), None));
    }
}

#[test]
fn the_probe_of_a_settled_packet_begins_no_path() {
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, control(0xa0, ACK));
    kernel.wait(20_000_000);
    kernel.path();
    kernel.at(Point::TcpV4Rcv, 1, control(0xa0, ACK));
    assert_eq!(kernel.finish(), []);
}

#[test]
fn data_that_the_probe_does_not_see_is_read_all_the_same() {
    // The first data on a connection may be what ends its handshake.
    let mut kernel = Kernel::new(by_tracepoints());
    up_to_protocol(&mut kernel, 0, data(0xa0, 1000, 10));
    kernel.wake(1, 1010);
    kernel.read(1, 1010);
    let path = kernel.path();
    assert_eq!((hops(&path), path.incomplete), (and(&["sock_def_readable", "tcp_recvmsg"]), None));
    // Without the wake-up, too, and what was not read yet waits.
    up_to_protocol(&mut kernel, 0, data(0xa0, 1010, 10));
    up_to_protocol(&mut kernel, 1, data(0xb0, 1020, 10));
    kernel.read(1, 1020);
    assert_eq!(hops(&kernel.path()), and(&["tcp_recvmsg"]));
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NotRead)]);
}

#[test]
fn packets_of_other_transports_settle_too() {
    let mut kernel = Kernel::new(by_tracepoints());
    kernel.flow_in(7, 1, "127.0.0.1:0", "127.0.0.2:0", 0);
    up_to_protocol(&mut kernel, 0, datagram(0xa0, 7, 10));
    assert_eq!(hops(&kernel.path()), TO_PROTOCOL);
}
