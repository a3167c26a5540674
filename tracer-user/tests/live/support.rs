//! Running pathtrace, making traffic, counting packets by other means.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use serde_json::Value;

/// Longer than anything takes on an emulated machine; only a hang takes longer.
const HANG: Duration = Duration::from_secs(60);

/// Paths of a run that may be incomplete where programs were skipped: on an emulated machine a kprobe's handler takes so long
/// that a softirq now and then interrupts it, and passes all other kprobes unseen.
const EXCUSED: usize = 2;

/// Hops that a packet passes or not as it happens: the poll may have been running already when it was queued, and a reader
/// that is not asleep need not be woken.
const BY_CHANCE: [&str; 4] = ["process_backlog", "sock_def_readable", "sched_waking", "sched_switch"];

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

/// The first of them, for what does not depend on how a point is attached: an emulated machine takes long.
pub(crate) fn one_backend() -> Option<String> {
    backends().into_iter().next()
}

/// The running kernel's version.
pub(crate) fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// pathtrace, about to be started.
pub(crate) fn pathtrace() -> Command {
    let program = env::var_os("PATHTRACE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_pathtrace").into());
    Command::new(program)
}

/// For a folder whose programs every user may run.
pub(crate) fn open_to_all() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o755)
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
    /// Nothing was lost and no path is incomplete, or hardly any where the kernel has skipped programs, or does not say.
    pub(crate) fn assert_whole(&self) {
        let Self { summary, stderr, .. } = self;
        assert!(self.status.success(), "{:?}\n{stderr}", self.status);
        assert_eq!(summary["lost"], 0, "{summary}\n{stderr}");
        assert_eq!(summary["malformed"], 0, "{summary}");
        let excused = if summary["missed"] == 0 { 0 } else { EXCUSED };
        let mut incomplete = self.paths.iter().filter(|path| path["complete"] != true).skip(excused);
        if let Some(path) = incomplete.next() {
            panic!("{path}\n{summary}\n{stderr}");
        }
        assert!(summary["paths"]["incomplete"].as_u64() <= Some(excused as u64), "{summary}");
    }

    /// The [messages](Self::messages) with their numbers, but for those that [`assert_whole`](Self::assert_whole) has excused.
    pub(crate) fn whole_messages(&self) -> impl Iterator<Item = (usize, &Value)> {
        let is_whole = |path: &Value| self.summary["missed"] == 0 || path["complete"] == true;
        self.messages().into_iter().enumerate().filter(move |(_, message)| is_whole(message))
    }

    /// Whether the kernel may have skipped a program where two CPUs are busy: a kprobe within the handler of another one, in
    /// an interrupt. A path may be incomplete then; that none is wrong is seen by the reason that it gives.
    pub(crate) fn may_have_missed(&self) -> bool {
        if self.summary["missed"] == 0 {
            return false;
        }
        assert_eq!(self.summary["lost"], 0, "{}", self.summary);
        for path in self.paths.iter().filter(|path| path["complete"] != true) {
            assert!(path["incomplete_reason"].is_string(), "{path}");
        }
        self.paths.iter().any(|path| path["complete"] != true)
    }

    /// Hops that nothing shows in this run.
    pub(crate) fn dark(&self) -> Vec<&str> {
        let list = self.summary["unattached"].as_array().unwrap();
        list.iter().map(|point| point["hop"].as_str().unwrap()).collect()
    }

    /// The path has exactly these hops, as far as this run shows them: beside those that depend on the moment.
    pub(crate) fn assert_way(&self, path: &Value, way: &[&str]) {
        let dark = self.dark();
        let expected: Vec<&str> = way.iter().copied().filter(|hop| !dark.contains(hop)).collect();
        let seen: Vec<&str> = hops(path).into_iter().filter(|hop| !BY_CHANCE.contains(hop)).collect();
        assert_eq!(seen, expected, "{path}");
    }

    /// The messages: paths with data that were sent to be read, in the order in which they were sent.
    pub(crate) fn messages(&self) -> Vec<&Value> {
        let mut messages: Vec<&Value> = self.data().filter(|path| path["icmp"].is_null()).collect();
        messages.sort_by_key(|path| path["id"].as_u64());
        messages
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
    let server = thread::spawn(move || listener.accept().unwrap().0);
    let client = TcpStream::connect(at).unwrap();
    let server = server.join().unwrap();
    server.set_nodelay(true).unwrap();
    client.set_nodelay(true).unwrap();
    round_trips(client, server, rounds, size);
}

/// Sends `rounds` messages of `size` bytes from one end of a connection to the other, which sends each back; closes both.
pub(crate) fn round_trips<S: Read + Write + Send + 'static>(
    mut client: S,
    mut server: S,
    rounds: usize,
    size: usize,
) {
    let echo = thread::spawn(move || {
        let mut buffer = vec![0; size];
        while server.read_exact(&mut buffer).is_ok() {
            server.write_all(&buffer).unwrap();
        }
    });
    let mut buffer = vec![7; size];
    for _ in 0..rounds {
        client.write_all(&buffer).unwrap();
        client.read_exact(&mut buffer).unwrap();
    }
    drop(client);
    echo.join().unwrap();
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

/// Counts TCP packets on a device as tcpdump does: with a packet socket. The kernel does the counting, so that no packet is
/// missed however many there are.
pub(crate) struct Sniffer(OwnedFd);

impl Sniffer {
    /// IPv4 packets of a port on the loopback device. That shows each packet twice, outgoing and incoming; incoming ones
    /// are counted.
    pub(crate) fn start(port: u16) -> Self {
        use libc::{
            BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_LD, BPF_LDX, BPF_MSH,
            BPF_RET,
        };
        let sniffer = Self::on(
            1,
            &mut [
                // IPv4, TCP; then either port.
                step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
                step(BPF_ALU | BPF_AND, 0xf0, 0, 0),
                step(BPF_JMP | BPF_JEQ, 0x40, 0, 8),
                step(BPF_LD | BPF_B | BPF_ABS, 9, 0, 0),
                step(BPF_JMP | BPF_JEQ, 6, 0, 6),
                step(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
                step(BPF_LD | BPF_H | BPF_IND, 0, 0, 0),
                step(BPF_JMP | BPF_JEQ, port.into(), 2, 0),
                step(BPF_LD | BPF_H | BPF_IND, 2, 0, 0),
                step(BPF_JMP | BPF_JEQ, port.into(), 0, 1),
                step(BPF_RET, 1, 0, 0),
                step(BPF_RET, 0, 0, 0),
            ],
        );
        sniffer.only_incoming();
        sniffer
    }

    /// All packets, IPv4 and IPv6, on a device of this thread's namespace, outgoing and incoming.
    pub(crate) fn of_device(index: u32) -> Self {
        use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_LD, BPF_RET};
        Self::on(
            index,
            &mut [
                step(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0),
                step(BPF_ALU | BPF_AND, 0xf0, 0, 0),
                step(BPF_JMP | BPF_JEQ, 0x40, 0, 2),
                step(BPF_LD | BPF_B | BPF_ABS, 9, 0, 0),
                step(BPF_JMP | BPF_JEQ, 6, 3, 4),
                step(BPF_JMP | BPF_JEQ, 0x60, 0, 3),
                step(BPF_LD | BPF_B | BPF_ABS, 6, 0, 0),
                step(BPF_JMP | BPF_JEQ, 6, 0, 1),
                step(BPF_RET, 1, 0, 0),
                step(BPF_RET, 0, 0, 0),
            ],
        )
    }

    /// Outgoing packets are not counted.
    pub(crate) fn only_incoming(&self) {
        set_option(&self.0, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32);
    }

    fn on(index: u32, steps: &mut [libc::sock_filter]) -> Self {
        // SAFETY: no memory is involved.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0) };
        assert!(socket >= 0, "packet socket: {}", std::io::Error::last_os_error());
        // SAFETY: `socket` is a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let program =
            libc::sock_fprog { len: u16::try_from(steps.len()).unwrap(), filter: steps.as_mut_ptr() };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program);
        // SAFETY: `sockaddr_ll` is plain data, and zeroes are a value of it.
        let mut at: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        at.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        at.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        at.sll_ifindex = i32::try_from(index).unwrap();
        // SAFETY: the pointer and the length describe `at`, which lives through the call.
        let result = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const at).cast(), u32::try_from(size_of_val(&at)).unwrap())
        };
        assert_eq!(result, 0, "packet socket: {}", std::io::Error::last_os_error());
        Self(socket)
    }

    /// How many packets there were.
    pub(crate) fn stop(self) -> usize {
        // `struct tpacket_stats`: all that passed the filter, and those of them that had no room.
        let mut counts = [0u32; 2];
        let mut len = u32::try_from(size_of_val(&counts)).unwrap();
        // SAFETY: the pointers describe variables that live through the call.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        assert_eq!(result, 0, "PACKET_STATISTICS: {}", std::io::Error::last_os_error());
        counts[0] as usize
    }
}

/// A step of a packet filter.
fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k }
}

/// Sets an option of a socket.
pub(crate) fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) {
    // SAFETY: the pointer and the length describe `value`, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            u32::try_from(size_of::<T>()).unwrap(),
        )
    };
    assert_eq!(result, 0, "option {name} of level {level}: {}", std::io::Error::last_os_error());
}
