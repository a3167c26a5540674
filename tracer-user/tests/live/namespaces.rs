//! Network namespaces of a test's own. They have no name: the kernel removes each, and all devices in it, when the last
//! descriptor is closed, however the test ends.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    thread,
    time::Duration,
};

use crate::{netlink, nftables, support::wait_until};

/// A network namespace with its loopback device up.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            // SAFETY: no memory is involved; only this thread, which ends here, moves.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "{}", io::Error::last_os_error());
            netlink::set_up("lo").unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Its number, as `--netns` takes it and JSON shows it.
    pub(crate) fn inode(&self) -> u64 {
        self.0.metadata().unwrap().ino()
    }

    /// Runs something in it. Sockets that are made there stay there.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            // SAFETY: no memory is involved; only this thread, which ends behind `what`, moves.
            let moved = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "{}", io::Error::last_os_error());
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Redirects what is sent in it to one port to another one; says whether this kernel can.
    pub(crate) fn redirect(&self, from: u16, to: u16) -> bool {
        made("translation of addresses by nftables", self.run(|| nftables::redirect(from, to)))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Loads a module, if this is a virtual machine that has it as a file; elsewhere it is built in, or loaded by the kernel
/// when a device is made.
fn load(module: &str) {
    let file = Path::new("/modules").join(format!("{module}.ko"));
    let Ok(bytes) = fs::read(&file) else { return };
    // SAFETY: the pointers and the length describe memory that lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_init_module, bytes.as_ptr(), bytes.len(), c"".as_ptr()) };
    if result != 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "load {}: {error}", file.display());
    }
}

/// Whether the network could be made; says it loudly if this kernel cannot.
fn made(what: &str, result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        // What the kernel says of a kind of device, of a discipline, or of netlink's, that it does not know.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT)
            ) =>
        {
            eprintln!("NOT TESTED: this kernel has no {what} ({error})");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Two namespaces with addresses in one network.
pub(crate) struct Network {
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    /// Between them, if they are not joined directly.
    pub(crate) bridge: Option<Namespace>,
}

/// The addresses; documentation's, so that no other network has them.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
pub(crate) const CLIENT_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(crate) const SERVER_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
/// The devices at the ends.
pub(crate) const CLIENT_DEVICE: &str = "to-server";
pub(crate) const SERVER_DEVICE: &str = "to-client";

impl Network {
    /// Joined by a veth pair; `None` if this kernel has no such devices.
    pub(crate) fn direct() -> Option<Self> {
        load("veth");
        let (client, server) = (Namespace::new(), Namespace::new());
        let joined = client.run(|| netlink::add_veth(CLIENT_DEVICE, SERVER_DEVICE, server.as_fd()));
        let network = made("veth", joined).then_some(Self { client, server, bridge: None })?;
        network.give_addresses();
        Some(network)
    }

    /// Joined by a veth pair each to a third namespace with a bridge.
    pub(crate) fn bridged() -> Option<Self> {
        for module in ["veth", "llc", "stp", "bridge"] {
            load(module);
        }
        let (client, server, bridge) = (Namespace::new(), Namespace::new(), Namespace::new());
        let joined = client.run(|| netlink::add_veth(CLIENT_DEVICE, "port-client", bridge.as_fd()));
        if !made("veth", joined) || !made("bridge", bridge.run(|| netlink::add_bridge("bridge"))) {
            return None;
        }
        server.run(|| netlink::add_veth(SERVER_DEVICE, "port-server", bridge.as_fd())).unwrap();
        bridge.run(|| {
            for port in ["port-client", "port-server"] {
                netlink::put_on_bridge(port, "bridge").unwrap();
                netlink::set_up(port).unwrap();
            }
            netlink::set_up("bridge").unwrap();
        });
        let network = Self { client, server, bridge: Some(bridge) };
        network.give_addresses();
        Some(network)
    }

    /// Lets the client's device send no faster than this; says whether this kernel can.
    pub(crate) fn limit_rate(&self, bytes_per_s: u32, burst_bytes: u32, queue_bytes: u32) -> bool {
        load("sch_tbf");
        let limit = || netlink::limit_rate(CLIENT_DEVICE, bytes_per_s, burst_bytes, queue_bytes);
        made("tbf", self.client.run(limit))
    }

    /// Gives the client a routing rule, so that the kernel keeps its tables apart; says whether this kernel can.
    pub(crate) fn keep_tables_apart(&self) -> bool {
        /// `RT_TABLE_MAIN`.
        const MAIN: u8 = 254;
        made("routing rules", self.client.run(|| netlink::add_rule(MAIN)))
    }

    /// Takes the server its address, or gives it back.
    pub(crate) fn serve(&self, is_there: bool) {
        let change = if is_there { netlink::add_address } else { netlink::remove_address };
        self.server.run(|| change(SERVER_DEVICE, SERVER, 24)).unwrap();
    }

    /// Gives the ends their addresses, and waits until datagrams come through: devices need a moment to come up, and
    /// neighbours to be found.
    fn give_addresses(&self) {
        let ends = [
            (&self.client, CLIENT_DEVICE, CLIENT, CLIENT_V6),
            (&self.server, SERVER_DEVICE, SERVER, SERVER_V6),
        ];
        for (namespace, device, v4, v6) in ends {
            namespace.run(|| {
                netlink::set_up(device).unwrap();
                netlink::add_address(device, v4, 24).unwrap();
                netlink::add_address(device, v6, 64).unwrap();
            });
        }
        for (from, to) in [(CLIENT, SERVER), (CLIENT_V6, SERVER_V6)] {
            let server = self.server.run(|| UdpSocket::bind((to, 0)).unwrap());
            server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let client = self.client.run(|| UdpSocket::bind((from, 0)).unwrap());
            client.connect(server.local_addr().unwrap()).unwrap();
            wait_until("datagrams come through", || {
                client.send(b"?").is_ok() && server.recv(&mut [0]).is_ok()
            });
        }
    }

    /// A TCP connection: the client's end, the server's end.
    pub(crate) fn connect(&self, port: u16) -> (TcpStream, TcpStream) {
        let listener = self.server.run(|| TcpListener::bind((SERVER, port)).unwrap());
        let client = self.client.run(|| TcpStream::connect((SERVER, port)).unwrap());
        client.set_nodelay(true).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nodelay(true).unwrap();
        (client, server)
    }
}
