//! The kernel struct fields that the programs read.
//!
//! Rust emits no CO-RE relocations, so userspace looks each offset up in the running kernel's BTF and writes it into
//! the global of that name before it loads the programs. The verifier then sees a constant.

/// Calls `$expand` with one row `GLOBAL = "struct" . "member.path"` for each field. Members of anonymous structs and
/// unions count as members of the struct around them, as in C.
#[macro_export]
macro_rules! kernel_fields {
    ($expand:path) => {
        $expand! {
            SK_BUFF_HEAD = "sk_buff"."head";
            SK_BUFF_DATA = "sk_buff"."data";
            SK_BUFF_LEN = "sk_buff"."len";
            SK_BUFF_DEV = "sk_buff"."dev";
            SK_BUFF_PROTOCOL = "sk_buff"."protocol";
            SK_BUFF_NETWORK_HEADER = "sk_buff"."network_header";
            SK_BUFF_TRANSPORT_HEADER = "sk_buff"."transport_header";
            NET_DEVICE_IFINDEX = "net_device"."ifindex";
            NET_DEVICE_NAME = "net_device"."name";
            NET_DEVICE_NET = "net_device"."nd_net.net";
            NET_INUM = "net"."ns.inum";
            SOCK_FAMILY = "sock"."__sk_common.skc_family";
            SOCK_DADDR = "sock"."__sk_common.skc_daddr";
            SOCK_RCV_SADDR = "sock"."__sk_common.skc_rcv_saddr";
            SOCK_V6_DADDR = "sock"."__sk_common.skc_v6_daddr";
            SOCK_V6_RCV_SADDR = "sock"."__sk_common.skc_v6_rcv_saddr";
            SOCK_DPORT = "sock"."__sk_common.skc_dport";
            SOCK_NUM = "sock"."__sk_common.skc_num";
            SOCK_NET = "sock"."__sk_common.skc_net.net";
            SOCK_PROTOCOL = "sock"."sk_protocol";
            SOCK_OWNED = "sock"."sk_lock.owned";
            TCP_SOCK_RCV_NXT = "tcp_sock"."rcv_nxt";
            TCP_SOCK_COPIED_SEQ = "tcp_sock"."copied_seq";
            TCP_SOCK_WRITE_SEQ = "tcp_sock"."write_seq";
            UNIX_SOCK_PEER = "unix_sock"."peer";
            TASK_GROUP_LEADER = "task_struct"."group_leader";
            TASK_COMM = "task_struct"."comm";
            SOCKET_SK = "socket"."sk";
            FIB_TABLE_ID = "fib_table"."tb_id";
            FLOWI4_PROTO = "flowi4"."__fl_common.flowic_proto";
            FLOWI4_SADDR = "flowi4"."saddr";
            FLOWI4_DADDR = "flowi4"."daddr";
            FLOWI4_SPORT = "flowi4"."uli.ports.sport";
            FLOWI4_DPORT = "flowi4"."uli.ports.dport";
        }
    };
}

/// One field to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The global in the programs (an `u32`, bytes from the start of the struct).
    pub global: &'static str,
    /// The struct's name in BTF.
    pub parent: &'static str,
    /// Member names, joined with dots.
    pub path: &'static str,
}

macro_rules! table {
    ($($global:ident = $parent:literal . $path:literal;)*) => {
        /// Every field that the programs read.
        pub static FIELDS: &[Field] = &[$(Field { global: stringify!($global), parent: $parent, path: $path }),*];
    };
}
kernel_fields!(table);
