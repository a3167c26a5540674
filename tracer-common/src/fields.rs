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
            SK_BUFF_TAIL = "sk_buff"."tail";
            SK_BUFF_LEN = "sk_buff"."len";
            SK_BUFF_DATA_LEN = "sk_buff"."data_len";
            SK_BUFF_DEV = "sk_buff"."dev";
            SK_BUFF_PROTOCOL = "sk_buff"."protocol";
            SK_BUFF_NETWORK_HEADER = "sk_buff"."network_header";
            SK_BUFF_TRANSPORT_HEADER = "sk_buff"."transport_header";
            SK_BUFF_NEXT = "sk_buff"."next";
            SK_BUFF_SK = "sk_buff"."sk";
            SK_BUFF_TSTAMP = "sk_buff"."tstamp";
            SK_BUFF_IIF = "sk_buff"."skb_iif";
            SK_BUFF_CB = "sk_buff"."cb";
            SK_BUFF_QUEUE_PREV = "sk_buff_head"."prev";
            SK_BUFF_QUEUE_NEXT = "sk_buff_head"."next";
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
            SOCK_STATE = "sock"."__sk_common.skc_state";
            SOCK_TYPE = "sock"."sk_type";
            SOCK_WMEM_ALLOC = "sock"."sk_wmem_alloc.refs.counter";
            SOCK_RECEIVE_QUEUE = "sock"."sk_receive_queue";
            SK_BUFF_END = "sk_buff"."end";
            SHARED_INFO_GSO_SIZE = "skb_shared_info"."gso_size";
            SOCK_SOCKET = "sock"."sk_socket";
            SOCK_WAIT_QUEUE = "sock"."sk_wq";
            SOCKET_WQ_WAITING = "socket_wq"."wait.head";
            SOCK_DST_CACHE = "sock"."sk_dst_cache";
            DST_DEV = "dst_entry"."dev";
            INET_SOCK_SPORT = "inet_sock"."inet_sport";
            TCP_SOCK_RCV_NXT = "tcp_sock"."rcv_nxt";
            TCP_SOCK_COPIED_SEQ = "tcp_sock"."copied_seq";
            TCP_SOCK_WRITE_SEQ = "tcp_sock"."write_seq";
            UDP_SOCK_READER_QUEUE = "udp_sock"."reader_queue";
            UNIX_SOCK_PEER = "unix_sock"."peer";
            UNIX_SOCK_ADDR = "unix_sock"."addr";
            UNIX_ADDRESS_LEN = "unix_address"."len";
            UNIX_ADDRESS_NAME = "unix_address"."name";
            TCP_CB_SEQ = "tcp_skb_cb"."seq";
            TCP_CB_ACK_SEQ = "tcp_skb_cb"."ack_seq";
            UNIX_CB_FP = "unix_skb_parms"."fp";
            UNIX_CB_CONSUMED = "unix_skb_parms"."consumed";
            SCM_FP_COUNT = "scm_fp_list"."count";
            TASK_GROUP_LEADER = "task_struct"."group_leader";
            TASK_COMM = "task_struct"."comm";
            TASK_PID = "task_struct"."pid";
            TASK_TGID = "task_struct"."tgid";
            TASK_MM = "task_struct"."mm";
            TASK_NSPROXY = "task_struct"."nsproxy";
            NSPROXY_NET = "nsproxy"."net_ns";
            TASK_FILES = "task_struct"."files";
            FILES_FDT = "files_struct"."fdt";
            FILES_FDTAB = "files_struct"."fdtab";
            FILES_FD_ARRAY = "files_struct"."fd_array";
            FDTABLE_MAX_FDS = "fdtable"."max_fds";
            FDTABLE_FD = "fdtable"."fd";
            FILE_INODE = "file"."f_inode";
            FILE_PRIVATE_DATA = "file"."private_data";
            INODE_MODE = "inode"."i_mode";
            INODE_INO = "inode"."i_ino";
            SOCKET_FILE = "socket"."file";
            SOCKET_SK = "socket"."sk";
            MSGHDR_NAME = "msghdr"."msg_name";
            MSGHDR_NAMELEN = "msghdr"."msg_namelen";
            MSGHDR_ITER = "msghdr"."msg_iter";
            MSGHDR_ITER_OFFSET = "msghdr"."msg_iter.iov_offset";
            MSGHDR_ITER_COUNT = "msghdr"."msg_iter.count";
            MSGHDR_ITER_SEGMENTS = "msghdr"."msg_iter.nr_segs";
            NHC_DEV = "fib_nh_common"."nhc_dev";
            FIB_NH_PARENT = "fib_nh"."nh_parent";
            FIB_INFO_TYPE = "fib_info"."fib_type";
            FIB_INFO_PREFSRC = "fib_info"."fib_prefsrc";
            FIB_INFO_NH = "fib_info"."fib_nh";
            FIB6_RESULT_NH = "fib6_result"."nh";
            FIB6_RESULT_ROUTE = "fib6_result"."f6i";
            FIB6_RESULT_TYPE = "fib6_result"."fib6_type";
            NET_FIB6_NULL_ENTRY = "net"."ipv6.fib6_null_entry";
            FIB6_INFO_PREFSRC = "fib6_info"."fib6_prefsrc.addr";
            FIB6_TABLE_ID = "fib6_table"."tb6_id";
            FLOWI6_PROTO = "flowi6"."__fl_common.flowic_proto";
            FLOWI6_SADDR = "flowi6"."saddr";
            FLOWI6_DADDR = "flowi6"."daddr";
            FLOWI6_SPORT = "flowi6"."uli.ports.sport";
            FLOWI6_DPORT = "flowi6"."uli.ports.dport";
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
