//! Running pathtrace, making traffic, counting packets by other means.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use serde_json::Value;

/// Longer than anything takes on an emulated machine; only a hang takes longer.
const HANG: Duration = Duration::from_secs(60);

/// The backends to test; none if live tests were not asked for.
pub(crate) fn backends() -> Vec<String> {
    if env::var_os("PATHTRACE_LIVE").is_none() {
        eprintln!("skipped: needs PATHTRACE_LIVE=1 and root");
        return Vec::new();
    }
    env::var("PATHTRACE_TEST_BACKENDS")
        .unwrap_or_else(|_| "auto".into())
        .split(',')
        .map(str::to_owned)
        .collect()
}

/// pathtrace, about to be started.
pub(crate) fn pathtrace() -> Command {
    let program = env::var_os("PATHTRACE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_pathtrace").into());
    Command::new(program)
}

/// Identifiers of the programs in the kernel that bear our names.
pub(crate) fn our_programs() -> BTreeSet<u32> {
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| {
            let name = String::from_utf8_lossy(program.name()).into_owned();
            ["fentry_", "kprobe_", "tracepoint_"].iter().any(|start| name.starts_with(start))
        })
        .map(|program| program.id())
        .collect()
}

/// Waits for something that must come.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < HANG, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running trace.
pub(crate) struct Trace {
    child: Child,
    folder: tempfile::TempDir,
}

/// What a trace said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: std::process::ExitStatus,
    pub(crate) paths: Vec<Value>,
    pub(crate) summary: Value,
    pub(crate) stderr: String,
}

impl Trace {
    /// Starts pathtrace with JSON output and waits until it says that it is ready.
    pub(crate) fn start<S: AsRef<OsStr>>(backend: &str, args: &[S]) -> Self {
        Self::start_as(&["--json", "--backend", backend], args)
    }

    /// Starts pathtrace with these arguments and waits until it says that it is ready.
    pub(crate) fn start_as<S: AsRef<OsStr>>(form: &[&str], args: &[S]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let create = |name| fs::File::create(folder.path().join(name)).unwrap();
        let mut child = pathtrace()
            .args(form)
            .arg("--ready-file")
            .arg(&ready)
            .args(args)
            .stdin(Stdio::null())
            .stdout(create("stdout"))
            .stderr(create("stderr"))
            .spawn()
            .unwrap();
        wait_until("pathtrace is ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(folder.path().join("stderr")).unwrap();
                panic!("pathtrace ended with {status} before it was ready:\n{said}");
            }
            ready.exists()
        });
        Self { child, folder }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: no memory is involved; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Said {
        self.signal(libc::SIGINT);
        self.end()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Said {
        let mut status = None;
        wait_until("pathtrace ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let stderr = fs::read_to_string(self.file("stderr")).unwrap();
        let stdout = fs::read_to_string(self.file("stdout")).unwrap();
        let mut paths: Vec<Value> =
            stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let summary = if paths.last().is_some_and(|last| last["kind"] == "summary") {
            paths.pop().unwrap()
        } else {
            Value::Null
        };
        Said { status: status.unwrap(), paths, summary, stderr }
    }
}

/// A test that fails must not leave a tracer behind.
impl Drop for Trace {
    fn drop(&mut self) {
        // Nothing to kill or to wait for where `end` has waited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// Nothing was lost and no path is incomplete.
    pub(crate) fn assert_whole(&self) {
        let Self { summary, stderr, .. } = self;
        assert!(self.status.success(), "{:?}\n{stderr}", self.status);
        assert_eq!(summary["lost"], 0, "{summary}\n{stderr}");
        assert_eq!(summary["malformed"], 0, "{summary}");
        for path in &self.paths {
            assert_eq!(path["complete"], true, "{path}\n{stderr}");
        }
        assert_eq!(summary["paths"]["incomplete"], 0, "{summary}");
    }

    /// The paths with data.
    pub(crate) fn data(&self) -> impl Iterator<Item = &Value> {
        self.paths.iter().filter(|path| path["len"].as_u64() > Some(0))
    }

    /// The path whose TCP flags are these, sent to this port.
    pub(crate) fn with_flags(&self, flags: &str, to: SocketAddr) -> Vec<&Value> {
        let to = to.to_string();
        self.paths
            .iter()
            .filter(|path| path["tcp"]["flags"] == flags && path["flow"]["dst"] == to.as_str())
            .collect()
    }
}

/// The names of a path's hops.
pub(crate) fn hops(path: &Value) -> Vec<&str> {
    path["hops"].as_array().unwrap().iter().map(|hop| hop["hop"].as_str().unwrap()).collect()
}

/// A port that nobody uses on any address.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// Sends `rounds` messages of `size` bytes over one connection to an echo server on `at`, and closes it.
pub(crate) fn ping_pong(at: SocketAddr, rounds: usize, size: usize) {
    let listener = TcpListener::bind(at).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; size];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer).unwrap();
        }
    });
    let mut client = TcpStream::connect(at).unwrap();
    client.set_nodelay(true).unwrap();
    let mut buffer = vec![7; size];
    for _ in 0..rounds {
        client.write_all(&buffer).unwrap();
        client.read_exact(&mut buffer).unwrap();
    }
    drop(client);
    server.join().unwrap();
}

/// Sends `bytes` over one connection in writes of `size`, to a server on `at` that reads them all.
pub(crate) fn stream(at: SocketAddr, bytes: usize, size: usize) {
    let listener = TcpListener::bind(at).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(std::io::copy(&mut stream, &mut std::io::sink()).unwrap(), bytes as u64);
    });
    let mut client = TcpStream::connect(at).unwrap();
    for _ in 0..bytes / size {
        client.write_all(&vec![7; size]).unwrap();
    }
    drop(client);
    server.join().unwrap();
}

/// Counts the TCP packets of a port on the loopback device as tcpdump does: with a packet socket.
pub(crate) struct Sniffer {
    socket: OwnedFd,
    port: u16,
}

impl Sniffer {
    pub(crate) fn start(port: u16) -> Self {
        let protocol = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap().to_be());
        // SAFETY: no memory is involved.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, protocol) };
        assert!(socket >= 0, "packet socket: {}", std::io::Error::last_os_error());
        // SAFETY: `socket` is a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let room: libc::c_int = 64 << 20;
        // SAFETY: the pointer and the length describe `room`, which lives through the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const room).cast(),
                u32::try_from(size_of_val(&room)).unwrap(),
            )
        };
        assert_eq!(result, 0, "SO_RCVBUFFORCE: {}", std::io::Error::last_os_error());
        Self { socket, port }
    }

    /// How many packets there were. The loopback device shows each packet twice, outgoing and incoming.
    pub(crate) fn stop(self) -> usize {
        let mut count = 0;
        let mut packet = [0u8; 128];
        loop {
            // SAFETY: `sockaddr_ll` is plain data, and zeroes are a value of it.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut from_len = u32::try_from(size_of_val(&from)).unwrap();
            // SAFETY: both pointers and lengths describe variables that live through the call.
            let len = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    packet.as_mut_ptr().cast(),
                    packet.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            if len < 0 {
                return count;
            }
            let incoming = from.sll_pkttype != libc::PACKET_OUTGOING && from.sll_ifindex == 1;
            let is_tcp = packet[0] >> 4 == 4 && packet[9] == 6;
            let header = usize::from(packet[0] & 0xf) * 4;
            let port = |at: usize| u16::from_be_bytes([packet[header + at], packet[header + at + 1]]);
            count += usize::from(incoming && is_tcp && (port(0) == self.port || port(2) == self.port));
        }
    }
}
