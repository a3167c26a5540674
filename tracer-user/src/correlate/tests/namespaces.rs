//! Packets that go from one network namespace to another.

use tracer_common::probes::Point;

use super::kernel::{
    CLIENT, ETH0, Kernel, NETNS, RST, SERVER, SYN, by_kprobes, control, data, hops, reasons,
};
use crate::model::Incomplete;

/// The same flow as its receiver sees it.
const INSIDE: u64 = 21;
const VETH: u32 = 7;

fn kernel() -> Kernel {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(INSIDE, 6, CLIENT, SERVER, NETNS + 1);
    kernel.device(ETH0, NETNS, "veth0");
    kernel
}

fn cross(kernel: &mut Kernel, skb: super::kernel::Skb) {
    let (out, inside) = (skb.over(ETH0), skb.over(VETH).on(INSIDE));
    kernel.at(Point::IpQueueXmit, 0, out);
    kernel.at(Point::DevQueueXmit, 0, out);
    kernel.at(Point::EnqueueToBacklog, 0, inside);
    kernel.poll(0);
    kernel.receive(0, inside);
}

#[test]
fn the_reader_is_in_the_other_namespace() {
    let mut kernel = kernel();
    cross(&mut kernel, data(0xa0, 1000, 10));
    kernel.wake(INSIDE, 1010);
    kernel.read(INSIDE, 1010);
    let path = kernel.path();
    assert_eq!(path.incomplete, None);
    assert_eq!(hops(&path)[5..], ["tcp_v4_rcv", "sock_def_readable", "tcp_recvmsg"]);
    assert_eq!((path.flow.unwrap().netns, path.device().unwrap().to_string()), (NETNS, "veth0".into()));
    assert_eq!(path.receiver.unwrap().pid, 60);
}

#[test]
fn a_reset_and_a_new_connection_count_there_too() {
    let mut kernel = kernel();
    cross(&mut kernel, data(0xa0, 1000, 10));
    cross(&mut kernel, control(0xb0, RST));
    kernel.path();
    cross(&mut kernel, control(0xc0, SYN).seq(5000));
    assert_eq!(reasons(&kernel.all_settled()), [Some(Incomplete::NeverRead), None]);
    cross(&mut kernel, data(0xa0, 5001, 10));
    cross(&mut kernel, control(0xb0, RST));
    kernel.path();
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NeverRead)]);
}

#[test]
fn reads_in_the_wrong_namespace_are_of_another_connection() {
    let mut kernel = kernel();
    cross(&mut kernel, data(0xa0, 1000, 10));
    kernel.read(1, 1010);
    assert_eq!(kernel.paths(), []);
}
