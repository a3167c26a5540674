//! Traffic to an address of a host stays on its loopback device, and pathtrace says so where it is so.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket},
    os::{fd::AsFd as _, fd::AsRawFd as _, unix::process::CommandExt as _},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    namespaces::{CLIENT, CLIENT_DEVICE, CLIENT_V6, Namespace, Network, SERVER, SERVER_DEVICE, SERVER_V6},
    netlink,
    support::{Sniffer, backends, one_backend, open_to_all, our_programs, pathtrace, wait_until},
};

/// More addresses of the client.
const MORE: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7)),
];

/// What `prove` said.
struct Said {
    status: Option<i32>,
    verdicts: Vec<Value>,
    summary: Value,
    stderr: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut verdicts: Vec<Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = verdicts.pop().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: output.status.code(), verdicts, summary, stderr }
    }

    fn on(&self, address: &str) -> &Value {
        let mut found = self.verdicts.iter().filter(|verdict| verdict["address"] == address);
        let verdict = found.next().unwrap_or_else(|| panic!("no verdict on {address}: {:#?}", self.verdicts));
        assert!(found.next().is_none(), "two verdicts on {address}");
        verdict
    }
}

/// A host's name stands for all its addresses.
#[test]
fn the_addresses_of_a_name_are_proven_each() {
    // Virtual machines may have no file of names.
    let Ok(addresses) = ("localhost", 0).to_socket_addrs() else { return };
    if let Some(backend) = one_backend() {
        let output =
            pathtrace().args(["prove", "--json", "--backend", &backend, "localhost"]).output().unwrap();
        let said = Said::of(&output);
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        for address in addresses {
            assert_eq!(said.on(&address.ip().to_string())["local"], true, "{address}");
        }
    }
}

/// `pathtrace prove` in a namespace of ours, which has no name.
fn prove_in(namespace: &Namespace, args: &[&str]) -> Command {
    let file = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    let mut command = pathtrace();
    command.args(["prove", "--netns", &file]).args(args).stdin(Stdio::null());
    command
}

fn prove(namespace: &Namespace, backend: &str, args: &[&str]) -> Said {
    let args = [&["--json", "--backend", backend], args].concat();
    Said::of(&prove_in(namespace, &args).output().unwrap())
}

/// The client's link-local address, as soon as the kernel lets it be used.
fn link_local(network: &Network) -> String {
    let index = network.client.run(|| netlink::index_of(CLIENT_DEVICE).unwrap());
    let mut found = None;
    wait_until("the link-local address can be used", || {
        // Address, index, length of the prefix, scope, flags, device; all but the last in hexadecimal.
        let list = network.client.run(|| fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap());
        let line = list.lines().find(|line| line.starts_with("fe80") && line.ends_with(CLIENT_DEVICE));
        let bits = line.and_then(|line| u128::from_str_radix(line.split(' ').next()?, 16).ok());
        found = bits.map(Ipv6Addr::from_bits);
        let can_be_used = |address| {
            let at = std::net::SocketAddrV6::new(address, 0, 0, index);
            network.client.run(|| UdpSocket::bind(at).is_ok())
        };
        found.is_some_and(can_be_used)
    });
    format!("{}%{CLIENT_DEVICE}", found.unwrap())
}

/// A verdict that it is local, with all that proves it.
fn assert_proven(verdict: &Value, set_on: &str) {
    assert_eq!((&verdict["verdict"], &verdict["local"]), (&"proven".into(), &true.into()), "{verdict:#}");
    assert_eq!(
        (&verdict["table"], &verdict["route_type"], &verdict["device"]),
        (&"local".into(), &"local".into(), &"lo".into()),
        "{verdict:#}"
    );
    assert_eq!((&verdict["entry_device"], &verdict["set_on"]["device"]), (&set_on.into(), &set_on.into()));
    let total = verdict["packets_total"].as_u64().unwrap();
    // SYN, SYN-ACK, ACK; messages and answers; two FINs and the last ACK.
    assert!(total >= 9, "{verdict:#}");
    // What was sent again after the client had gone is on top of what its socket counted.
    assert!((9..=total).contains(&verdict["segments"].as_u64().unwrap()), "{verdict:#}");
    for (device, packets) in verdict["packets"].as_object().unwrap() {
        assert_eq!(packets, &Value::from(if device == "lo" { total } else { 0 }), "{verdict:#}");
    }
    assert!(verdict["packets"][set_on].is_u64(), "{verdict:#}");
    assert!(verdict["counters"]["lo"]["sent"].as_u64() >= Some(total), "{verdict:#}");
    for lookup in verdict["lookups"].as_array().unwrap() {
        assert_eq!(lookup["route_type"], "local", "{verdict:#}");
        assert!(matches!(lookup["table"].as_u64(), Some(254 | 255)), "{verdict:#}");
    }
}

#[test]
fn every_address_of_a_host_is_proven_and_a_packet_socket_agrees() {
    for backend in backends() {
        let Some(network) = Network::direct() else { return };
        network.client.run(|| {
            for address in MORE {
                netlink::add_address(CLIENT_DEVICE, address, if address.is_ipv4() { 24 } else { 64 })
                    .unwrap();
            }
        });
        let link_local = link_local(&network);
        let (lo, card) = network.client.run(|| {
            let lo = Sniffer::of_device(1);
            lo.only_incoming();
            (lo, Sniffer::of_device(netlink::index_of(CLIENT_DEVICE).unwrap()))
        });
        let said = prove(&network.client, &backend, &[]);
        let on_lo = lo.stop();
        assert_eq!(said.status, Some(0), "{:#?}\n{}", said.verdicts, said.stderr);
        assert_proven(said.on("127.0.0.1"), "lo");
        assert_proven(said.on("::1"), "lo");
        for address in [CLIENT, CLIENT_V6].into_iter().chain(MORE) {
            assert_proven(said.on(&address.to_string()), CLIENT_DEVICE);
        }
        assert_proven(said.on(&link_local), CLIENT_DEVICE);
        assert_eq!(said.verdicts.len(), 8);
        let all: u64 = said.verdicts.iter().filter_map(|verdict| verdict["packets"]["lo"].as_u64()).sum();
        assert_eq!(usize::try_from(all).unwrap(), on_lo);
        assert_eq!(card.stop(), 0);
        assert_eq!((&said.summary["kind"], &said.summary["lost"]), (&"summary".into(), &0.into()));
        // Where the tracepoint is attached it has seen at least the question of `connect`.
        let dark = said.summary["unattached"].to_string();
        for (question, v4) in [("\"fib_lookup\"", true), ("\"fib6_lookup\"", false)] {
            for verdict in &said.verdicts {
                let is_v4 = !verdict["address"].as_str().unwrap().contains(':');
                if is_v4 == v4 && !dark.contains(question) {
                    assert!(!verdict["lookups"].as_array().unwrap().is_empty(), "{verdict:#}");
                }
            }
        }
    }
}

#[test]
fn the_other_end_is_not_local_and_nothing_is_sent_to_it() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let card = network.client.run(|| Sniffer::of_device(netlink::index_of(CLIENT_DEVICE).unwrap()));
        let (v4, v6) = (SERVER.to_string(), SERVER_V6.to_string());
        let said = prove(&network.client, &backend, &[&v4, &v6]);
        assert_eq!(said.status, Some(1), "{}", said.stderr);
        for address in [&v4, &v6] {
            let verdict = said.on(address);
            assert_eq!((&verdict["verdict"], &verdict["local"]), (&"not_local".into(), &false.into()));
            assert_eq!(verdict["device"], CLIENT_DEVICE, "{verdict:#}");
            assert_eq!(verdict["sentence"], format!("not local: leaves by {CLIENT_DEVICE}"));
            assert!(verdict["connection"].is_null() && verdict["packets"] == serde_json::json!({}));
        }
        assert_eq!(card.stop(), 0);
        assert_eq!(said.summary["events"], 0);
        // There it is the other way round.
        let there = prove(&network.server, &backend, &[&v4, &CLIENT.to_string()]);
        assert_eq!(there.status, Some(1));
        assert_proven(there.on(&v4), SERVER_DEVICE);
        assert_eq!(there.on(&CLIENT.to_string())["verdict"], "not_local");
    }
}

#[test]
fn an_address_of_a_device_that_is_down_is_judged_by_its_route() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        network.client.run(|| netlink::set_down(CLIENT_DEVICE).unwrap());
        let (v4, v6) = (CLIENT.to_string(), CLIENT_V6.to_string());
        let said = prove(&network.client, &backend, &[&v4, &v6]);
        // IPv4 keeps the address and its entry in the table; IPv6 takes both away.
        assert_proven(said.on(&v4), CLIENT_DEVICE);
        assert_eq!(said.on(&v4)["set_on"]["up"], false);
        assert_eq!(said.on(&v6)["verdict"], "not_local");
        assert_eq!(said.status, Some(1));
    }
}

#[test]
fn an_address_that_another_host_has_is_not_judged() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        network.client.run(|| netlink::add_address_with_care(CLIENT_DEVICE, SERVER_V6, 64).unwrap());
        let address = SERVER_V6.to_string();
        // First it is tentative, then the other host objects.
        wait_until("the address is found to be another host's", || {
            let said = prove(&network.client, &backend, &[&address]);
            assert_eq!(said.status, Some(2), "{:#?}", said.verdicts);
            let verdict = said.on(&address);
            assert_eq!((&verdict["verdict"], &verdict["local"]), (&"not_proven".into(), &Value::Null));
            assert_eq!(said.summary["events"], 0);
            verdict["set_on"]["state"] == "duplicate"
        });
    }
}

#[test]
fn a_connection_that_does_not_come_through_proves_nothing() {
    if let Some(backend) = one_backend() {
        let namespace = Namespace::new();
        namespace.run(|| netlink::set_down("lo").unwrap());
        let said = prove(&namespace, &backend, &["127.0.0.1"]);
        assert_eq!(said.status, Some(2), "{:#?}\n{}", said.verdicts, said.stderr);
        let verdict = said.on("127.0.0.1");
        assert_eq!((&verdict["verdict"], &verdict["route_type"]), (&"not_proven".into(), &"local".into()));
        assert!(verdict["connection"]["error"].is_string(), "{verdict:#}");
    }
}

#[test]
fn where_events_are_lost_nothing_is_proven() {
    if let Some(backend) = one_backend() {
        // Room for a part of what one connection writes.
        let args = ["prove", "--json", "--backend", &backend, "--buffer-size", "4K", "127.0.0.1"];
        let said = Said::of(&pathtrace().args(args).output().unwrap());
        assert!(said.summary["lost"].as_u64() > Some(0), "{}", said.summary);
        let verdict = said.on("127.0.0.1");
        assert_eq!((&verdict["verdict"], &verdict["local"]), (&"not_proven".into(), &Value::Null));
        assert!(verdict["sentence"].as_str().unwrap().contains("events lost: "), "{verdict:#}");
        assert_eq!(said.status, Some(2), "{verdict:#}");
    }
}

#[test]
fn people_are_told_the_same_in_words() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let args = ["--backend", &backend, "127.0.0.1", "192.0.2.1", "192.0.2.2"];
        let said = prove_in(&network.client, &args).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(1), "{text}");
        for sentence in [
            "\n127.0.0.1: proven local: table local, ".to_owned(),
            format!(" packets through lo, 0 on {CLIENT_DEVICE}\n"),
            format!("\n192.0.2.2: not local: leaves by {CLIENT_DEVICE}\n"),
            "asks table local before main".to_owned(),
            " 0 lost, ".to_owned(),
        ] {
            assert!(text.contains(&sentence), "{sentence:?} in {text}");
        }
        let args = [&["--quiet"], &args[..]].concat();
        let quiet = prove_in(&network.client, &args).output().unwrap();
        assert_eq!((quiet.stdout.split(|byte| *byte == b'\n').count(), quiet.stderr), (5, Vec::new()));
    }
}

#[test]
fn what_cannot_be_asked_is_an_error_by_name() {
    if one_backend().is_none() {
        return;
    }
    for (args, says) in [
        (["--netns", "no-such-namespace"], "/run/netns/no-such-namespace"),
        (["--netns", "1"], "no name and no process"),
        (["--quiet", "fe80::1%no-such-device"], "no device no-such-device"),
        (["--quiet", "10.0.0.0/8"], "an address is needed"),
        (["--quiet", "no-such-host.invalid"], "address no-such-host.invalid"),
    ] {
        let said = pathtrace().arg("prove").args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert_eq!((said.status.code(), said.stdout.is_empty()), (Some(2), true), "{args:?}: {stderr}");
        assert!(stderr.contains(says), "{args:?}: {stderr}");
    }
    let empty = Namespace::new();
    empty.run(|| netlink::remove_address("lo", Ipv4Addr::LOCALHOST.into(), 8).unwrap());
    empty.run(|| netlink::set_down("lo").unwrap());
    let said = prove_in(&empty, &[]).output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.code() == Some(2) && stderr.contains("has no address"), "{stderr}");
}

/// A route is no secret: only sending and tracing needs a privilege.
#[test]
fn without_privilege_the_route_alone_can_say_no() {
    if one_backend().is_none() {
        return;
    }
    let Some(network) = Network::direct() else { return };
    let folder = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let program = folder.path().join("pathtrace");
    fs::copy(pathtrace().get_program(), &program).unwrap();
    let run = |address: &str| {
        network
            .client
            .run(|| Command::new(&program).args(["prove", address]).uid(65534).gid(65534).output().unwrap())
    };
    let other = run("192.0.2.2");
    assert_eq!(other.status.code(), Some(1), "{}", String::from_utf8_lossy(&other.stderr));
    let own = run("192.0.2.1");
    let stderr = String::from_utf8_lossy(&own.stderr);
    assert!(own.status.code() == Some(2) && stderr.contains("CAP_BPF"), "{stderr}");
}

#[test]
fn nothing_stays_attached() {
    if let Some(backend) = one_backend() {
        let before = our_programs();
        let said = pathtrace().args(["prove", "127.0.0.1", "--backend", &backend]).output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
        // The kernel frees programs after a grace period of its own.
        wait_until("the programs are gone", || our_programs().is_subset(&before));
    }
}
