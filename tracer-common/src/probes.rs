//! The probe table: every place in the kernel that pathtrace can look at.
//!
//! A row names the hop, the kernel functions that mark it (the first one that the running kernel has is taken, by
//! fentry or kprobe), the tracepoint that stands in where functions cannot be probed, and for each the reader (a
//! function in `tracer-ebpf/src/readers`) with the positions of the arguments that it is given. `as Row` says that the
//! other row's program writes this row's records as well. A row without functions is a tracepoint everywhere. `alone` names
//! a cheaper tracepoint for where the other row's program is not attached for other rows' sake, if the kernel has it. The
//! rows stand in the order in which a packet passes them; `correlate` relies on it.

/// Calls `$expand` with the rows of the table.
#[macro_export]
macro_rules! probe_points {
    ($expand:path) => {
        $expand! {
            UnixStreamConnect "unix_stream_connect" in Unix, Process;
                functions ["unix_stream_connect"] read unix_connect(socket: 0, addr: 1, addr_len: 2);
                tracepoint "raw_syscalls:sys_enter" read system_call(regs: 0, id: 1);
                about "Creates the server's half of a UNIX stream connection and queues it on the listener.";

            UnixStreamSendmsg "unix_stream_sendmsg" in Unix, Process;
                functions ["unix_stream_sendmsg"] read unix_send(socket: 0, msg: 1, len: 2);
                tracepoint as UnixStreamConnect;
                about "Copies the data into an sk_buff and appends it to the peer's receive queue: no IP, no device.";

            UnixDgramSendmsg "unix_dgram_sendmsg" in Unix, Process;
                functions ["unix_dgram_sendmsg"] read unix_send(socket: 0, msg: 1, len: 2);
                tracepoint as UnixStreamConnect;
                about "Copies a datagram (or a SOCK_SEQPACKET record) and appends it to the receiver's queue.";

            TcpSendmsg "tcp_sendmsg" in Tcp, Process;
                functions ["tcp_sendmsg"] read tcp_send(sk: 0, msg: 1, len: 2);
                tracepoint as UnixStreamConnect;
                alone "tcp:tcp_sendmsg_locked" read tcp_takes(sk: 0, msg: 1);
                about "The send system call enters TCP, which copies the data to the end of the socket's write queue.";

            UdpSendmsg "udp_sendmsg" in Udp, Process;
                functions ["udp_sendmsg"] read udp_send(sk: 0, msg: 1, len: 2);
                tracepoint as UnixStreamConnect;
                about "The send system call enters UDP over IPv4.";

            Udpv6Sendmsg "udpv6_sendmsg" in Udp, Process;
                functions ["udpv6_sendmsg"] read udp_send(sk: 0, msg: 1, len: 2);
                tracepoint as UnixStreamConnect;
                about "The send system call enters UDP over IPv6 (for an IPv4-mapped address it goes on as udp_sendmsg).";

            IpQueueXmit "ip_queue_xmit" in Ip, Any;
                functions ["ip_queue_xmit", "__ip_queue_xmit"] read from_socket(sk: 0, skb: 1);
                tracepoint none "no tracepoint lies between TCP and the device layer";
                about "TCP hands a segment to IPv4; uses the route cached in the socket.";

            Ip6Xmit "ip6_xmit" in Ip, Any;
                functions ["ip6_xmit"] read from_socket(sk: 0, skb: 1);
                tracepoint none "no tracepoint lies between TCP and the device layer";
                about "TCP hands a segment to IPv6; uses the route cached in the socket.";

            FibLookup "fib_lookup" in Ip, Any;
                functions none "only the tracepoint at its end knows the answer";
                tracepoint "fib:fib_table_lookup" read route_v4(table_id: 0, flow: 1, nhc: 2, error: 3);
                about "Asks an IPv4 routing table where a packet goes. An established connection does it once, at connect.";

            Fib6Lookup "fib6_lookup" in Ip, Any;
                functions none "only the tracepoint at its end knows the answer";
                tracepoint "fib6:fib6_table_lookup" read route_v6(net: 0, res6: 1, table6: 2, flow6: 3);
                about "Asks an IPv6 routing table where a packet goes. An established connection does it once, at connect.";

            DevQueueXmit "dev_queue_xmit" in Ip, Any;
                functions ["__dev_queue_xmit", "dev_queue_xmit"] read outgoing(skb: 0);
                tracepoint "net:net_dev_queue" read outgoing(skb: 0);
                about "Entry of the device layer: all headers are complete.";

            QdiscEnqueue "qdisc_enqueue" in Ip, Any;
                functions none "each queueing discipline has a function of its own";
                tracepoint "qdisc:qdisc_enqueue" read packet(skb: 2);
                about "The device's queueing discipline takes the packet in; the loopback device has none.";

            QdiscDequeue "qdisc_dequeue" in Ip, Any;
                functions none "each queueing discipline has a function of its own";
                tracepoint "qdisc:qdisc_dequeue" read dequeued(skb: 3);
                about "The queueing discipline hands the packet out to the device: the time since qdisc_enqueue is its delay.";

            DevHardStartXmit "dev_hard_start_xmit" in Ip, Any;
                functions none "it is given lists of packets, and the tracepoint within it one after the other";
                tracepoint "net:net_dev_start_xmit" read packet_to_device(skb: 0, dev: 1);
                about "Hands the packet to the driver of a device other than loopback: veth, bridge, a network card.";

            LoopbackXmit "loopback_xmit" in Ip, Any;
                functions ["loopback_xmit"] read packet(skb: 0);
                tracepoint as DevHardStartXmit;
                about "The loopback device's transmit function.";

            EnqueueToBacklog "enqueue_to_backlog" in Ip, Any;
                functions ["enqueue_to_backlog"] read queued(skb: 0, cpu: 1);
                tracepoint "net:netif_rx" read queued_here(skb: 0);
                about "Appends the packet to a CPU's input queue and raises the receive softirq. Sending ends here.";

            ProcessBacklog "process_backlog" in Ip, Any;
                functions ["process_backlog"] read poll(napi: 0);
                tracepoint none "napi:napi_poll fires when a poll ends, so the wait in the backlog ends at netif_receive_skb";
                about "The receive softirq starts to take packets off this CPU's input queue.";

            NetifReceiveSkb "netif_receive_skb" in Ip, Any;
                functions none "packets that drivers hand over in lists pass none that all packets pass";
                tracepoint "net:netif_receive_skb" read received(skb: 0);
                about "The packet is taken off the queue and handed to its protocol.";

            TcpV4Rcv "tcp_v4_rcv" in Ip, Any;
                functions ["tcp_v4_rcv"] read packet(skb: 0);
                tracepoint "tcp:tcp_probe" read established(sk: 0, skb: 1);
                about "TCP receives the segment and looks its socket up (tcp:tcp_probe: established sockets only).";

            TcpV6Rcv "tcp_v6_rcv" in Ip, Any;
                functions ["tcp_v6_rcv"] read packet(skb: 0);
                tracepoint as TcpV4Rcv;
                about "TCP over IPv6 receives the segment and looks its socket up (tcp:tcp_probe: established sockets only).";

            UdpRcv "udp_rcv" in Udp, Any;
                functions ["udp_rcv"] read packet(skb: 0);
                tracepoint none "no tracepoint lies between IP and the wake-up of a UDP socket's reader";
                about "UDP receives the datagram and looks its socket up.";

            Udpv6Rcv "udpv6_rcv" in Udp, Any;
                functions ["udpv6_rcv"] read packet(skb: 0);
                tracepoint none "no tracepoint lies between IP and the wake-up of a UDP socket's reader";
                about "UDP over IPv6 receives the datagram and looks its socket up.";

            SockDefReadable "sock_def_readable" in Any, Any;
                functions ["sock_def_readable"] read readable(sk: 0);
                tracepoint "sock:sk_data_ready" read readable(sk: 0);
                about "Wakes whoever waits for data on the receiving socket.";

            SchedWaking "sched_waking" in Any, Any;
                functions none "the scheduler's own tracepoint is the same on every kernel";
                tracepoint "sched:sched_waking" read waking(task: 0);
                about "The reader's thread is made runnable.";

            SchedSwitch "sched_switch" in Any, Any;
                functions none "the scheduler's own tracepoint is the same on every kernel";
                tracepoint "sched:sched_switch" read switched(preempt: 0, prev: 1, task: 2);
                about "The reader's thread gets a CPU: the time since sched_waking is the scheduler's delay.";

            UnixAccept "unix_accept" in Unix, Process;
                functions ["skb_free_datagram"] read unix_accepted(sk: 0, skb: 1);
                tracepoint "skb:consume_skb" read consumed(skb: 0);
                about "The server's accept takes the connection off the listener's queue.";

            UnixStreamRecvmsg "unix_stream_recvmsg" in Unix, Process;
                functions ["skb_copy_datagram_iter"] read unix_copy_at(skb: 0, offset: 1, to: 2, len: 3);
                tracepoint "skb:skb_copy_datagram_iovec" read unix_copy(skb: 0, len: 1);
                about "The reader copies data out of an sk_buff of a UNIX stream.";

            UnixDgramRecvmsg "unix_dgram_recvmsg" in Unix, Process;
                functions as UnixStreamRecvmsg;
                tracepoint as UnixStreamRecvmsg;
                about "The reader copies a datagram (or a SOCK_SEQPACKET record) out.";

            TcpRecvmsg "tcp_recvmsg" in Tcp, Process;
                functions ["tcp_rcv_space_adjust"] read read_up_to(sk: 0);
                tracepoint "tcp:tcp_rcv_space_adjust" read read_up_to(sk: 0);
                about "The reader has copied data out, up to the socket's copied_seq.";

            UdpRecvmsg "udp_recvmsg" in Udp, Process;
                functions ["skb_consume_udp"] read udp_read(sk: 0, skb: 1, len: 2);
                tracepoint "sock:sock_recv_length" read udp_received(sk: 0, ret: 1, flags: 2);
                about "The reader has copied the datagram out.";

            KfreeSkb "kfree_skb" in Ip, Any;
                functions none "the tracepoint knows the reason";
                tracepoint "skb:kfree_skb" read dropped(skb: 0, location: 1, reason: 2);
                about "The kernel drops the packet.";
        }
    };
}

/// Which traffic a point sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// IP packets of every transport.
    Ip,
    /// TCP sockets.
    Tcp,
    /// UDP sockets.
    Udp,
    /// UNIX sockets.
    Unix,
    /// All of them.
    Any,
}

/// In whose name the kernel runs when a point fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Always in a system call of the process that uses the socket.
    Process,
    /// In a system call or in a softirq that interrupted somebody else: the process on the CPU means nothing.
    Any,
}

/// How a probe point is attached.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// A BPF trampoline at the function's entry.
    Fentry = 0,
    /// A breakpoint or ftrace call at the function's entry.
    Kprobe = 1,
    /// A BTF-typed raw tracepoint.
    Tracepoint = 2,
}

impl Backend {
    /// All of them, cheapest first: the order in which `auto` tries them.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];

    /// The name on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// The inverse of `self as u8`.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| *backend as u8 == byte)
    }
}

/// An argument that a reader takes from the probed function or tracepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// What it is: `skb`, `sk`, `dev` …
    pub name: &'static str,
    /// Its position, from 0.
    pub index: u8,
}

impl Arg {
    /// The struct that the argument must point to according to BTF, or `None` where it is a number or a `void *`.
    pub fn expected_struct(self) -> Option<&'static str> {
        Some(match self.name {
            "skb" => "sk_buff",
            "sk" => "sock",
            "dev" => "net_device",
            "socket" => "socket",
            "msg" => "msghdr",
            "flow" => "flowi4",
            "flow6" => "flowi6",
            "nhc" => "fib_nh_common",
            "net" => "net",
            "res6" => "fib6_result",
            "table6" => "fib6_table",
            "napi" => "napi_struct",
            "regs" => "pt_regs",
            "task" | "prev" => "task_struct",
            "to" => "iov_iter",
            _ => return None,
        })
    }

    /// Whether the reader can do without it: `kfree_skb` knows a reason from 5.17 on.
    pub fn is_optional(self) -> bool {
        self.name == "reason"
    }
}

/// Functions whose entry marks a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions {
    /// Their names, best first.
    pub names: &'static [&'static str],
    /// What the reader takes from any of them.
    pub args: &'static [Arg],
}

/// A tracepoint that stands in for functions, or that marks a hop by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// Its full name, `group:name`.
    pub full_name: &'static str,
    /// What its reader takes.
    pub args: &'static [Arg],
}

impl Tracepoint {
    /// The name without the group, by which the kernel's types know it.
    pub fn name(&self) -> &'static str {
        self.full_name.split_once(':').map_or(self.full_name, |(_, name)| name)
    }
}

/// What a row says of one way to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook<T> {
    /// The row has a program of its own there.
    Own(T),
    /// The program of this row writes its records.
    As(Point),
    /// There is no such way, and why.
    None(&'static str),
}

/// A row of the table, as userspace sees it.
#[derive(Clone, Copy, Debug)]
pub struct ProbePoint {
    /// Its identifier.
    pub point: Point,
    /// The stable name of the hop.
    pub hop: &'static str,
    /// Which traffic it sees.
    pub traffic: Traffic,
    /// By functions, with fentry or kprobes.
    pub by_function: Hook<Functions>,
    /// By a tracepoint.
    pub by_tracepoint: Hook<Tracepoint>,
    /// Where [`by_tracepoint`](Self::by_tracepoint) names another row whose program nothing else needs, a tracepoint that costs less,
    /// with a program of this row's own.
    pub alone: Option<Tracepoint>,
    /// What happens there.
    pub about: &'static str,
}

impl ProbePoint {
    /// The functions that mark the hop, or why there are none.
    pub fn functions(&self) -> Result<Functions, &'static str> {
        match self.by_function {
            Hook::Own(functions) => Ok(functions),
            Hook::As(owner) => owner.row().functions(),
            Hook::None(why) => Err(why),
        }
    }

    /// The tracepoint that marks the hop, or why there is none.
    pub fn tracepoint(&self) -> Result<Tracepoint, &'static str> {
        match self.by_tracepoint {
            Hook::Own(tracepoint) => Ok(tracepoint),
            Hook::As(owner) => owner.row().tracepoint(),
            Hook::None(why) => Err(why),
        }
    }

    /// The tracepoints that may mark the hop where these rows are needed, best first, each with the row whose program goes there.
    pub fn tracepoints(
        &self,
        is_needed: impl Fn(&Self) -> bool,
    ) -> impl Iterator<Item = (Point, Tracepoint)> {
        let owner = self.program_of(Backend::Tracepoint);
        let is_there_for = |row: &Self| row.alone.is_none() && row.program_of(Backend::Tracepoint) == owner;
        let is_alone = !PROBES.iter().any(|row| is_there_for(row) && is_needed(row));
        let alone = self.alone.filter(|_| is_alone).map(|alone| (self.point, alone));
        alone.into_iter().chain(self.tracepoint().ok().map(|shared| (owner, shared)))
    }

    /// The row whose program writes this row's records, by that backend.
    pub fn program_of(&self, backend: Backend) -> Point {
        match (backend, self.by_function, self.by_tracepoint) {
            (Backend::Fentry | Backend::Kprobe, Hook::As(owner), _)
            | (Backend::Tracepoint, _, Hook::As(owner)) => owner,
            _ => self.point,
        }
    }
}

macro_rules! hook {
    (none $why:literal) => { Hook::None($why) };
    (as $owner:ident) => { Hook::As(Point::$owner) };
    ([$($function:literal),+] $($arg:ident: $index:literal),*) => {
        Hook::Own(Functions {
            names: &[$($function),+],
            args: &[$(Arg { name: stringify!($arg), index: $index }),*],
        })
    };
    ($name:literal $($arg:ident: $index:literal),*) => {
        Hook::Own(tracepoint!($name $($arg: $index),*))
    };
}

macro_rules! tracepoint {
    ($name:literal $($arg:ident: $index:literal),*) => {
        Tracepoint { full_name: $name, args: &[$(Arg { name: stringify!($arg), index: $index }),*] }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! table {
    ($(
        $id:ident $hop:literal in $traffic:ident, $context:ident;
        functions
            $([$($function:literal),+] read $reader:ident($($arg:ident: $index:literal),*))?
            $(none $no_function:literal)? $(as $function_of:ident)?;
        tracepoint
            $($name:literal read $tp_reader:ident($($tp_arg:ident: $tp_index:literal),*))?
            $(none $no_tracepoint:literal)? $(as $tracepoint_of:ident)?;
        $(alone $alone:literal read $alone_reader:ident($($alone_arg:ident: $alone_index:literal),*);)?
        about $about:literal;
    )*) => {
        /// A probe point. The order is the order of the path.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is described by its row's `about`")]
        pub enum Point { $($id),* }

        impl Point {
            /// All points, in the order of the path.
            pub const ALL: &[Self] = &[$(Self::$id),*];

            /// The inverse of `self as u8`.
            pub fn from_wire(byte: u8) -> Option<Self> {
                Self::ALL.get(usize::from(byte)).copied()
            }

            /// The point's row.
            pub fn row(self) -> &'static ProbePoint {
                &PROBES[self as usize]
            }
        }

        /// The table, indexed by `Point as usize`.
        pub static PROBES: &[ProbePoint] = &[$(ProbePoint {
            point: Point::$id,
            hop: $hop,
            traffic: Traffic::$traffic,
            by_function: hook!(
                $([$($function),+] $($arg: $index),*)? $(none $no_function)? $(as $function_of)?
            ),
            by_tracepoint: hook!(
                $($name $($tp_arg: $tp_index),*)? $(none $no_tracepoint)? $(as $tracepoint_of)?
            ),
            alone: optional!($(tracepoint!($alone $($alone_arg: $alone_index),*))?),
            about: $about,
        }),*];
    };
}
probe_points!(table);

// `ENABLED` has a bit for each.
const _: () = assert!(Point::ALL.len() <= 64);
