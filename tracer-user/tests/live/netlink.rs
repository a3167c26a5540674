//! Devices, addresses and queueing disciplines by rtnetlink, as no tool for them is everywhere (busybox's `ip` cannot name
//! the other end of a veth pair, its `tc` knows no tbf).

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// `VETH_INFO_PEER`, `TCA_TBF_PARMS`.
const VETH_INFO_PEER: u16 = 1;
const TCA_TBF_PARMS: u16 = 1;
/// Time of `tc` is counted in units of 64 ns.
const TICK_NS: u64 = 64;

/// A request under construction.
pub(super) struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        Self::unanswered(kind, flags | libc::NLM_F_ACK)
    }

    /// One that is only answered if it fails.
    pub(super) fn unanswered(kind: u16, flags: i32) -> Self {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap();
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// `struct ifinfomsg`.
    fn link(self, index: u32, flags: i32) -> Self {
        let flags = flags.cast_unsigned();
        let words = [0, index, flags, flags];
        words.iter().fold(self, |this, word| this.bytes(&word.to_ne_bytes()))
    }

    pub(super) fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len() + 4).unwrap();
        self.bytes(&[len.to_ne_bytes(), kind.to_ne_bytes()].concat()).bytes(value)
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nested(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let at = self.0.len();
        self = inner(self.bytes(&[0, 0, 0, 0]));
        let len = u16::try_from(self.0.len() - at).unwrap();
        self.0[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
        self
    }

    /// What is sent.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }

    fn send(self) -> io::Result<()> {
        ask(libc::NETLINK_ROUTE, &self.finish())
    }
}

/// Sends requests in the network namespace of this thread, and waits for the first answer.
pub(super) fn ask(protocol: i32, requests: &[u8]) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `socket` is a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut answer = [0u8; 4096];
    // SAFETY: pointers and lengths describe `requests` and `answer`, which live through the calls.
    let got = unsafe {
        if libc::send(socket.as_raw_fd(), requests.as_ptr().cast(), requests.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    // `struct nlmsgerr` begins with the error, 0 or negative.
    let error = i32::from_ne_bytes(answer[HEADER..HEADER + 4].try_into().unwrap());
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) }
}

/// Makes a veth pair: one end in this thread's namespace, the other one in another.
pub(super) fn add_veth(name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let namespace = peer_namespace.as_raw_fd().to_ne_bytes();
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .link(0, 0)
        .text(libc::IFLA_IFNAME, name)
        .nested(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth").nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |other| {
                    other.link(0, 0).text(libc::IFLA_IFNAME, peer).attribute(libc::IFLA_NET_NS_FD, &namespace)
                })
            })
        })
        .send()
}

/// Makes a bridge.
pub(super) fn add_bridge(name: &str) -> io::Result<()> {
    Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .link(0, 0)
        .text(libc::IFLA_IFNAME, name)
        .nested(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "bridge"))
        .send()
}

/// Makes a device a port of a bridge.
pub(super) fn put_on_bridge(device: &str, bridge: &str) -> io::Result<()> {
    Request::new(libc::RTM_SETLINK, 0)
        .link(index_of(device)?, 0)
        .attribute(libc::IFLA_MASTER, &index_of(bridge)?.to_ne_bytes())
        .send()
}

/// Switches a device on.
pub(super) fn set_up(device: &str) -> io::Result<()> {
    Request::new(libc::RTM_SETLINK, 0).link(index_of(device)?, libc::IFF_UP).send()
}

/// Switches a device off.
pub(super) fn set_down(device: &str) -> io::Result<()> {
    /// The flag that is to change; `ifi_flags` has it cleared.
    const CHANGE: [u8; 4] = libc::IFF_UP.to_ne_bytes();
    // `struct ifinfomsg`.
    let words = [[0; 4], index_of(device)?.to_ne_bytes(), [0; 4], CHANGE];
    Request::new(libc::RTM_SETLINK, 0).bytes(&words.concat()).send()
}

/// Gives a device an address.
pub(super) fn add_address(device: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    /// No other machine can have the address: it need not be asked whether one has.
    const IFA_F_NODAD: u8 = 2;
    address_request(libc::RTM_NEWADDR, device, address, prefix, IFA_F_NODAD)
}

/// Gives a device an address, and lets the kernel find out whether another machine has it.
pub(super) fn add_address_with_care(device: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    address_request(libc::RTM_NEWADDR, device, address, prefix, 0)
}

/// Takes it away again.
pub(super) fn remove_address(device: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    address_request(libc::RTM_DELADDR, device, address, prefix, 0)
}

fn address_request(kind: u16, device: &str, address: IpAddr, prefix: u8, flags: u8) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    Request::new(kind, libc::NLM_F_CREATE)
        // `struct ifaddrmsg`.
        .bytes(&[u8::try_from(family).unwrap(), prefix, flags, 0])
        .bytes(&index_of(device)?.to_ne_bytes())
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
        .send()
}

/// Lets a device send no more than this: a token bucket with a queue.
pub(super) fn limit_rate(
    device: &str,
    bytes_per_s: u32,
    burst_bytes: u32,
    queue_bytes: u32,
) -> io::Result<()> {
    /// With it the kernel wants no table of sizes and times.
    const LINKLAYER_ETHERNET: u8 = 1;
    let no_rate = [0u8; 12];
    let rate = [&[0, LINKLAYER_ETHERNET, 0, 0, 0xff, 0xff, 0, 0], &bytes_per_s.to_ne_bytes()[..]].concat();
    let buffer = u64::from(burst_bytes) * 1_000_000_000 / u64::from(bytes_per_s) / TICK_NS;
    // `struct tc_tbf_qopt`: rate, peakrate, limit, buffer, mtu.
    let options = [
        &rate[..],
        &no_rate,
        &queue_bytes.to_ne_bytes(),
        &u32::try_from(buffer).unwrap().to_ne_bytes(),
        &0u32.to_ne_bytes(),
    ]
    .concat();
    Request::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)
        // `struct tcmsg`: family, index, handle, parent, info.
        .bytes(&[0; 4])
        .bytes(&index_of(device)?.to_ne_bytes())
        .bytes(&[0; 4])
        .bytes(&u32::MAX.to_ne_bytes())
        .bytes(&[0; 4])
        .text(libc::TCA_KIND, "tbf")
        .nested(libc::TCA_OPTIONS, |inner| inner.attribute(TCA_TBF_PARMS, &options))
        .send()
}

/// The index of a device of this thread's namespace.
pub(super) fn index_of(device: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: `name` ends with NUL and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Makes the largest packet that a device takes another one.
pub(super) fn set_mtu(device: &str, bytes: u32) -> io::Result<()> {
    Request::new(libc::RTM_SETLINK, 0)
        .link(index_of(device)?, 0)
        .attribute(libc::IFLA_MTU, &bytes.to_ne_bytes())
        .send()
}

/// Gives a device that is not switched on another name.
pub(super) fn rename(device: &str, name: &str) -> io::Result<()> {
    Request::new(libc::RTM_SETLINK, 0).link(index_of(device)?, 0).text(libc::IFLA_IFNAME, name).send()
}

/// Adds a routing rule for IPv4: ask this table of everything, behind the rules that are there.
pub(super) fn add_rule(table: u8) -> io::Result<()> {
    /// `FR_ACT_TO_TBL`.
    const TO_TABLE: u8 = 1;
    const FRA_PRIORITY: u16 = 6;
    const BEHIND: u32 = 40_000;
    let family = u8::try_from(libc::AF_INET).unwrap();
    Request::new(libc::RTM_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        // `struct fib_rule_hdr`: family, lengths, type of service, table, reserved, action, flags.
        .bytes(&[family, 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0])
        .attribute(FRA_PRIORITY, &BEHIND.to_ne_bytes())
        .send()
}
