//! Packets whose ports a rule changes between their socket and the device: they leave on one flow, and are received on another.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use serde_json::Value;

use crate::{
    namespaces::Namespace,
    support::{Said, Sniffer, Trace, backends, hops},
};

const ROUNDS: usize = 10;

/// Bytes of a question and of its answer.
const QUESTION: usize = 100;
const ANSWER: usize = 60;

/// Nobody else is in the namespace.
const PORTS: [u16; 2] = [7401, 7402];

/// A namespace in which what is sent to one port comes to another one.
struct Redirected {
    namespace: Namespace,
    asked: SocketAddr,
    serving: SocketAddr,
}

impl Redirected {
    /// `None` if this kernel cannot.
    fn new() -> Option<Self> {
        let [asked, serving] = PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let namespace = Namespace::new();
        namespace.redirect(asked.port(), serving.port()).then_some(Self { namespace, asked, serving })
    }

    fn trace(&self, backend: &str, args: &[String]) -> Trace {
        let netns = ["--netns".to_owned(), self.namespace.inode().to_string()];
        Trace::start(backend, &[&netns, args].concat())
    }

    /// From where to where the path goes: what passes the device is a question behind the rule, or an answer behind that which makes the
    /// client take it for one of the port that it has asked. Says whether it is a question.
    fn is_question(&self, path: &Value, client: SocketAddr) -> bool {
        let ends = (path["flow"]["src"].as_str().unwrap(), path["flow"]["dst"].as_str().unwrap());
        let [asked, serving, client] = [self.asked, self.serving, client].map(|end| end.to_string());
        let is_question = ends == (&client, &serving);
        assert!(is_question || ends == (&asked, &client), "{path}");
        is_question
    }
}

/// Whether a packet was seen at the device, by its path.
fn passes_device(path: &Value) -> bool {
    hops(path).contains(&"loopback_xmit")
}

/// Each message has been read before the next one is sent.
fn assert_apart(said: &Said) {
    let ns = |path: &Value, key: &str| path[key].as_u64().unwrap();
    let messages: Vec<&Value> = said.messages().into_iter().filter(|path| path["complete"] == true).collect();
    for (before, after) in messages.iter().zip(messages.iter().skip(1)) {
        assert!(ns(before, "time_ns") + ns(before, "total_ns") <= ns(after, "time_ns"), "{before}\n{after}");
    }
}

/// The connection that the client has opened, and the one that the server has accepted, are two flows. What the device passes is on the
/// second one; what the client calls, and the network layer sees, on the first. Neither gets a hop of the other.
#[test]
fn a_connection_that_is_redirected_is_shown_as_the_device_passes_it() {
    for backend in backends() {
        let Some(redirected) = Redirected::new() else { return };
        let (asked, serving) = (redirected.asked.port(), redirected.serving.port());
        for ports in [&[asked][..], &[serving], &[asked, serving]] {
            let args = ports.iter().flat_map(|port| ["--port".to_owned(), port.to_string()]);
            let trace = redirected.trace(&backend, &args.collect::<Vec<_>>());
            let (client, sniffers) = redirected.namespace.run(|| {
                let sniffers: Vec<_> = ports.iter().map(|port| Sniffer::start(*port)).collect();
                let listener = TcpListener::bind(redirected.serving).unwrap();
                let mut client = TcpStream::connect(redirected.asked).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                let address = client.local_addr().unwrap();
                for _ in 0..ROUNDS {
                    client.write_all(&[1; QUESTION]).unwrap();
                    server.read_exact(&mut [0; QUESTION]).unwrap();
                    server.write_all(&[2; ANSWER]).unwrap();
                    client.read_exact(&mut [0; ANSWER]).unwrap();
                }
                drop((client, server));
                (address, sniffers)
            });
            let said = trace.stop();
            let sniffed: usize = sniffers.into_iter().map(Sniffer::stop).sum();
            let passed: Vec<&Value> = said.paths.iter().filter(|path| passes_device(path)).collect();
            assert_eq!(passed.len(), sniffed, "{backend} {ports:?}: {}", said.summary);
            assert_apart(&said);
            let mut messages = [0; 2];
            for path in passed {
                let is_question = redirected.is_question(path, client);
                let bytes = if is_question { QUESTION } else { ANSWER };
                let len = path["len"].as_u64().unwrap();
                assert!(len == 0 || len == bytes as u64, "{path}");
                messages[usize::from(is_question)] += usize::from(len > 0);
                assert!(!hops(path).contains(&"tcp_sendmsg"), "the call is on another flow: {path}");
            }
            let expected = [asked, serving].map(|port| if ports.contains(&port) { ROUNDS } else { 0 });
            assert_eq!(messages, expected, "{backend} {ports:?}");
            // Who watches the network layer knows that something is missing.
            if said.dark().contains(&"ip_queue_xmit") {
                said.assert_whole();
                assert!(said.paths.iter().all(passes_device), "{:#?}", said.paths);
            } else {
                let mut whole = said.data().filter(|path| path["complete"] == true);
                assert_eq!(whole.next(), None, "{backend} {ports:?}");
            }
        }
    }
}

/// The call of a datagram is that of the thread which hands it to the device, whatever a rule has made of its ports.
#[test]
fn a_datagram_that_is_redirected_has_its_call() {
    for backend in backends() {
        let Some(redirected) = Redirected::new() else { return };
        let trace = redirected.trace(&backend, &["--proto".into(), "udp".into()]);
        let client = redirected.namespace.run(|| {
            let server = UdpSocket::bind(redirected.serving).unwrap();
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            client.connect(redirected.asked).unwrap();
            for _ in 0..ROUNDS {
                client.send(&[1; QUESTION]).unwrap();
                let (_, from) = server.recv_from(&mut [0; QUESTION]).unwrap();
                server.send_to(&[2; ANSWER], from).unwrap();
                assert_eq!(client.recv(&mut [0; ANSWER]).unwrap(), ANSWER);
            }
            client.local_addr().unwrap()
        });
        let said = trace.stop();
        said.assert_whole();
        assert_apart(&said);
        let lengths: Vec<usize> = said
            .messages()
            .into_iter()
            .map(|path| if redirected.is_question(path, client) { QUESTION } else { ANSWER })
            .collect();
        assert_eq!(lengths, [QUESTION, ANSWER].repeat(ROUNDS), "{backend}");
        for path in said.messages() {
            assert!(passes_device(path) && hops(path).contains(&"udp_sendmsg"), "{path}");
            assert_eq!(path["sender"]["pid"], std::process::id(), "{path}");
        }
    }
}
