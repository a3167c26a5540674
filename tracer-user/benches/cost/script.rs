//! What bpftrace is told to do: look where pathtrace looks for the same traffic, and print what pathtrace hands over.

use std::fmt::Write as _;

use pathtrace::kernel::btf::Btf;

use crate::{target::Target, variant::Variant};

/// Where calls to send are seen.
const SYSTEM_CALL: &str = "raw_syscalls:sys_enter";
/// The same of TCP, since 6.16.
const TCP_CALL: &str = "tcp:tcp_sendmsg_locked";

/// How each printed line begins.
pub(crate) const PRINTED: &str = "@ ";
/// How the line with the number of events begins.
pub(crate) const COUNTED: &str = "@events: ";

/// A place to look at: the tracepoint, which of its events are wanted, the address and the length that it knows.
struct Place {
    tracepoint: &'static str,
    wanted: String,
    address: &'static str,
    len: &'static str,
}

/// The script.
pub(crate) fn of(variant: Variant, target: &Target) -> String {
    let mut script = String::new();
    for Place { tracepoint, wanted, address, len } in places(target) {
        let action = if variant == Variant::BpftracePrint {
            format!(
                r#"printf("{PRINTED}%lu %d %d {tracepoint} %p %d\n", nsecs, cpu, pid, {address}, {len});"#
            )
        } else {
            count(tracepoint)
        };
        let _ = writeln!(script, "tracepoint:{tracepoint} {{ {wanted} {{ {action} }} }}");
    }
    script
}

/// What the script does otherwise than pathtrace.
pub(crate) fn note(target: &Target) -> String {
    let places = places(target);
    let names: Vec<&str> = places.iter().map(|place| place.tracepoint).collect();
    let others = if target.ports.is_empty() {
        "it is not told the names of sockets, so it takes all of these processes"
    } else {
        "packets and sockets by port, system calls and the scheduler by the name of the process"
    };
    format!("{} tracepoints ({}); {others}", names.len(), names.join(", "))
}

/// Counts each event, and the time from the first place that a packet passes to that where it is received.
fn count(tracepoint: &str) -> String {
    const COUNT: &str = "@events = count();";
    match tracepoint {
        "net:net_dev_queue" => format!("{COUNT} @begun[args->skbaddr] = nsecs;"),
        "net:netif_receive_skb" => format!(
            "{COUNT} if (@begun[args->skbaddr]) {{ @ns = hist(nsecs - @begun[args->skbaddr]); delete(@begun[args->skbaddr]); }}"
        ),
        SYSTEM_CALL | TCP_CALL => format!("{COUNT} @sent[tid] = nsecs;"),
        "skb:skb_copy_datagram_iovec" => format!("{COUNT} @ns = hist(nsecs - @woken[tid]);"),
        "sched:sched_switch" => format!("{COUNT} @woken[args->next_pid] = nsecs;"),
        _ => COUNT.to_owned(),
    }
}

/// Where pathtrace looks. What a packet says of its port is asked where there is a packet; of the scheduler and of system calls
/// only the process can be asked.
fn places(target: &Target) -> Vec<Place> {
    let any = |name: &str| any(target.processes, |process| format!("{name} == \"{process}\""));
    let is_send = "(args->id == 1 || args->id == 44 || args->id == 46 || args->id == 20)";
    let call = if !target.ports.is_empty() && has_tcp_call() {
        Place {
            tracepoint: TCP_CALL,
            wanted: format!("if ({})", any("comm")),
            address: "args->skb_addr",
            len: "args->msg_left",
        }
    } else {
        Place {
            tracepoint: SYSTEM_CALL,
            wanted: format!("if ({is_send} && ({}))", any("comm")),
            address: "args->args[0]",
            len: "args->args[2]",
        }
    };
    let mut places = vec![
        call,
        Place {
            tracepoint: "sched:sched_waking",
            wanted: format!("if ({})", any("args->comm")),
            address: "args->pid",
            len: "args->target_cpu",
        },
        Place {
            tracepoint: "sched:sched_switch",
            wanted: format!("if ({})", any("args->next_comm")),
            address: "args->next_pid",
            len: "args->prev_pid",
        },
    ];
    if target.ports.is_empty() {
        places.push(Place {
            tracepoint: "sock:sk_data_ready",
            wanted: format!("if (args->family == 1 && ({}))", any("comm")),
            address: "args->skaddr",
            len: "args->family",
        });
        places.push(Place {
            tracepoint: "skb:skb_copy_datagram_iovec",
            wanted: format!("if ({})", any("comm")),
            address: "args->skbaddr",
            len: "args->len",
        });
        return places;
    }
    let either = |one: &str, other: &str, swapped: bool| {
        any_of(&target.ports, |port| {
            let port = if swapped { port.swap_bytes() } else { port };
            format!("{one} == {port} || {other} == {port}")
        })
    };
    for tracepoint in ["net:net_dev_queue", "net:net_dev_start_xmit", "net:netif_rx", "net:netif_receive_skb"]
    {
        places.push(Place {
            tracepoint,
            wanted: format!(
                "$skb = (struct sk_buff *)args->skbaddr; \
                 $tcp = (struct tcphdr *)($skb->head + $skb->transport_header); \
                 if ({})",
                either("$tcp->source", "$tcp->dest", true)
            ),
            address: "args->skbaddr",
            len: "args->len",
        });
    }
    places.push(Place {
        tracepoint: "tcp:tcp_probe",
        wanted: format!("if ({})", either("args->sport", "args->dport", false)),
        address: "args->skbaddr",
        len: "args->data_len",
    });
    places.push(Place {
        tracepoint: "sock:sk_data_ready",
        wanted: format!(
            "$sk = (struct sock *)args->skaddr; $local = $sk->__sk_common.skc_num; \
             $remote = $sk->__sk_common.skc_dport; if ({})",
            any_of(&target.ports, |port| format!("$local == {port} || $remote == {}", port.swap_bytes()))
        ),
        address: "args->skaddr",
        len: "args->family",
    });
    places.push(Place {
        tracepoint: "tcp:tcp_rcv_space_adjust",
        wanted: format!("if ({})", either("args->sport", "args->dport", false)),
        address: "args->skaddr",
        len: "args->family",
    });
    places
}

fn has_tcp_call() -> bool {
    let name = TCP_CALL.rsplit(':').next().unwrap_or(TCP_CALL);
    Btf::running().is_ok_and(|btf| btf.tracepoint_args(name).is_some())
}

fn any(of: &[&str], one: impl Fn(&str) -> String) -> String {
    of.iter().map(|it| one(it)).collect::<Vec<_>>().join(" || ")
}

fn any_of(of: &[u16], one: impl Fn(u16) -> String) -> String {
    of.iter().map(|it| one(*it)).collect::<Vec<_>>().join(" || ")
}
