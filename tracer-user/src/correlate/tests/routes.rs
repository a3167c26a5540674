//! Routing questions and the packets that follow them.

use tracer_common::{
    event::{HopRecord, MARK_TO_PEER, RouteRecord},
    probes::Point,
};

use super::kernel::{
    ACK, BACK, CLIENT, ETH0, Kernel, NETNS, RST, SERVER, SYN, Skb, by_kprobes, by_tracepoints, control, data,
    empty, hops, route_record, without,
};
use crate::model::Routing;

/// Numbers of the flows of questions: nothing but the destination known, all known.
const OPEN: u64 = 11;
const EXACT: u64 = 12;
/// Only the client's port not known.
const SOURCE: u64 = 10;

const NONE: [u64; 0] = [];

const LOCAL: u32 = 255;
const MAIN: u32 = 254;

fn kernel() -> Kernel {
    let mut kernel = Kernel::new(by_kprobes());
    kernel.flow_in(OPEN, 6, "0.0.0.0:0", SERVER, 0);
    kernel.flow_in(EXACT, 6, CLIENT, SERVER, 0);
    kernel
}

/// The times at which the only path's questions were asked.
#[track_caller]
fn asked(kernel: &mut Kernel, skb: Skb) -> Vec<u64> {
    kernel.transfer(skb);
    kernel.read(1, skb.end());
    let path = kernel.path();
    assert_eq!(path.incomplete, None);
    path.hops.iter().filter(|hop| hop.point == Point::FibLookup).map(|hop| hop.time_ns).collect()
}

#[test]
fn a_syn_follows_the_questions_of_its_connect() {
    let mut kernel = kernel();
    kernel.flow_in(SOURCE, 6, "127.0.0.1:0", SERVER, 0);
    let questions = [OPEN, SOURCE, EXACT].map(|flow| [kernel.ask(flow, LOCAL), kernel.ask(flow, MAIN)]);
    let questions = questions.concat();
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), questions);
    // They are answered: the next one has none.
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE);
}

#[test]
fn all_tables_that_a_connect_asks_are_shown() {
    let mut kernel = kernel();
    kernel.flow_in(SOURCE, 6, "127.0.0.1:0", SERVER, 0);
    let questions =
        [OPEN, SOURCE, EXACT].map(|flow| [LOCAL, 100, 101, MAIN].map(|table| kernel.ask(flow, table)));
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), questions.concat());
}

#[test]
fn a_question_that_leaves_all_open_is_not_enough() {
    let mut kernel = kernel();
    kernel.ask(OPEN, LOCAL);
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE);
}

#[test]
fn an_answer_without_socket_follows_its_question() {
    for flags in [SYN | ACK, RST | ACK] {
        let mut kernel = kernel();
        let question = kernel.ask(EXACT, LOCAL);
        kernel.send_from_device(0, control(0xa0, flags));
        kernel.receive(0, control(0xa0, flags));
        let path = kernel.path();
        assert_eq!((path.start_ns(), hops(&path)[0]), (question, "fib_lookup"));
    }
}

/// A connection's route is looked up when it is accepted, and no packet follows that.
#[test]
fn a_reset_takes_no_question_from_before_another_packet() {
    for other in [data(0xb0, 1, 10).on(BACK), control(0xb0, ACK).on(BACK)] {
        let mut kernel = Kernel::new(by_tracepoints());
        kernel.flow_in(EXACT, 6, CLIENT, SERVER, 0);
        kernel.ask(EXACT, LOCAL);
        kernel.send_from_device(0, other);
        kernel.receive(0, other);
        kernel.send_from_device(0, control(0xa0, RST | ACK));
        kernel.receive(0, control(0xa0, RST | ACK));
        let paths = kernel.finish();
        let reset = paths.iter().find(|path| path.tcp.is_some_and(|tcp| tcp.flags == RST | ACK)).unwrap();
        assert_eq!(hops(reset)[0], "dev_queue_xmit");
    }
}

#[test]
fn questions_of_others_are_never_taken() {
    type Ask = fn(&mut Kernel);
    let cases: [(&str, Ask); 4] = [
        ("another flow", |kernel| {
            kernel.flow(13, CLIENT, "127.0.0.1:9999");
            kernel.ask(13, LOCAL);
        }),
        ("the other direction", |kernel| {
            kernel.ask(BACK, LOCAL);
        }),
        ("another protocol", |kernel| {
            kernel.flow_in(13, 17, CLIENT, SERVER, 0);
            kernel.ask(13, LOCAL);
        }),
        ("another thread", |kernel| {
            kernel.route(RouteRecord { tid: 9999, ..route_record(EXACT, LOCAL, 0) });
        }),
    ];
    for (whose, ask) in cases {
        let mut kernel = kernel();
        ask(&mut kernel);
        assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE, "{whose}");
    }
}

#[test]
fn the_idle_tasks_of_two_cpus_are_two_threads() {
    let mut kernel = kernel();
    kernel.route(RouteRecord { tid: 0, cpu: 1, ..route_record(EXACT, LOCAL, 0) });
    let skb = control(0xa0, RST);
    for point in [Point::DevQueueXmit, Point::LoopbackXmit, Point::EnqueueToBacklog] {
        kernel.hop(HopRecord { tid: 0, ..super::kernel::seen(point, 0, 0, skb) });
    }
    kernel.receive(0, skb);
    assert!(!hops(&kernel.path()).contains(&"fib_lookup"));
}

#[test]
fn old_questions_are_never_taken() {
    let mut kernel = kernel();
    kernel.ask(OPEN, LOCAL);
    kernel.now_ns += 200_000_000;
    let exact = kernel.ask(EXACT, LOCAL);
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), [exact]);

    // The SYN that followed this one was never seen; this one is sent again after a second.
    kernel.ask(EXACT, LOCAL);
    kernel.now_ns += 1_000_000_000;
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE);
}

#[test]
fn an_attempt_that_came_to_nothing_leaves_no_question() {
    let mut kernel = kernel();
    kernel.ask(OPEN, LOCAL);
    kernel.ask(OPEN, LOCAL);
    let questions = [kernel.ask(OPEN, LOCAL), kernel.ask(EXACT, LOCAL)];
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), questions);
}

#[test]
fn an_established_connection_has_asked_before() {
    // The records of the SYN were lost, so its questions wait for it.
    for skb in [data(0xa0, 1000, 10), control(0xa0, ACK)] {
        let mut kernel = kernel();
        kernel.ask(EXACT, LOCAL);
        assert_eq!(asked(&mut kernel, skb), NONE, "{skb:?}");
    }
    // Whoever accepts a connection asks for its route, and sends nothing.
    let mut kernel = kernel();
    kernel.ask(EXACT, LOCAL);
    let skb = control(0xa0, ACK);
    kernel.send_from_device(0, skb);
    kernel.receive(0, skb);
    assert_eq!(hops(&kernel.path())[0], "dev_queue_xmit");

    let mut kernel = Kernel::new(by_tracepoints());
    kernel.flow_in(EXACT, 6, CLIENT, SERVER, 0);
    kernel.ask(EXACT, LOCAL);
    assert_eq!(asked(&mut kernel, data(0xa0, 1000, 10)), NONE);
}

#[test]
fn a_route_that_is_no_longer_valid_is_asked_for_on_the_way() {
    let mut kernel = kernel();
    let skb = data(0xa0, 1000, 10);
    kernel.at(Point::IpQueueXmit, 0, skb);
    kernel.ask(EXACT, LOCAL);
    kernel.send_from_device(0, skb);
    kernel.receive(0, skb);
    kernel.read(1, 1010);
    assert_eq!(hops(&kernel.path())[..3], ["ip_queue_xmit", "fib_lookup", "dev_queue_xmit"]);
}

#[test]
fn a_softirq_may_send_and_ask_between_question_and_syn() {
    let mut kernel = kernel();
    let questions = [kernel.ask(OPEN, LOCAL), kernel.ask(EXACT, LOCAL)];
    // Received packets of other connections are routed in the same thread, and answered.
    kernel.flow_in(13, 0, "127.0.0.1:0", "127.0.0.1:0", 0);
    for _ in 0..20 {
        kernel.ask(13, LOCAL);
    }
    kernel.flow(14, "127.0.0.1:7000", "127.0.0.1:7001");
    kernel.at(Point::DevQueueXmit, 0, control(0xb0, RST).on(14));
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), questions);
}

#[test]
fn questions_leave_room_for_the_way() {
    let mut kernel = kernel();
    for table in 0..8 {
        kernel.ask(EXACT, table);
    }
    let skb = control(0xa0, SYN);
    kernel.at(Point::IpQueueXmit, 0, skb);
    for table in 0..8 {
        kernel.ask(EXACT, table);
    }
    kernel.send_from_device(0, skb);
    kernel.poll(0);
    kernel.receive(0, skb);
    let path = kernel.path();
    assert_eq!(path.hops.iter().filter(|hop| hop.point == Point::FibLookup).count(), 12);
    assert_eq!((path.hops.len(), path.incomplete), (12 + 7, None));
}

#[test]
fn a_question_asked_later_is_not_taken() {
    let mut kernel = kernel();
    let ahead = route_record(EXACT, LOCAL, kernel.now_ns + 5000);
    kernel.correlator.record(&crate::decode::Record::Route(ahead));
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE);
}

#[test]
fn other_namespaces_have_the_same_addresses() {
    // A question does not say its namespace, but its thread is in one.
    let mut kernel = kernel();
    kernel.flow_in(5, 6, CLIENT, SERVER, NETNS + 1);
    let question = kernel.ask(EXACT, LOCAL);
    let skb = control(0xa0, SYN).on(5);
    assert_eq!(asked(&mut kernel, skb), [question]);
}

#[test]
fn a_connect_whose_exact_question_was_lost_keeps_its_others() {
    let mut kernel = kernel();
    kernel.ask(OPEN, LOCAL);
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), NONE);
    kernel.flow(3, "127.0.0.1:51235", SERVER);
    let exact = kernel.ask(3, LOCAL);
    assert_eq!(asked(&mut kernel, control(0xa0, SYN).on(3)), [exact]);
}

#[test]
fn a_softirq_does_not_take_the_questions_of_the_connect_that_it_interrupts() {
    let mut kernel = kernel();
    let open = kernel.ask(OPEN, LOCAL);
    // Another connection to the same server is reset.
    kernel.flow(3, "127.0.0.1:51235", SERVER);
    let question = kernel.ask(3, LOCAL);
    let reset = control(0xb0, RST).on(3);
    kernel.send_from_device(0, reset);
    kernel.receive(0, reset);
    let path = kernel.path();
    assert_eq!(
        (hops(&path)[..2].to_vec(), path.start_ns()),
        (vec!["fib_lookup", "dev_queue_xmit"], question)
    );
    let exact = kernel.ask(EXACT, LOCAL);
    assert_eq!(asked(&mut kernel, control(0xa0, SYN)), [open, exact]);
}

#[test]
fn a_path_shows_what_the_tables_have_answered() {
    let mut kernel = kernel();
    kernel.device(ETH0, NETNS, "eth0");
    kernel.flow_in(EXACT, 6, CLIENT, SERVER, NETNS);
    let mut source = [0; 16];
    source[..4].copy_from_slice(&[10, 0, 0, 1]);
    let first = kernel.route(RouteRecord { error: -11, ifindex: 0, ..route_record(EXACT, LOCAL, 0) });
    let second =
        kernel.route(RouteRecord { route_type: 1, ifindex: ETH0, source, ..route_record(EXACT, MAIN, 0) });
    kernel.transfer(control(0xa0, SYN));
    let path = kernel.path();
    let Routing::Asked(routes) = &path.routing else { panic!("{:?}", path.routing) };
    assert_eq!(
        routes.iter().map(|route| (route.time_ns, route.table)).collect::<Vec<_>>(),
        [(first, LOCAL), (second, MAIN)]
    );
    assert_eq!((routes[0].error, &routes[0].device, routes[0].source), (-11, &None, None));
    assert_eq!(routes[1].device.as_ref().unwrap().to_string(), "eth0");
    assert_eq!((routes[1].route_type, routes[1].source.unwrap().to_string()), (1, "10.0.0.1".into()));
    let hop = path.hops.iter().find(|hop| hop.time_ns == second).unwrap();
    assert_eq!((hop.aux, path.route_at(hop)), (MAIN, Some(&routes[1])));
}

#[test]
fn a_route_is_cached_only_where_nobody_can_have_asked_unseen() {
    let routing = |coverage, from: &[Point], skb: Skb| {
        let mut kernel = Kernel::new(coverage);
        for point in from {
            kernel.at(*point, 0, skb);
        }
        kernel.finish().remove(0).routing
    };
    let sent = [Point::IpQueueXmit, Point::DevQueueXmit, Point::LoopbackXmit];
    let skb = data(0xa0, 1000, 10);
    assert_eq!(routing(by_kprobes(), &sent, skb), Routing::Cached);
    assert_eq!(
        routing(by_kprobes(), &sent[..1], skb),
        Routing::Unknown,
        "it has not come to the device layer"
    );
    assert_eq!(routing(by_kprobes(), &sent[1..], skb), Routing::Unknown, "it may have asked before");
    assert_eq!(routing(by_tracepoints(), &sent[1..], skb), Routing::Unknown);
    assert_eq!(routing(without(&[Point::FibLookup]), &sent, skb), Routing::Unknown, "nobody looks");
    assert_eq!(routing(without(&[Point::Fib6Lookup]), &sent, skb), Routing::Cached);
    assert_eq!(routing(by_kprobes(), &sent, control(0xa0, SYN)), Routing::Unknown, "whoever connects asks");
    let received = [Point::NetifReceiveSkb, Point::TcpV4Rcv];
    assert_eq!(routing(by_kprobes(), &received, skb.over(ETH0)), Routing::Unknown);

    // A SYN that is sent again uses the route of the first one.
    let mut kernel = kernel();
    kernel.ask(EXACT, LOCAL);
    kernel.transfer(control(0xa0, SYN));
    assert!(matches!(kernel.path().routing, Routing::Asked(_)));
    kernel.transfer(control(0xa0, SYN));
    assert_eq!(kernel.path().routing, Routing::Cached);

    // With its call, over IPv6.
    let mut kernel = Kernel::new(without(&[Point::FibLookup]));
    kernel.flow(3, "[::1]:51234", "[::1]:8888");
    kernel.hop(HopRecord { flow: 3, seq: 1000, len: 10, ..empty(Point::TcpSendmsg, 0) });
    kernel.at(Point::Ip6Xmit, 0, skb.on(3));
    kernel.at(Point::DevQueueXmit, 0, skb.on(3));
    assert_eq!(kernel.finish()[0].routing, Routing::Cached);
}

#[test]
fn a_datagram_asks_in_its_call_or_not_at_all() {
    let mut kernel = kernel();
    kernel.flow_in(7, 17, CLIENT, SERVER, NETNS);
    let call = HopRecord { sk: 0x51, len: 32, ..empty(Point::UdpSendmsg, 0) };
    let skb = super::kernel::datagram(0xa0, 7, 32);
    let sent = HopRecord { sk: 0x51, ..super::kernel::seen(Point::DevQueueXmit, 0, 0, skb) };
    kernel.hop(call);
    let asked = kernel.ask(7, LOCAL);
    kernel.hop(sent);
    let path = kernel.finish().remove(0);
    assert_eq!(hops(&path), ["udp_sendmsg", "fib_lookup", "dev_queue_xmit"]);
    assert!(matches!(&path.routing, Routing::Asked(routes) if routes[0].time_ns == asked));
    // On a connected socket.
    kernel.hop(HopRecord { marks: MARK_TO_PEER, ..call });
    kernel.hop(sent);
    assert_eq!(kernel.finish()[0].routing, Routing::Cached);
    // To another place its socket keeps no route: the answer was lost.
    kernel.hop(call);
    kernel.hop(sent);
    assert_eq!(kernel.finish()[0].routing, Routing::Unknown);
    // Without its call nobody knows.
    kernel.hop(sent);
    assert_eq!(kernel.finish()[0].routing, Routing::Unknown);
}

#[test]
fn a_datagram_of_a_socket_without_address_asks_before_it_has_one() {
    let mut kernel = kernel();
    kernel.flow_in(7, 17, CLIENT, SERVER, NETNS);
    kernel.flow_in(8, 17, "0.0.0.0:51234", SERVER, NETNS);
    let skb = super::kernel::datagram(0xa0, 7, 32);
    let sent = HopRecord { sk: 0x51, ..super::kernel::seen(Point::DevQueueXmit, 0, 0, skb) };
    // Before its call somebody else's datagram was asked for in the same words, and came to nothing.
    kernel.ask(8, MAIN);
    kernel.hop(HopRecord { sk: 0x51, len: 32, ..empty(Point::UdpSendmsg, 0) });
    let asked = [kernel.ask(8, LOCAL), kernel.ask(8, MAIN)];
    kernel.hop(sent);
    let path = kernel.finish().remove(0);
    assert_eq!(hops(&path), ["udp_sendmsg", "fib_lookup", "fib_lookup", "dev_queue_xmit"]);
    let Routing::Asked(routes) = &path.routing else { panic!("{:?}", path.routing) };
    assert_eq!(routes.iter().map(|route| route.time_ns).collect::<Vec<_>>(), asked);
    // Whose question it is nobody knows where the call was not seen.
    kernel.ask(8, LOCAL);
    kernel.hop(sent);
    let path = kernel.finish().remove(0);
    assert_eq!((hops(&path), path.routing), (vec!["dev_queue_xmit"], Routing::Unknown));
}
