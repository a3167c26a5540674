//! From the sending socket to the receiving one: what is one packet and what is another.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord, NO_FLOW},
    probes::{Backend, Point},
};

use super::kernel::{
    ACK, BACK, CLIENT, ETH0, FIN, Kernel, LO, PSH, RST, SERVER, SYN, Skb, WAY, by_kprobes, by_tracepoints,
    control, coverage, data, datagram, hops, reasons, seen, seqs, time_at, way_and, without,
};
use crate::model::{Incomplete, Protocol};

#[test]
fn data_passes_all_points_and_ends_when_it_is_read() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 100);
    kernel.task(50, b"client");
    let called = kernel.hop(HopRecord { tgid: 50, ..seen(Point::TcpSendmsg, 0, 0, skb.on(1)) });
    kernel.send(0, skb);
    let polled = kernel.poll(0);
    kernel.receive(0, skb);
    let woken = kernel.wake(1, 1100);
    assert_eq!(kernel.paths(), []);
    let read = kernel.read(1, 1100);
    let path = kernel.path();
    assert_eq!(hops(&path)[0], "tcp_sendmsg");
    assert_eq!(hops(&path)[1..], way_and(&["sock_def_readable", "tcp_recvmsg"]));
    assert_eq!((path.incomplete, path.start_ns()), (None, called));
    assert_eq!(time_at(&path, Point::ProcessBacklog), Some(polled));
    assert_eq!(time_at(&path, Point::SockDefReadable), Some(woken));
    assert_eq!(time_at(&path, Point::TcpRecvmsg), Some(read));
    assert_eq!((path.id, path.len), (1, 100));
    let flow = path.flow.unwrap();
    assert_eq!((flow.src.to_string(), flow.dst.to_string()), (CLIENT.into(), SERVER.into()));
    assert_eq!(path.device().unwrap().to_string(), "lo");
    let (sender, receiver) = (path.sender.unwrap(), path.receiver.unwrap());
    assert_eq!((sender.pid, sender.comm.unwrap().to_text()), (50, "client".into()));
    assert_eq!((receiver.pid, receiver.comm), (60, None));
}

#[test]
fn without_data_the_transport_is_the_end() {
    for flags in [ACK, FIN | ACK, SYN, RST | ACK] {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.transfer(control(0xa0, flags));
        let path = kernel.path();
        assert_eq!((hops(&path), path.incomplete), (WAY.to_vec(), None), "flags {flags:#x}");
    }
}

#[test]
fn a_poll_that_runs_already_is_no_hop() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.poll(0);
    let skb = control(0xa0, ACK);
    kernel.send(0, skb);
    kernel.receive(0, skb);
    let path = kernel.path();
    assert!(!hops(&path).contains(&"process_backlog"), "{path:?}");
    assert_eq!(path.incomplete, None);
}

#[test]
fn a_poll_on_another_cpu_is_no_hop() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = control(0xa0, ACK);
    kernel.send(0, skb);
    kernel.poll(1);
    kernel.receive(0, skb);
    assert!(!hops(&kernel.path()).contains(&"process_backlog"));

    // The packet was put on the backlog of another CPU than the one that it is received on.
    kernel.send(0, skb);
    kernel.poll(1);
    kernel.receive(1, skb);
    assert!(!hops(&kernel.path()).contains(&"process_backlog"));
}

#[test]
fn a_packet_may_be_steered_to_another_cpu() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = control(0xa0, ACK);
    for point in [Point::IpQueueXmit, Point::DevQueueXmit, Point::LoopbackXmit] {
        kernel.at(point, 0, skb);
    }
    kernel.hop(HopRecord { aux: 3, ..seen(Point::EnqueueToBacklog, 0, 0, skb) });
    kernel.poll(0);
    let polled = kernel.poll(3);
    kernel.receive(3, skb);
    let path = kernel.path();
    assert_eq!(hops(&path), WAY);
    assert_eq!(time_at(&path, Point::ProcessBacklog), Some(polled));
}

#[test]
fn a_poll_after_the_packet_was_received_is_no_hop() {
    // tcp:tcp_probe fires when a system call lets go of the socket; the CPU has polled again by then.
    let mixed =
        coverage(|point| Some(if point == Point::TcpV4Rcv { Backend::Tracepoint } else { Backend::Kprobe }));
    let mut kernel = Kernel::new(mixed);
    let skb = data(0xa0, 1000, 10);
    kernel.poll(0);
    kernel.send(0, skb);
    kernel.at(Point::NetifReceiveSkb, 0, skb);
    kernel.poll(0);
    kernel.at(Point::TcpV4Rcv, 0, skb);
    kernel.read(1, 1010);
    assert!(!hops(&kernel.path()).contains(&"process_backlog"));
}

#[test]
fn one_poll_takes_several_packets() {
    let mut kernel = Kernel::new(by_kprobes());
    let skbs = [control(0xa0, ACK), control(0xb0, ACK).on(BACK)];
    for skb in skbs {
        kernel.send(0, skb);
    }
    let polled = kernel.poll(0);
    for skb in skbs {
        kernel.receive(0, skb);
    }
    let paths = kernel.all_settled();
    assert_eq!(paths.len(), 2);
    for path in paths {
        assert_eq!(hops(&path), WAY);
        assert_eq!(time_at(&path, Point::ProcessBacklog), Some(polled));
    }
}

#[test]
fn some_packets_begin_at_the_device_layer_and_some_cannot() {
    let cases = [
        (control(0xa0, SYN | ACK), None),
        (control(0xa0, RST), None),
        (control(0xa0, RST | ACK), None),
        (control(0xa0, ACK), None),
        (control(0xa0, SYN), Some(Incomplete::StartNotSeen)),
        (control(0xa0, FIN | ACK), Some(Incomplete::StartNotSeen)),
        (data(0xa0, 1000, 10), Some(Incomplete::StartNotSeen)),
    ];
    for (skb, incomplete) in cases {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.send_from_device(0, skb);
        kernel.poll(0);
        kernel.receive(0, skb);
        kernel.read(1, skb.end());
        let path = kernel.path();
        assert_eq!(path.incomplete, incomplete, "{skb:?}");
        assert_eq!(hops(&path)[..6], WAY[1..]);
    }
}

#[test]
fn a_path_begins_at_the_first_point_that_is_watched() {
    let starts = [
        Point::IpQueueXmit,
        Point::DevQueueXmit,
        Point::LoopbackXmit,
        Point::EnqueueToBacklog,
        Point::NetifReceiveSkb,
        Point::TcpV4Rcv,
    ];
    for first in 1..starts.len() {
        let mut kernel = Kernel::new(without(&starts[..first]));
        let skb = data(0xa0, 1000, 10);
        kernel.transfer(skb);
        kernel.read(1, 1010);
        assert_eq!(kernel.path().incomplete, None, "first {:?}", starts[first]);
        // A later one is no start.
        let skb = data(0xa0, 1010, 10);
        if let Some(second) = starts.get(first + 1) {
            for point in &starts[starts.iter().position(|point| point == second).unwrap()..] {
                kernel.at(*point, 0, skb);
            }
            kernel.read(1, 1020);
            assert_eq!(kernel.path().incomplete, Some(Incomplete::StartNotSeen), "second {second:?}");
        }
    }
    // Where the network layer is watched, data is first seen there, whatever lies between.
    let mut kernel = Kernel::new(without(&[Point::DevQueueXmit]));
    kernel.at(Point::LoopbackXmit, 0, data(0xa0, 1000, 10));
    assert_eq!(kernel.finish()[0].incomplete, Some(Incomplete::StartNotSeen));
}

#[test]
fn from_a_network_card_a_packet_begins_at_its_reception() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.device(ETH0, super::kernel::NETNS, "eth0");
    let skb = data(0xa0, 1000, 10).over(ETH0);
    kernel.receive(0, skb);
    kernel.read(1, 1010);
    let path = kernel.path();
    assert_eq!(hops(&path), ["netif_receive_skb", "tcp_v4_rcv", "tcp_recvmsg"]);
    assert_eq!((path.incomplete, path.device().unwrap().to_string()), (None, "eth0".into()));

    kernel.receive(0, data(0xa0, 1010, 10));
    kernel.read(1, 1020);
    assert_eq!(kernel.path().incomplete, Some(Incomplete::StartNotSeen), "on lo it was sent first");
}

#[test]
fn memory_is_used_again() {
    let mut kernel = Kernel::new(by_kprobes());
    for at in 0..10 {
        kernel.transfer(control(0xa0, ACK).seq(at));
        kernel.transfer(data(0xa0, 1000 + 10 * at, 10));
        kernel.read(1, 1010 + 10 * at);
    }
    let paths = kernel.paths();
    assert_eq!(paths.len(), 20);
    assert!(paths.iter().all(|path| path.incomplete.is_none()), "{paths:#?}");
    assert!(paths.iter().map(|path| path.id).eq(1..=20));
}

#[test]
fn the_same_segment_in_the_same_memory_is_sent_twice() {
    let mut kernel = Kernel::new(by_kprobes());
    let skb = data(0xa0, 1000, 10);
    kernel.transfer(skb);
    kernel.transfer(skb);
    kernel.read(1, 1010);
    let paths = kernel.paths();
    assert_eq!(reasons(&paths), [None, None]);
    for path in &paths {
        assert_eq!(hops(path), way_and(&["tcp_recvmsg"]));
    }
    assert!(paths[0].hops[6].time_ns < paths[1].hops[0].time_ns);

    // The first one was dropped on its way.
    let skb = data(0xa0, 1010, 10);
    kernel.at(Point::IpQueueXmit, 0, skb);
    kernel.at(Point::DevQueueXmit, 0, skb);
    kernel.transfer(skb);
    kernel.read(1, 1020);
    assert_eq!(reasons(&kernel.paths()), [Some(Incomplete::Superseded), None]);
}

#[test]
fn another_segment_in_the_memory_supersedes() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.at(Point::IpQueueXmit, 0, data(0xa0, 1000, 10));
    // The next hop of another packet, whose first was lost.
    kernel.at(Point::DevQueueXmit, 0, data(0xa0, 2000, 10));
    let path = kernel.path();
    assert_eq!(path.incomplete, Some(Incomplete::Superseded), "nobody renumbers segments");
    assert_eq!(hops(&path), ["ip_queue_xmit"]);
    let paths = kernel.finish();
    assert_eq!(
        (hops(&paths[0]), reasons(&paths)),
        (vec!["dev_queue_xmit"], vec![Some(Incomplete::StartNotSeen)])
    );
}

#[test]
fn translated_addresses_are_said_to_have_changed() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow(3, CLIENT, "172.17.0.2:80");
    kernel.at(Point::IpQueueXmit, 0, data(0xa0, 1000, 10));
    kernel.at(Point::DevQueueXmit, 0, data(0xa0, 1000, 10).on(3));
    assert_eq!(kernel.path().incomplete, Some(Incomplete::Changed));
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::StartNotSeen)]);
}

#[test]
fn what_never_reached_its_transport_is_not_delivered() {
    // Dropped by a firewall, or forwarded: the memory is used again at once.
    for (skb, other) in
        [(data(0xa0, 1000, 10), data(0xa0, 1010, 10)), (control(0xa0, ACK), control(0xa0, FIN | ACK))]
    {
        let mut kernel = Kernel::new(by_kprobes());
        kernel.send(0, skb);
        kernel.poll(0);
        kernel.at(Point::NetifReceiveSkb, 0, skb);
        kernel.at(Point::IpQueueXmit, 0, other);
        let path = kernel.path();
        assert_eq!((path.incomplete, path.tcp.unwrap().seq), (Some(Incomplete::Superseded), skb.seq));
    }
}

#[test]
fn packets_on_two_cpus_are_kept_apart() {
    let mut kernel = Kernel::new(by_kprobes());
    let (one, two) = (data(0xa0, 1000, 10), data(0xb0, 2000, 10).on(BACK));
    for point in [Point::IpQueueXmit, Point::DevQueueXmit, Point::LoopbackXmit, Point::EnqueueToBacklog] {
        kernel.at(point, 0, one);
        kernel.at(point, 1, two);
    }
    let polls = [kernel.poll(0), kernel.poll(1)];
    for point in [Point::NetifReceiveSkb, Point::TcpV4Rcv] {
        kernel.at(point, 1, two);
        kernel.at(point, 0, one);
    }
    kernel.read(1, 1010);
    kernel.read(BACK, 2010);
    let paths = kernel.paths();
    assert_eq!(seqs(&paths), [1000, 2000]);
    for (cpu, path) in paths.iter().enumerate() {
        assert_eq!(hops(path), way_and(&["tcp_recvmsg"]));
        assert!(path.hops[..7].iter().all(|hop| hop.cpu == u32::try_from(cpu).unwrap()), "{path:?}");
        assert_eq!(time_at(path, Point::ProcessBacklog), Some(polls[cpu]));
    }
}

#[test]
fn datagrams_of_other_transports_end_where_they_are_received() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(7, 1, "127.0.0.1:0", "127.0.0.1:0", super::kernel::NETNS);
    // An answer to a UDP datagram that found no port.
    let skb = Skb { seq: 0x0303, ack: 17, ..datagram(0xa0, 7, 32) };
    kernel.send_from_device(0, skb);
    kernel.poll(0);
    kernel.at(Point::NetifReceiveSkb, 0, skb);
    let path = kernel.path();
    assert_eq!(hops(&path), &WAY[1..6]);
    assert_eq!((path.incomplete, path.tcp, path.flow.unwrap().protocol), (None, None, Protocol::Icmp));
    let icmp = path.icmp.unwrap();
    assert_eq!((icmp.kind, icmp.code, icmp.answers), (3, 3, Some(Protocol::Udp)));
}

#[test]
fn a_datagram_and_a_segment_are_two_packets() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(7, 17, CLIENT, SERVER, super::kernel::NETNS);
    kernel.at(Point::DevQueueXmit, 0, datagram(0xa0, 7, 10));
    // The records of the datagram's further way and of the segment's flow were lost.
    kernel.at(Point::LoopbackXmit, 0, data(0xa0, 1000, 10).on(NO_FLOW));
    let paths = kernel.finish();
    assert_eq!(paths.len(), 2, "{paths:#?}");
    assert_eq!((paths[0].tcp, paths[1].tcp.unwrap().seq), (None, 1000));
}

#[test]
fn datagrams_of_unknown_flows_are_not_joined() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(7, 17, CLIENT, SERVER, super::kernel::NETNS);
    for (first, second) in [(7, NO_FLOW), (NO_FLOW, 7)] {
        kernel.at(Point::DevQueueXmit, 0, datagram(0xa0, first, 32));
        kernel.at(Point::LoopbackXmit, 0, datagram(0xa0, second, 32));
        let paths = kernel.finish();
        assert!(paths.iter().all(|path| path.hops.len() == 1), "{paths:#?}");
    }
}

#[test]
fn a_segment_is_known_without_its_flow() {
    let mut kernel = Kernel::new(by_kprobes());
    // The record of the flow was lost at first, and was sent again.
    let skb = data(0xa0, 1000, 10);
    kernel.at(Point::IpQueueXmit, 0, skb.on(NO_FLOW));
    kernel.send_from_device(0, skb);
    kernel.poll(0);
    kernel.receive(0, skb);
    kernel.read(1, 1010);
    let path = kernel.path();
    assert_eq!(hops(&path), way_and(&["tcp_recvmsg"]));
    assert!(path.incomplete.is_none() && path.flow.is_some(), "{path:?}");

    // It never came.
    kernel.transfer(skb.on(NO_FLOW));
    let path = kernel.path();
    assert_eq!(
        (hops(&path), path.incomplete, path.flow),
        (WAY.to_vec(), Some(Incomplete::FlowUnknown), None)
    );
    // Nor did it for another segment in the same memory, one point further.
    kernel.at(Point::IpQueueXmit, 0, data(0xa0, 1000, 10).on(NO_FLOW));
    kernel.at(Point::DevQueueXmit, 0, data(0xa0, 1010, 10).on(NO_FLOW));
    assert_eq!(kernel.finish().len(), 2);
}

#[test]
fn only_real_interfaces_are_shown() {
    for (ifindex, shown) in [(0, None), (AUX_UNKNOWN, None), (LO, Some("lo")), (ETH0, Some("if2"))] {
        let mut kernel = Kernel::new(without(&[Point::DevQueueXmit, Point::LoopbackXmit]));
        kernel.at(Point::IpQueueXmit, 0, control(0xa0, ACK));
        kernel.receive(0, control(0xa0, ACK).over(ifindex));
        assert_eq!(kernel.path().device().map(ToString::to_string).as_deref(), shown);
    }
    // In tcp:tcp_probe the device of a packet is gone.
    let mut kernel =
        Kernel::new(without(&[Point::DevQueueXmit, Point::LoopbackXmit, Point::NetifReceiveSkb]));
    kernel.at(Point::IpQueueXmit, 0, control(0xa0, ACK));
    kernel.at(Point::TcpV4Rcv, 0, control(0xa0, ACK).over(LO));
    assert_eq!(kernel.path().device(), None);
}

#[test]
fn segments_over_ipv6_have_their_own_points() {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow(3, "[::1]:51234", "[::1]:8888");
    let skb = data(0xa0, 1000, 10).on(3);
    kernel.at(Point::Ip6Xmit, 0, skb);
    kernel.send_from_device(0, skb);
    kernel.poll(0);
    kernel.at(Point::NetifReceiveSkb, 0, skb);
    kernel.at(Point::TcpV6Rcv, 0, skb);
    kernel.read(3, 1010);
    let path = kernel.path();
    assert_eq!((hops(&path)[0], hops(&path)[6], path.incomplete), ("ip6_xmit", "tcp_v6_rcv", None));
    kernel.send_from_device(0, skb.flags(PSH | ACK).seq(1010));
    assert_eq!(reasons(&kernel.finish()), [Some(Incomplete::StartNotSeen)]);
}

/// Sends a packet of 100 bytes that the device layer cuts into these segments: memory, flags, offset, length.
fn send_cut(kernel: &mut Kernel, segments: &[(u64, u8, u32, u32)]) {
    let whole = data(0xa0, 1000, 100);
    kernel.at(Point::IpQueueXmit, 0, whole);
    kernel.at(Point::DevQueueXmit, 0, whole);
    for (at, flags, from, len) in segments {
        let segment = data(*at, 1000 + from, *len).flags(*flags);
        kernel.at(Point::LoopbackXmit, 0, segment);
        kernel.at(Point::EnqueueToBacklog, 0, segment);
    }
    kernel.poll(0);
    for (at, flags, from, len) in segments {
        kernel.receive(0, data(*at, 1000 + from, *len).flags(*flags));
    }
}

#[test]
fn a_packet_that_is_cut_is_as_many_packets_as_segments() {
    let mut kernel = Kernel::new(by_kprobes());
    send_cut(&mut kernel, &[(0xb0, ACK, 0, 40), (0xc0, ACK, 40, 40), (0xd0, PSH | ACK, 80, 20)]);
    kernel.read(1, 1100);
    let paths = kernel.paths();
    assert_eq!((seqs(&paths), reasons(&paths)), (vec![1000, 1040, 1080], vec![None; 3]));
    assert!(paths.iter().map(|path| path.id).eq(1..=3));
    assert!(paths.iter().all(|path| hops(path) == way_and(&["tcp_recvmsg"])), "{paths:#?}");
    assert!(paths.iter().all(|path| path.start_ns() == paths[0].start_ns()));
    assert_eq!(paths.iter().map(|path| path.len).sum::<u32>(), 100);
    assert_eq!(paths[0].tcp.unwrap().flags, ACK);
    assert_eq!(kernel.finish(), []);
}

#[test]
fn a_segment_of_which_the_rest_was_lost_is_shown_and_so_is_the_rest() {
    let mut kernel = Kernel::new(by_kprobes());
    send_cut(&mut kernel, &[(0xb0, ACK, 0, 40), (0xc0, ACK, 40, 40)]);
    kernel.read(1, 1080);
    assert_eq!(reasons(&kernel.paths()), [None, None]);
    kernel.transfer(data(0xa0, 1100, 10));
    let path = kernel.path();
    assert_eq!((path.incomplete, path.id, path.len), (Some(Incomplete::Superseded), 3, 100));
}

#[test]
fn only_what_is_part_of_a_packet_was_cut_from_it() {
    let cases = [
        ("another flow", data(0xb0, 1000, 40).on(BACK)),
        ("before it", data(0xb0, 990, 40)),
        ("beyond it", data(0xb0, 1080, 40)),
        ("far from it", data(0xb0, 999_000, 40)),
        ("all of it", data(0xb0, 1000, 100)),
        ("another acknowledgement", Skb { ack: 2, ..data(0xb0, 1000, 40) }),
        ("other flags", data(0xb0, 1000, 40).flags(FIN | ACK)),
        ("no data", data(0xb0, 1000, 0)),
    ];
    for (what, segment) in cases {
        let mut kernel = Kernel::new(by_kprobes());
        send_cut(&mut kernel, &[]);
        kernel.at(Point::LoopbackXmit, 0, segment);
        let paths = kernel.finish();
        assert_eq!(paths.len(), 2, "{what}");
        assert_eq!(paths[1].incomplete, Some(Incomplete::StartNotSeen), "{what}");
    }
    // A part that was cut off before, in other memory.
    let mut kernel = Kernel::new(by_kprobes());
    send_cut(&mut kernel, &[(0xb0, ACK, 0, 40)]);
    kernel.at(Point::LoopbackXmit, 0, data(0xc0, 1000, 40));
    assert_eq!(kernel.finish().last().unwrap().incomplete, Some(Incomplete::StartNotSeen));
}

#[test]
fn packets_may_be_cut_by_tracepoints_and_after_the_close() {
    let mut kernel = Kernel::new(by_tracepoints());
    kernel.at(Point::DevQueueXmit, 0, data(0xa0, 1000, 100));
    kernel.correlator.close(kernel.now_ns);
    for (at, seq) in [(0xb0, 1000), (0xc0, 1050)] {
        let segment = data(at, seq, 50);
        kernel.at(Point::LoopbackXmit, 0, segment);
        kernel.at(Point::EnqueueToBacklog, 0, segment);
        kernel.receive(0, segment);
    }
    kernel.read(1, 1100);
    let paths = kernel.paths();
    assert_eq!((reasons(&paths), kernel.finish()), (vec![None, None], vec![]));
    assert!(paths.iter().all(|path| hops(path)[0] == "dev_queue_xmit"));
}

#[test]
fn a_hop_that_every_packet_passes_is_missed() {
    let way = [
        Point::IpQueueXmit,
        Point::DevQueueXmit,
        Point::LoopbackXmit,
        Point::EnqueueToBacklog,
        Point::NetifReceiveSkb,
        Point::TcpV4Rcv,
    ];
    for missing in 1..5 {
        let mut kernel = Kernel::new(by_kprobes());
        let mut without = Kernel::new(without(&[way[missing]]));
        for point in way {
            if point != way[missing] {
                kernel.at(point, 0, control(0xa0, ACK));
            }
            without.at(point, 0, control(0xa0, ACK));
        }
        assert_eq!(kernel.path().incomplete, Some(Incomplete::HopNotSeen), "{:?}", way[missing]);
        assert_eq!(without.path().incomplete, None, "{:?} is not watched", way[missing]);
    }
    // Over a veth device there is no loopback device to pass.
    let mut kernel = Kernel::new(by_kprobes());
    let skb = control(0xa0, ACK).over(ETH0);
    for point in way.into_iter().filter(|point| *point != Point::LoopbackXmit) {
        kernel.at(point, 0, skb);
    }
    assert_eq!(kernel.path().incomplete, None);
}
