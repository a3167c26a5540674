//! Packets that pass devices other than the loopback device, from one network namespace into another.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
};

use serde_json::Value;

use crate::{
    namespaces::{CLIENT, CLIENT_DEVICE, Network, SERVER, SERVER_DEVICE, SERVER_V6},
    support::{Said, Trace, free_port, hops, one_backend},
};

const ROUNDS: usize = 20;

/// Question and answer over a connection.
fn talk((client, server): &mut (TcpStream, TcpStream)) {
    for _ in 0..ROUNDS {
        client.write_all(&[1; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        server.write_all(&[2; 60]).unwrap();
        client.read_exact(&mut [0; 60]).unwrap();
    }
}

/// Messages of this length, all there.
fn of_len(said: &Said, len: u64) -> Vec<&Value> {
    let found: Vec<&Value> =
        said.messages().into_iter().filter(|path| path["len"].as_u64() == Some(len)).collect();
    assert_eq!(found.len(), ROUNDS, "{:#?}", said.paths);
    found
}

/// The devices that the hops name, each with its namespace, in order.
fn devices(path: &Value) -> Vec<(&str, u64)> {
    let mut seen: Vec<(&str, u64)> = Vec::new();
    for hop in path["hops"].as_array().unwrap() {
        if let (Some(name), Some(netns)) = (hop["device"].as_str(), hop["netns"].as_u64())
            && seen.last() != Some(&(name, netns))
        {
            seen.push((name, netns));
        }
    }
    seen
}

#[test]
fn a_veth_pair_joins_two_namespaces() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        let mut ends = network.connect(port);
        talk(&mut ends);
        drop(ends);
        let said = trace.stop();
        said.assert_whole();
        let way = [
            "tcp_sendmsg",
            "ip_queue_xmit",
            "dev_queue_xmit",
            "dev_hard_start_xmit",
            "enqueue_to_backlog",
            "netif_receive_skb",
            "tcp_v4_rcv",
            "tcp_recvmsg",
        ];
        let (client, server) =
            ((CLIENT_DEVICE, network.client.inode()), (SERVER_DEVICE, network.server.inode()));
        for (len, from, to) in [(100, client, server), (60, server, client)] {
            for path in of_len(&said, len) {
                said.assert_way(path, &way);
                assert_eq!(devices(path), [from, to], "{path}");
                assert_eq!((&path["device"], &path["netns"]), (&from.0.into(), &from.1.into()), "{path}");
                for end in ["sender", "receiver"] {
                    assert_eq!(path[end]["pid"], std::process::id(), "{path}");
                }
            }
        }
    }
}

#[test]
fn datagrams_pass_a_veth_pair() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        for address in [SERVER, SERVER_V6] {
            let receiver = network.server.run(|| UdpSocket::bind((address, 0)).unwrap());
            let to = receiver.local_addr().unwrap();
            let sender = network.client.run(|| UdpSocket::bind(("::", 0)).unwrap());
            let trace = Trace::start(&backend, &["--dport", &to.port().to_string(), "--proto", "udp"]);
            // An IPv6 socket sends over IPv4 as well.
            let mapped = match to.ip() {
                std::net::IpAddr::V4(v4) => (v4.to_ipv6_mapped(), to.port()).into(),
                std::net::IpAddr::V6(_) => to,
            };
            for _ in 0..ROUNDS {
                sender.send_to(&[1; 100], mapped).unwrap();
                receiver.recv(&mut [0; 100]).unwrap();
            }
            let said = trace.stop();
            said.assert_whole();
            for path in of_len(&said, 100) {
                assert_eq!(path["flow"]["dst"], to.to_string(), "{path}");
                assert_eq!(hops(path).last(), Some(&"udp_recvmsg"), "{path}");
                assert!(hops(path).contains(&"dev_hard_start_xmit"), "{path}");
                for end in ["sender", "receiver"] {
                    assert_eq!(path[end]["pid"], std::process::id(), "{path}");
                }
            }
        }
    }
}

#[test]
fn a_bridge_lies_on_the_way_between_two_namespaces() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::bridged() else { return };
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        let mut ends = network.connect(port);
        talk(&mut ends);
        drop(ends);
        let said = trace.stop();
        said.assert_whole();
        let bridge = network.bridge.as_ref().unwrap().inode();
        let (client, server) =
            ((CLIENT_DEVICE, network.client.inode()), (SERVER_DEVICE, network.server.inode()));
        let (port_client, port_server) = (("port-client", bridge), ("port-server", bridge));
        for (len, from, to, way) in [
            (100, client, server, [port_client, port_server]),
            (60, server, client, [port_server, port_client]),
        ] {
            for path in of_len(&said, len) {
                assert_eq!(devices(path), [from, way[0], way[1], to], "{path}");
                let seen = hops(path);
                let count = |hop: &str| seen.iter().filter(|other| **other == hop).count();
                for hop in ["dev_queue_xmit", "dev_hard_start_xmit", "netif_receive_skb"] {
                    assert_eq!(count(hop), 2, "{hop}: {path}");
                }
                assert_eq!(count("tcp_recvmsg"), 1, "{path}");
            }
        }
    }
}

#[test]
fn a_queueing_discipline_takes_its_time() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        // Slow enough to make datagrams wait, and fast enough to be no bore; the queue holds them all.
        if !network.limit_rate(400_000, 3000, 1 << 20) {
            return;
        }
        let receiver = network.server.run(|| UdpSocket::bind((SERVER, 0)).unwrap());
        let to = receiver.local_addr().unwrap();
        let sender = network.client.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        for _ in 0..ROUNDS {
            sender.send_to(&[1; 1000], to).unwrap();
        }
        for _ in 0..ROUNDS {
            receiver.recv(&mut [0; 1000]).unwrap();
        }
        // The other way there is no queue.
        for _ in 0..ROUNDS {
            receiver.send_to(&[2; 60], (CLIENT, sender.local_addr().unwrap().port())).unwrap();
            sender.recv(&mut [0; 60]).unwrap();
        }
        let said = trace.stop();
        said.assert_whole();
        let at = |path: &Value, wanted: &str| {
            let hops = path["hops"].as_array().unwrap();
            hops.iter().find(|hop| hop["hop"] == wanted).map(|hop| hop["ns"].as_u64().unwrap())
        };
        let mut waited = 0;
        for path in of_len(&said, 1000) {
            let (handed, out) = (at(path, "dev_queue_xmit"), at(path, "dev_hard_start_xmit"));
            assert!(handed.is_some() && handed <= out, "{path}");
            // Kernels before 5.14 have no such tracepoint.
            if !said.dark().contains(&"qdisc_enqueue") {
                let taken = at(path, "qdisc_enqueue");
                assert!(handed <= taken && taken.is_some() && taken <= out, "{path}");
            }
            // Of several that the discipline hands out at once only the first is seen.
            if let Some(given) = at(path, "qdisc_dequeue") {
                assert!(handed <= Some(given) && Some(given) <= out, "{path}");
                waited += 1;
            }
        }
        assert!(waited > 0, "{:#?}", said.paths);
        for path in of_len(&said, 60) {
            assert!(!hops(path).iter().any(|hop| hop.starts_with("qdisc")), "{path}");
        }
    }
}

/// The discipline itself cuts packets that are larger than its bucket: each segment has the hops of the whole before it.
#[test]
fn a_queueing_discipline_cuts_what_is_too_large_for_it() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        if !network.limit_rate(10_000_000, 3000, 1 << 20) {
            return;
        }
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        let mut ends = network.connect(port);
        ends.0.write_all(&vec![1; 30_000]).unwrap();
        ends.1.read_exact(&mut vec![0; 30_000]).unwrap();
        drop(ends);
        let said = trace.stop();
        said.assert_whole();
        let segments: Vec<&Value> = said.data().collect();
        assert!(segments.len() > 1);
        let sum: u64 = segments.iter().map(|path| path["len"].as_u64().unwrap()).sum();
        assert_eq!(sum, 30_000, "{segments:#?}");
        for path in segments {
            assert_eq!(hops(path).first(), Some(&"tcp_sendmsg"), "{path}");
            assert!(hops(path).contains(&"dev_queue_xmit"), "{path}");
            assert_eq!(hops(path).last(), Some(&"tcp_recvmsg"), "{path}");
        }
    }
}

/// Seen from one side only, a packet that leaves through a device has come to its end there.
#[test]
fn what_leaves_the_namespace_that_is_traced_ends_at_its_device() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let namespace = network.client.inode().to_string();
        let trace = Trace::start(&backend, &["--port", &port.to_string(), "--netns", &namespace]);
        let mut ends = network.connect(port);
        talk(&mut ends);
        drop(ends);
        let said = trace.stop();
        said.assert_whole();
        for path in of_len(&said, 100) {
            assert_eq!(hops(path).last(), Some(&"dev_hard_start_xmit"), "{path}");
            assert_eq!(path["flow"]["src"].as_str().unwrap().split(':').next().unwrap(), CLIENT.to_string());
        }
        for path in of_len(&said, 60) {
            assert_eq!(hops(path).last(), Some(&"tcp_recvmsg"), "{path}");
            assert_eq!(devices(path), [(CLIENT_DEVICE, network.client.inode())], "{path}");
        }
    }
}
