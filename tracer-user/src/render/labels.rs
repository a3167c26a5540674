//! Short names of hops, for lines that must fit a terminal.

use tracer_common::probes::Point;

/// A short name that no other hop has. A new row of the table goes by its full name until it is given one here.
pub(super) fn short(point: Point) -> &'static str {
    match point.row().hop {
        "unix_stream_connect" => "connect",
        "unix_stream_sendmsg" => "unix_send",
        "unix_dgram_sendmsg" => "dgram_send",
        "tcp_sendmsg" => "send",
        "udp_sendmsg" => "udp_send",
        "udpv6_sendmsg" => "udp6_send",
        "ip_queue_xmit" => "ip",
        "ip6_xmit" => "ip6",
        "fib_lookup" => "fib",
        "fib6_lookup" => "fib6",
        "dev_queue_xmit" => "dev",
        "qdisc_enqueue" => "q_in",
        "qdisc_dequeue" => "q_out",
        "dev_hard_start_xmit" => "xmit",
        "loopback_xmit" => "lo_xmit",
        "enqueue_to_backlog" => "enq",
        "process_backlog" => "poll",
        "netif_receive_skb" => "recv",
        "tcp_v4_rcv" => "tcp",
        "tcp_v6_rcv" => "tcp6",
        "udp_rcv" => "udp",
        "udpv6_rcv" => "udp6",
        "sock_def_readable" => "wake",
        "sched_waking" => "runnable",
        "sched_switch" => "on_cpu",
        "unix_accept" => "accept",
        "unix_stream_recvmsg" => "unix_read",
        "unix_dgram_recvmsg" => "dgram_read",
        "tcp_recvmsg" => "read",
        "udp_recvmsg" => "udp_read",
        "kfree_skb" => "kfree",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_hops_share_a_name() {
        let names: BTreeSet<&str> = Point::ALL.iter().map(|point| short(*point)).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
