//! Packets on several devices: forwarded, bridged, stacked.

use tracer_common::{
    event::{HopRecord, MARK_FORWARDED},
    probes::Point,
};

use super::kernel::{
    BACK, CLIENT, ETH0, Kernel, NETNS, SERVER, Skb, by_kprobes, by_tracepoints, control, data, hops, reasons,
    seen,
};
use crate::model::{Incomplete, MAX_HOPS, Path, Routing};

const VETH: u32 = 7;
const BRIDGE: u32 = 8;
const PORT: u32 = 9;
/// The flow as another namespace sees it.
const INSIDE: u64 = 21;

fn kernel() -> Kernel {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(INSIDE, 6, CLIENT, SERVER, NETNS + 1);
    for (ifindex, netns, name) in
        [(ETH0, NETNS + 1, "eth0"), (VETH, NETNS, "veth0"), (BRIDGE, NETNS, "br0"), (PORT, NETNS, "port1")]
    {
        kernel.device(ifindex, netns, name);
    }
    kernel
}

fn devices(path: &Path) -> Vec<String> {
    path.devices.iter().map(ToString::to_string).collect()
}

fn forward(kernel: &mut Kernel, skb: Skb) {
    kernel.hop(HopRecord { marks: MARK_FORWARDED, ..seen(Point::DevQueueXmit, 0, 0, skb) });
    kernel.at(Point::DevHardStartXmit, 0, skb);
}

fn send(kernel: &mut Kernel, skb: Skb) {
    kernel.at(Point::IpQueueXmit, 0, skb);
    kernel.at(Point::DevQueueXmit, 0, skb);
    kernel.at(Point::DevHardStartXmit, 0, skb);
}

#[test]
fn a_packet_is_forwarded_from_one_namespace_to_another() {
    let mut kernel = kernel();
    let skb = data(0xa0, 1000, 10);
    // Out of a container, through the host, into the bridge and out of one of its ports.
    send(&mut kernel, skb.on(INSIDE).over(ETH0));
    kernel.at(Point::EnqueueToBacklog, 0, skb);
    kernel.at(Point::NetifReceiveSkb, 0, skb.over(VETH));
    forward(&mut kernel, skb.over(BRIDGE));
    kernel.hop(HopRecord { marks: MARK_FORWARDED, ..seen(Point::DevQueueXmit, 0, 0, skb.over(PORT)) });
    kernel.at(Point::DevHardStartXmit, 0, skb.over(PORT));
    assert_eq!(kernel.paths(), []);
    kernel.wait(100_000_000);
    assert_eq!(kernel.paths(), []);
    kernel.wait(1);
    let path = kernel.path();
    assert_eq!(path.incomplete, None, "it has left");
    assert_eq!(devices(&path), ["eth0", "veth0", "br0", "port1"]);
    assert_eq!(path.hops.len(), 9);
    assert_eq!(path.flow.unwrap().netns, NETNS + 1);
}

#[test]
fn a_packet_goes_through_a_bridge_to_another_container() {
    let mut kernel = kernel();
    kernel.flow_in(22, 6, CLIENT, SERVER, NETNS + 2);
    let skb = data(0xa0, 1000, 10);
    send(&mut kernel, skb.on(INSIDE).over(ETH0));
    kernel.at(Point::EnqueueToBacklog, 0, skb);
    kernel.poll(0);
    kernel.at(Point::NetifReceiveSkb, 0, skb.over(VETH));
    forward(&mut kernel, skb.over(PORT));
    kernel.at(Point::EnqueueToBacklog, 0, skb.on(22));
    // The same poll is still running.
    // The other end of the pair has the same number in its own namespace as the first one in its.
    kernel.receive(0, skb.on(22).over(ETH0));
    kernel.wake(22, 1010);
    kernel.read(22, 1010);
    let path = kernel.path();
    assert_eq!((path.incomplete, path.receiver.is_some()), (None, true));
    assert!(hops(&path)[4] == "process_backlog");
    assert_eq!(
        hops(&path)[5..],
        [
            "netif_receive_skb",
            "dev_queue_xmit",
            "dev_hard_start_xmit",
            "enqueue_to_backlog",
            "netif_receive_skb",
            "tcp_v4_rcv",
            "sock_def_readable",
            "tcp_recvmsg"
        ]
    );
    assert_eq!(path.devices.len(), 4);
    assert_eq!((path.devices[0].netns, path.devices[3].netns), (NETNS + 1, NETNS + 2));
}

#[test]
fn a_stacked_device_hands_the_packet_down() {
    for skb in [data(0xa0, 1000, 10), control(0xa0, 0x10)] {
        let mut kernel = kernel();
        send(&mut kernel, skb.over(BRIDGE));
        kernel.at(Point::DevQueueXmit, 0, skb.over(PORT));
        kernel.at(Point::DevHardStartXmit, 0, skb.over(PORT));
        kernel.wait(100_000_001);
        let path = kernel.path();
        assert_eq!((devices(&path), path.incomplete), (vec!["br0".into(), "port1".into()], None));
        assert_eq!(
            hops(&path),
            [
                "ip_queue_xmit",
                "dev_queue_xmit",
                "dev_hard_start_xmit",
                "dev_queue_xmit",
                "dev_hard_start_xmit"
            ]
        );
    }
}

#[test]
fn a_bridge_hands_up_what_is_meant_for_its_machine() {
    let mut kernel = kernel();
    let skb = data(0xa0, 1000, 10);
    kernel.at(Point::NetifReceiveSkb, 0, skb.over(PORT));
    kernel.receive(0, skb.over(BRIDGE));
    kernel.read(1, 1010);
    let path = kernel.path();
    assert_eq!((devices(&path), path.incomplete), (vec!["port1".into(), "br0".into()], None));
    assert_eq!(hops(&path), ["netif_receive_skb", "netif_receive_skb", "tcp_v4_rcv", "tcp_recvmsg"]);
}

#[test]
fn a_retransmission_in_the_same_memory_is_a_new_packet() {
    for coverage in [by_kprobes(), by_tracepoints()] {
        let mut kernel = Kernel::new(coverage);
        let skb = data(0xa0, 1000, 10).over(PORT);
        send(&mut kernel, skb);
        kernel.now_ns += 50_000_000;
        send(&mut kernel, skb);
        kernel.wait(100_000_001);
        let paths = kernel.paths();
        assert_eq!(paths.len(), 2, "{paths:#?}");
        assert!(paths.iter().map(|path| path.retransmitted).eq([false, true]));
        assert!(paths.iter().all(|path| path.devices.len() == 1 && path.hops.len() <= 3));
        assert_eq!(paths[1].incomplete, None);
    }
}

#[test]
fn what_is_not_marked_was_not_forwarded() {
    let mut kernel = kernel();
    let skb = data(0xa0, 1000, 10);
    kernel.at(Point::NetifReceiveSkb, 0, skb.over(VETH));
    // Sent by this machine, whatever it looks like.
    kernel.at(Point::DevQueueXmit, 0, skb.over(PORT));
    let paths = kernel.finish();
    assert_eq!(paths.len(), 2);
    // And what is marked was received before.
    kernel.at(Point::IpQueueXmit, 0, skb.over(PORT));
    kernel.hop(HopRecord { marks: MARK_FORWARDED, ..seen(Point::DevQueueXmit, 0, 0, skb.over(PORT)) });
    kernel.hop(HopRecord { marks: MARK_FORWARDED, ..seen(Point::DevQueueXmit, 0, 0, skb.over(PORT)) });
    assert_eq!(kernel.finish().len(), 2);
}

#[test]
fn forwarded_data_waits_for_no_reader() {
    let mut kernel = Kernel::new(by_tracepoints());
    let skb = data(0xa0, 1000, 10);
    kernel.at(Point::NetifReceiveSkb, 0, skb.over(VETH));
    forward(&mut kernel, skb.over(PORT));
    kernel.at(Point::NetifReceiveSkb, 0, data(0xb0, 2000, 10).on(BACK).over(PORT));
    kernel.wait(100_000_001);
    let path = kernel.path();
    assert_eq!((path.tcp.unwrap().seq, path.incomplete), (1000, None));
    assert_eq!(path.routing, Routing::Unknown);
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::NotRead)]);
}

#[test]
fn a_packet_on_very_many_devices_keeps_its_first_ones() {
    let mut kernel = kernel();
    let skb = data(0xa0, 1000, 10);
    send(&mut kernel, skb.over(10));
    for device in 11..30 {
        kernel.at(Point::DevQueueXmit, 0, skb.over(device));
        kernel.at(Point::DevHardStartXmit, 0, skb.over(device));
    }
    let path = kernel.finish().remove(0);
    assert_eq!((path.devices.len(), path.hops.len()), (6, MAX_HOPS));
    assert_eq!(path.incomplete, Some(Incomplete::LostTrack));
}
