//! What the kernel throws away, and what is sent again for that.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use serde_json::Value;

use crate::{
    namespaces::{CLIENT_DEVICE, Network, SERVER},
    support::{Said, Trace, free_port, hops, one_backend, set_option, wait_until},
};

/// How often the kernel has sent a segment of a connection again.
fn retransmissions(of: &TcpStream) -> u32 {
    // SAFETY: `tcp_info` is plain data, and zeroes are a value of it.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = u32::try_from(size_of_val(&info)).unwrap();
    // SAFETY: the pointers describe variables that live through the call.
    let result = unsafe {
        libc::getsockopt(
            of.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "TCP_INFO: {}", std::io::Error::last_os_error());
    info.tcpi_total_retrans
}

fn dropped(said: &Said) -> Vec<&Value> {
    said.paths.iter().filter(|path| path["dropped"].is_object()).collect()
}

/// Kernels before 5.17 give no reason.
fn assert_reason(path: &Value, reasons: &[&str]) {
    if !path["dropped"]["reason_number"].is_null() {
        assert!(reasons.contains(&path["dropped"]["reason"].as_str().unwrap()), "{path}");
    }
    assert_eq!(hops(path).last(), Some(&"kfree_skb"), "{path}");
}

#[test]
fn a_full_socket_drops_what_does_not_fit() {
    const SENT: usize = 200;
    if let Some(backend) = one_backend() {
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        set_option(&receiver, libc::SOL_SOCKET, libc::SO_RCVBUF, &4096i32);
        receiver.set_nonblocking(true).unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let trace = Trace::start(&backend, &["--port", &to.port().to_string()]);
        for _ in 0..SENT {
            sender.send_to(&[1; 100], to).unwrap();
        }
        let mut read = 0;
        while receiver.recv(&mut [0; 100]).is_ok() {
            read += 1;
        }
        let said = trace.stop();
        said.assert_whole();
        assert!(read > 0 && read < SENT, "{read}");
        assert_eq!(said.paths.len(), SENT);
        let dropped = dropped(&said);
        assert_eq!(dropped.len(), SENT - read, "{}", said.summary);
        for path in dropped {
            assert_reason(path, &["SOCKET_RCVBUFF", "PROTO_MEM", "UDP_RCVBUF"]);
            assert!(path["receiver"].is_null(), "{path}");
        }
        let received = said.paths.iter().filter(|path| hops(path).last() == Some(&"udp_recvmsg")).count();
        assert_eq!(received, read, "{:#?}", said.paths);
    }
}

#[test]
fn a_full_queue_drops_what_does_not_fit() {
    const SENT: usize = 60;
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        // Room for a few datagrams of 1000 bytes.
        if !network.limit_rate(100_000, 2000, 8000) {
            return;
        }
        let receiver = network.server.run(|| UdpSocket::bind((SERVER, 0)).unwrap());
        let to = receiver.local_addr().unwrap();
        let sender = network.client.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        // Else the sender waits for its datagrams to leave, or the queue is never full.
        set_option(&sender, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(1i32 << 20));
        let trace = Trace::start(&backend, &["--port", &to.port().to_string(), "--proto", "udp"]);
        let mut sent = 0;
        for _ in 0..SENT {
            // ENOBUFS is how the kernel says that the queue is full.
            sent += usize::from(sender.send_to(&[1; 1000], to).is_ok());
        }
        // The rest comes through at its pace.
        sender.send_to(&[2; 10], to).unwrap();
        let mut read = 0;
        while receiver.recv(&mut [0; 1000]).unwrap() != 10 {
            read += 1;
        }
        let said = trace.stop();
        said.assert_whole();
        assert!(read > 0 && read < SENT && sent >= read, "{read} of {sent}");
        let dropped = dropped(&said);
        assert_eq!(dropped.len(), SENT - read, "{:#?}", said.paths);
        for path in dropped {
            assert_reason(path, &["QDISC_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "FULL_RING"]);
            assert_eq!(path["device"], CLIENT_DEVICE, "{path}");
            assert!(!hops(path).contains(&"dev_hard_start_xmit"), "{path}");
        }
        let received = said.paths.iter().filter(|path| hops(path).last() == Some(&"udp_recvmsg")).count();
        assert_eq!(received, read + 1, "{:#?}", said.paths);
    }
}

/// A packet that is sent by a timer was seen to pass tracepoints whose programs did not run, about one in three hundred, with
/// nothing that counts it, and for two tracers at once. So what is not whole is tried again.
#[test]
fn what_is_sent_again_is_marked() {
    if let Some(backend) = one_backend() {
        let Some(network) = Network::direct() else { return };
        let whole = (0..3).find_map(|_| {
            let (said, again) = send_again(&backend, &network);
            let is_whole = said.messages().iter().all(|path| !hops(path)[0].starts_with("netif_receive"))
                && of_len(&said, 200).len() == 1 + again as usize;
            is_whole.then_some(said)
        });
        let said = whole.expect("a run that shows each packet that was sent");
        said.assert_whole();
        for len in [100, 50] {
            let [once] = of_len(&said, len)[..] else { panic!("{len} bytes once: {:#?}", said.paths) };
            assert_eq!(once["retransmitted"], false, "{once}");
        }
        let sent = of_len(&said, 200);
        let (first, rest) = sent.split_first().unwrap();
        assert_eq!(first["retransmitted"], false, "{first}");
        assert!(rest.iter().all(|path| path["retransmitted"] == true), "{sent:#?}");
        assert!(rest.iter().all(|path| path["tcp"]["seq"] == first["tcp"]["seq"]), "{sent:#?}");
        // The last one is read, those before it are dropped where they arrive.
        let (last, lost) = sent.split_last().unwrap();
        assert_eq!(hops(last).last(), Some(&"tcp_recvmsg"), "{sent:#?}");
        assert!(last["dropped"].is_null(), "{last}");
        for path in lost {
            assert!(path["dropped"].is_object(), "{path}");
            assert!(hops(path).contains(&"netif_receive_skb"), "{path}");
        }
    }
}

/// Traces a connection whose second message is lost at first. Also returns how often the kernel has sent something again.
fn send_again(backend: &str, network: &Network) -> (Said, u32) {
    let port = free_port();
    let trace = Trace::start(backend, &["--port", &port.to_string()]);
    let (mut client, mut server) = network.connect(port);
    client.write_all(&[1; 100]).unwrap();
    server.read_exact(&mut [0; 100]).unwrap();
    // What comes meanwhile is for nobody.
    network.serve(false);
    client.write_all(&[1; 200]).unwrap();
    wait_until("the kernel sends it again", || retransmissions(&client) > 0);
    network.serve(true);
    server.read_exact(&mut [0; 200]).unwrap();
    server.write_all(&[1; 50]).unwrap();
    client.read_exact(&mut [0; 50]).unwrap();
    let again = retransmissions(&client);
    drop((client, server));
    (trace.stop(), again)
}

fn of_len(said: &Said, len: u64) -> Vec<&Value> {
    said.messages().into_iter().filter(|path| path["len"] == len).collect()
}
