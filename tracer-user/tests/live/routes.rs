//! Where packets go, and who was asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use serde_json::Value;

use crate::{
    namespaces::{CLIENT_DEVICE, Network, SERVER, SERVER_V6},
    support::{Trace, free_port, one_backend, ping_pong},
};

/// The hops that are routing questions.
fn questions(path: &Value) -> Vec<&Value> {
    let hops = path["hops"].as_array().unwrap();
    hops.iter().filter(|hop| hop["hop"].as_str().unwrap().ends_with("_lookup")).collect()
}

#[test]
fn connect_asks_for_the_way_to_this_machine() {
    asks_for_the_way_to(Ipv4Addr::LOCALHOST.into(), "fib_lookup");
}

#[test]
fn connect_asks_for_the_way_to_this_machine_over_ipv6() {
    asks_for_the_way_to(Ipv6Addr::LOCALHOST.into(), "fib6_lookup");
}

fn asks_for_the_way_to(address: IpAddr, question: &str) {
    if let Some(backend) = one_backend() {
        let port = free_port();
        let at = SocketAddr::new(address, port);
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        ping_pong(at, 10, 10);
        let said = trace.stop();
        said.assert_whole();
        let [syn] = said.with_flags("S", at)[..] else { panic!("one SYN: {:#?}", said.paths) };
        let asked = questions(syn);
        assert!(!asked.is_empty() && syn["route"] == "asked", "{syn}");
        for answer in asked {
            assert_eq!(answer["hop"], question, "{syn}");
            assert_eq!(answer["error"], 0, "{syn}");
            assert_eq!(answer["out"], "lo", "{syn}");
            // The local table answers, or the main one where routing rules are such that both are one.
            assert!(matches!(answer["table"].as_u64(), Some(254 | 255)), "{syn}");
            assert_eq!(answer["route_type"], "local", "{syn}");
            // The answer of an IPv4 table says which address the kernel would send from.
            if address.is_ipv4() {
                assert_eq!(answer["source"], "127.0.0.1", "{syn}");
            }
        }
        for path in said.data() {
            assert_eq!(path["route"], "cached", "{path}");
            assert!(questions(path).is_empty(), "{path}");
        }
    }
}

/// Between them the process may do what it likes: that time is not the datagram's.
#[test]
fn what_connect_asked_is_not_on_the_way_of_the_first_datagram() {
    if let Some(backend) = one_backend() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let receiver = UdpSocket::bind((address, 0)).unwrap();
            let to = receiver.local_addr().unwrap();
            let sender = UdpSocket::bind((address, 0)).unwrap();
            let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
            sender.connect(to).unwrap();
            for _ in 0..3 {
                sender.send(&[1; 10]).unwrap();
                receiver.recv(&mut [0; 10]).unwrap();
            }
            let said = trace.stop();
            said.assert_whole();
            assert_eq!(said.messages().len(), 3, "{:#?}", said.paths);
            for path in said.messages() {
                assert!(questions(path).is_empty() && path["route"] == "cached", "{path}");
            }
        }
    }
}

/// A socket that is bound to no address has one only after the answer: the question leaves it open.
#[test]
fn each_datagram_of_a_socket_without_address_asks_for_its_route() {
    if let Some(backend) = one_backend() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let receiver = UdpSocket::bind((address, 0)).unwrap();
            let to = receiver.local_addr().unwrap();
            let any: IpAddr = match address {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let sender = UdpSocket::bind((any, 0)).unwrap();
            let trace = Trace::start(&backend, &["--dport", &to.port().to_string()]);
            for _ in 0..3 {
                sender.send_to(&[1; 10], to).unwrap();
                receiver.recv(&mut [0; 10]).unwrap();
            }
            let said = trace.stop();
            said.assert_whole();
            assert_eq!(said.messages().len(), 3, "{:#?}", said.paths);
            for path in said.messages() {
                assert!(!questions(path).is_empty() && path["route"] == "asked", "{path}");
                assert!(questions(path).iter().all(|answer| answer["out"] == "lo"), "{path}");
            }
        }
    }
}

#[test]
fn a_route_to_another_machine_names_the_device_and_the_source() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let port = free_port();
        let trace = Trace::start(&backend, &["--port", &port.to_string()]);
        drop(network.connect(port));
        let said = trace.stop();
        said.assert_whole();
        let [syn] = said.with_flags("S", (SERVER, port).into())[..] else { panic!("{:#?}", said.paths) };
        let asked = questions(syn);
        // The local table, where there is one apart, knows nothing of it; the main table does.
        let answer = asked.iter().find(|answer| answer["table"] == 254).unwrap_or_else(|| panic!("{syn}"));
        assert_eq!((&answer["route_type"], &answer["error"]), (&"unicast".into(), &0.into()), "{syn}");
        assert_eq!(answer["out"], CLIENT_DEVICE, "{syn}");
        assert_eq!(answer["source"], "192.0.2.1", "{syn}");
        for answer in asked.iter().filter(|answer| answer["table"] == 255) {
            assert!(answer["error"].as_i64() < Some(0) && answer["out"].is_null(), "{syn}");
        }
    }
}

/// `fib6_table_lookup()` answers with an entry that stands for no route, whose type and device mean nothing.
#[test]
fn a_table_of_ipv6_without_a_route_says_so() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let receiver = network.server.run(|| UdpSocket::bind((SERVER_V6, 0)).unwrap());
        let to = receiver.local_addr().unwrap();
        let sender = network.client.run(|| UdpSocket::bind(("::", 0)).unwrap());
        let trace = Trace::start(&backend, &["--dport", &to.port().to_string()]);
        sender.send_to(&[1; 10], to).unwrap();
        receiver.recv(&mut [0; 10]).unwrap();
        let said = trace.stop();
        said.assert_whole();
        let [path] = said.messages()[..] else { panic!("{:#?}", said.paths) };
        let (mut misses, mut hits) = (0, 0);
        for answer in questions(path) {
            if answer["table"] == 254 {
                hits += 1;
                assert_eq!(
                    (&answer["route_type"], &answer["error"]),
                    (&"unicast".into(), &0.into()),
                    "{path}"
                );
                assert_eq!(answer["out"], CLIENT_DEVICE, "{path}");
            } else {
                misses += 1;
                assert!(answer["route_type"].is_null() && answer["out"].is_null(), "{path}");
                assert_eq!(answer["error"], -libc::ENETUNREACH, "{path}");
            }
        }
        // Without policy routing there is but one table.
        assert!(misses <= 1 && hits == 1, "{path}");
    }
}

/// An answer without a device does not say in which namespace it was asked.
#[test]
fn a_table_without_a_route_is_shown_in_its_namespace_only() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        if !network.keep_tables_apart() {
            return;
        }
        let port = free_port();
        for (inode, expected) in [(network.client.inode(), true), (network.server.inode(), false)] {
            let args = ["--port", &port.to_string(), "--netns", &inode.to_string()];
            let trace = Trace::start(&backend, &args);
            drop(network.connect(port));
            let said = trace.stop();
            assert_eq!(said.summary["lost"], 0, "{}", said.summary);
            let syns = said.with_flags("S", (SERVER, port).into());
            let asked: Vec<&Value> = syns.iter().flat_map(|syn| questions(syn)).collect();
            let misses =
                asked.iter().filter(|answer| answer["table"] == 255 && answer["out"].is_null()).count();
            assert_eq!(misses > 0, expected, "{:#?}", said.paths);
        }
    }
}
