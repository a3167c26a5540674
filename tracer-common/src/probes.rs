//! The probe table: every place in the kernel that pathtrace can look at.
//!
//! A row names the hop, the kernel functions that mark it (the first one that the running kernel has is taken, by
//! fentry or kprobe), the tracepoint that stands in where functions cannot be probed, and for each the reader (a
//! function in `tracer-ebpf/src/readers.rs`) with the positions of the arguments that it is given. The rows stand in
//! the order in which a packet passes them; `correlate` relies on it.

/// Calls `$expand` with the rows of the table.
#[macro_export]
macro_rules! probe_points {
    ($expand:path) => {
        $expand! {
            UnixStreamConnect "unix_stream_connect" in Unix, Process;
                functions ["unix_stream_connect"] read unix_connect(socket: 0, addr: 1, addr_len: 2);
                tracepoint none "connect on a UNIX socket passes no tracepoint of its own";
                about "Creates the server's half of a UNIX stream connection and queues it on the listener.";

            UnixStreamSendmsg "unix_stream_sendmsg" in Unix, Process;
                functions ["unix_stream_sendmsg"] read unix_send(socket: 0, msg: 1, len: 2);
                tracepoint none "sending on a UNIX socket passes no tracepoint before the reader's wake-up";
                about "Copies the data into an sk_buff and appends it to the peer's receive queue: no IP, no device.";

            TcpSendmsg "tcp_sendmsg" in Tcp, Process;
                functions ["tcp_sendmsg"] read send_call(sk: 0, msg: 1, len: 2);
                tracepoint "sock:sock_send_length" read sent(sk: 0, ret: 1);
                about "The send system call enters TCP; names the sending process.";

            IpQueueXmit "ip_queue_xmit" in Ip, Any;
                functions ["ip_queue_xmit", "__ip_queue_xmit"] read from_socket(sk: 0, skb: 1);
                tracepoint none "no tracepoint lies between TCP and the device layer";
                about "TCP hands a segment to IPv4; uses the route cached in the socket.";

            Ip6Xmit "ip6_xmit" in Ip, Any;
                functions ["ip6_xmit"] read from_socket(sk: 0, skb: 1);
                tracepoint none "no tracepoint lies between TCP and the device layer";
                about "TCP hands a segment to IPv6.";

            FibLookup "fib_lookup" in Ip, Any;
                functions ["fib_table_lookup"] read route_query(table: 0, flow: 1);
                tracepoint "fib:fib_table_lookup" read route_answer(table_id: 0, flow: 1);
                about "Asks a routing table where the packet goes. An established connection does it once, at connect.";

            DevQueueXmit "dev_queue_xmit" in Ip, Any;
                functions ["__dev_queue_xmit", "dev_queue_xmit"] read packet(skb: 0);
                tracepoint "net:net_dev_queue" read packet(skb: 0);
                about "Entry of the device layer: all headers are complete.";

            LoopbackXmit "loopback_xmit" in Ip, Any;
                functions ["loopback_xmit"] read packet(skb: 0);
                tracepoint "net:net_dev_start_xmit" read packet_to_loopback(skb: 0, dev: 1);
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
                functions ["__netif_receive_skb"] read received(skb: 0);
                tracepoint "net:netif_receive_skb" read received(skb: 0);
                about "The packet is taken off the queue and handed to its protocol.";

            TcpV4Rcv "tcp_v4_rcv" in Ip, Any;
                functions ["tcp_v4_rcv"] read packet(skb: 0);
                tracepoint "tcp:tcp_probe" read established(sk: 0, skb: 1);
                about "TCP receives the segment and looks its socket up (tcp:tcp_probe: established sockets only).";

            TcpV6Rcv "tcp_v6_rcv" in Ip, Any;
                functions ["tcp_v6_rcv"] read packet(skb: 0);
                tracepoint none "tcp:tcp_probe covers both families and is shown as tcp_v4_rcv";
                about "TCP over IPv6 receives the segment and looks its socket up.";

            SockDefReadable "sock_def_readable" in Any, Any;
                functions ["sock_def_readable"] read readable(sk: 0);
                tracepoint "sock:sk_data_ready" read readable(sk: 0);
                about "Wakes whoever waits for data on the receiving socket.";

            TcpRecvmsg "tcp_recvmsg" in Tcp, Process;
                functions ["tcp_rcv_space_adjust"] read read_up_to(sk: 0);
                tracepoint "tcp:tcp_rcv_space_adjust" read read_up_to(sk: 0);
                about "The reader has copied data out, up to the socket's copied_seq.";
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
            "table" => "fib_table",
            "flow" => "flowi4",
            "napi" => "napi_struct",
            _ => return None,
        })
    }
}

/// A tracepoint that stands in for a function.
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

/// A row of the table, as userspace sees it.
#[derive(Clone, Copy, Debug)]
pub struct ProbePoint {
    /// Its identifier.
    pub point: Point,
    /// The stable name of the hop.
    pub hop: &'static str,
    /// Which traffic it sees.
    pub traffic: Traffic,
    /// The kernel functions that mark it, best first.
    pub functions: &'static [&'static str],
    /// What the reader takes from the function.
    pub args: &'static [Arg],
    /// The tracepoint that stands in, or the reason why there is none.
    pub tracepoint: Result<Tracepoint, &'static str>,
    /// What happens there.
    pub about: &'static str,
}

macro_rules! tracepoint {
    (none $why:literal) => { Err($why) };
    ($name:literal read $reader:ident($($arg:ident: $index:literal),*)) => {
        Ok(Tracepoint { full_name: $name, args: &[$(Arg { name: stringify!($arg), index: $index }),*] })
    };
}

macro_rules! table {
    ($(
        $id:ident $hop:literal in $traffic:ident, $context:ident;
        functions [$($function:literal),+] read $reader:ident($($arg:ident: $index:literal),*);
        tracepoint $(none $why:literal)? $($name:literal read $tp_reader:ident($($tp_arg:ident: $tp_index:literal),*))?;
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
            functions: &[$($function),+],
            args: &[$(Arg { name: stringify!($arg), index: $index }),*],
            tracepoint: tracepoint!($(none $why)? $($name read $tp_reader($($tp_arg: $tp_index),*))?),
            about: $about,
        }),*];
    };
}
probe_points!(table);
