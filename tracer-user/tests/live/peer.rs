//! A process of its own at the other end, so that it is seen whose process identifier is shown.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::support::wait_until;

/// Bytes of each message.
pub(crate) const SIZE: usize = 100;

/// The name that the other process gives itself.
pub(crate) const NAME: &str = "pt-echo";

/// What the other process is told to do: a task, and where.
const TASK: &str = "PATHTRACE_TEST_TASK";

/// Created by the other process when it can be talked to.
const READY: &str = "PATHTRACE_TEST_READY";

/// A kind of socket, and where the server's is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    UnixStream(PathBuf),
    UnixDatagram(PathBuf),
}

/// Another process. It is ended with this value.
pub(crate) struct Peer {
    child: Child,
    folder: tempfile::TempDir,
}

impl Peer {
    /// One that sends back whatever comes to `place`, to one client.
    pub(crate) fn echo(place: &Place) -> Self {
        let peer = Self::start(&format!("echo {}", place.text()));
        wait_until("the other process is ready", || peer.folder.path().join("ready").exists());
        peer
    }

    /// One that reads what comes to a port of TCP, and answers nothing, until the first client ends.
    pub(crate) fn sink(at: SocketAddr) -> Self {
        let peer = Self::start(&format!("sink {}", Place::Tcp(at).text()));
        wait_until("the other process is ready", || peer.folder.path().join("ready").exists());
        peer
    }

    /// One that does `rounds` of question and answer with itself at `place`, when it is told to go.
    pub(crate) fn alone(place: &Place, rounds: usize) -> Self {
        let peer = Self::start(&format!("alone {} {rounds}", place.text()));
        wait_until("the other process is ready", || peer.folder.path().join("ready").exists());
        peer
    }

    fn start(task: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "peer::no_test_but_the_other_process", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .env(READY, folder.path().join("ready"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it begin, and waits for its end.
    pub(crate) fn go(&mut self) {
        drop(self.child.stdin.take());
        wait_until("the other process ends", || {
            self.child.try_wait().unwrap().is_some_and(|status| {
                assert!(status.success(), "the other process: {status}");
                true
            })
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    fn text(&self) -> String {
        match self {
            Self::Tcp(at) => format!("tcp {at}"),
            Self::Udp(at) => format!("udp {at}"),
            Self::UnixStream(at) => format!("unix-stream {}", at.display()),
            Self::UnixDatagram(at) => format!("unix-datagram {}", at.display()),
        }
    }

    fn from_text(kind: &str, at: &str) -> Self {
        match kind {
            "tcp" => Self::Tcp(at.parse().unwrap()),
            "udp" => Self::Udp(at.parse().unwrap()),
            "unix-stream" => Self::UnixStream(at.into()),
            _ => Self::UnixDatagram(at.into()),
        }
    }

    /// Says `rounds` messages to the server there, and gets as many answers.
    pub(crate) fn ask(&self, rounds: usize) {
        let message = [7; SIZE];
        match self {
            Self::Tcp(at) => {
                let mut stream = TcpStream::connect(at).unwrap();
                stream.set_nodelay(true).unwrap();
                for _ in 0..rounds {
                    stream.write_all(&message).unwrap();
                    stream.read_exact(&mut [0; SIZE]).unwrap();
                }
            }
            Self::Udp(at) => {
                let socket = UdpSocket::bind((at.ip(), 0)).unwrap();
                socket.connect(at).unwrap();
                for _ in 0..rounds {
                    socket.send(&message).unwrap();
                    assert_eq!(socket.recv(&mut [0; SIZE]).unwrap(), SIZE);
                }
            }
            Self::UnixStream(at) => {
                let mut stream = UnixStream::connect(at).unwrap();
                for _ in 0..rounds {
                    stream.write_all(&message).unwrap();
                    stream.read_exact(&mut [0; SIZE]).unwrap();
                }
            }
            Self::UnixDatagram(at) => {
                let mut own = at.clone().into_os_string();
                own.push(".client");
                let socket = UnixDatagram::bind(&own).unwrap();
                socket.connect(at).unwrap();
                for _ in 0..rounds {
                    socket.send(&message).unwrap();
                    assert_eq!(socket.recv(&mut [0; SIZE]).unwrap(), SIZE);
                }
                fs::remove_file(own).unwrap();
            }
        }
    }

    /// Answers one client; says when it can be talked to.
    fn answer(&self, is_ready: impl FnOnce()) {
        let mut message = [0; SIZE];
        match self {
            Self::Tcp(at) => {
                let listener = TcpListener::bind(at).unwrap();
                is_ready();
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                while stream.read_exact(&mut message).is_ok() {
                    stream.write_all(&message).unwrap();
                }
            }
            Self::Udp(at) => {
                let socket = UdpSocket::bind(at).unwrap();
                is_ready();
                loop {
                    let (len, from) = socket.recv_from(&mut message).unwrap();
                    socket.send_to(&message[..len], from).unwrap();
                }
            }
            Self::UnixStream(at) => {
                let listener = UnixListener::bind(at).unwrap();
                is_ready();
                let (mut stream, _) = listener.accept().unwrap();
                while stream.read_exact(&mut message).is_ok() {
                    stream.write_all(&message).unwrap();
                }
            }
            Self::UnixDatagram(at) => {
                let socket = UnixDatagram::bind(at).unwrap();
                is_ready();
                loop {
                    let (len, from) = socket.recv_from(&mut message).unwrap();
                    socket.send_to(&message[..len], from.as_pathname().unwrap()).unwrap();
                }
            }
        }
    }
}

#[test]
fn no_test_but_the_other_process() {
    let Ok(task) = env::var(TASK) else { return };
    fs::write("/proc/self/comm", NAME).unwrap();
    let is_ready = || fs::write(env::var_os(READY).unwrap(), "").unwrap();
    let words: Vec<&str> = task.split(' ').collect();
    let place = Place::from_text(words[1], words[2]);
    match (words[0], &place) {
        ("echo", place) => return place.answer(is_ready),
        ("sink", Place::Tcp(at)) => {
            let listener = TcpListener::bind(at).unwrap();
            is_ready();
            io::copy(&mut listener.accept().unwrap().0, &mut io::sink()).unwrap();
            return;
        }
        _ => {}
    }
    is_ready();
    // Until the other end is closed.
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let (says, bound) = std::sync::mpsc::channel();
    let other = place.clone();
    // Ends with the process.
    std::thread::spawn(move || other.answer(|| says.send(()).unwrap()));
    bound.recv().unwrap();
    place.ask(words[3].parse().unwrap());
}
