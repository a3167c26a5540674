//! `pathtrace prove`: whether traffic to the addresses of this host stays on the loopback device, found out by sending some.

mod listeners;
mod questions;
mod targets;

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
};

use self::{listeners::listen, questions::Questions};
use super::{
    Failure, Outcome,
    hosts::addresses_of,
    output,
    prepare::start_log,
    tracer::{Traced, Tracer},
};
use crate::{
    analyze::{LatencyTable, Summary},
    cli::ProveArgs,
    export::json,
    filter::{Filter, Transport, Wanted},
    kernel::{
        namespace,
        network::{Interface, Network},
    },
    model::{Device, Losses, Trust},
    proof::{Answer, Case, Counter, Ends, Packets, Proof, Target, Traffic, packets_between},
    render::{Style, write_proof, write_trust},
    workload::{Conversation, TcpServer},
};

/// Messages sent to each address, and as many answers.
const MESSAGES: u32 = 2;

/// Finds it out and says it.
pub(super) fn prove(args: &ProveArgs) -> Result<Outcome, Failure> {
    start_log(args.engine.verbose);
    // The name server may be out of reach from within the namespace.
    let targets = targets::resolved(&args.addresses)?;
    if let Some(netns) = &args.netns {
        enter(netns)?;
    }
    // It carries the questions to the kernel; traffic and trace do not need it.
    let found = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "start the event loop", source })?
        .block_on(find_out(args, &targets))?;
    show(args, &found).map_err(Failure::Output)?;
    Ok(match found.proof.answer() {
        Answer::Yes => Outcome::Done,
        Answer::No => Outcome::Negative,
        Answer::Unknown => Outcome::Unknown,
    })
}

/// Moves this process into a namespace: sockets, questions and devices are that namespace's from then on.
fn enter(netns: &str) -> Result<(), Failure> {
    let refused = |why: String| Failure::Value { option: "--netns", value: netns.to_owned(), why };
    let file: PathBuf = match netns.parse() {
        Ok(inode) => namespace::file_with_inode(inode)
            .ok_or_else(|| refused("no name and no process leads to a namespace of this inode".to_owned()))?,
        Err(_) => namespace::file_of(netns),
    };
    namespace::enter(&file).map_err(|error| {
        let hint = if error.raw_os_error() == Some(libc::EPERM) {
            "only root (CAP_SYS_ADMIN) may enter another namespace"
        } else {
            "give a name from `ip netns`, a path such as /proc/PID/ns/net, or its inode"
        };
        refused(format!("{}: {error}; {hint}", file.display()))
    })
}

/// What was found out, and what else the trace showed.
struct Found {
    proof: Proof,
    latencies: LatencyTable,
}

async fn find_out(args: &ProveArgs, given: &[Target]) -> Result<Found, Failure> {
    let netns = namespace::own_inode().map_err(asking)?;
    let network = Network::open().map_err(asking)?;
    let interfaces = network.interfaces().await.map_err(asking)?;
    let own = network.addresses().await.map_err(asking)?;
    let targets = targets::chosen(given, &interfaces, &own)?;

    let questions = Questions { network: &network, interfaces: &interfaces };
    let mut cases = Vec::with_capacity(targets.len());
    for target in &targets {
        cases.push(questions.case(target).await.map_err(asking)?);
    }
    let order = questions.order(cases.iter().all(|case| case.address.is_ipv6())).await;

    // Only what the kernel says is local is connected to: nothing may leave this host.
    let (mut local, mut ends) = (Vec::new(), Vec::new());
    for (case, target) in cases.iter_mut().zip(&targets) {
        if case.is_local() {
            local.push(case);
            ends.push(target.socket_address());
        }
    }
    let traced = if local.is_empty() {
        nothing_traced()
    } else {
        talk_and_trace(args, &network, netns, local, &ends).await?
    };
    let mut latencies = LatencyTable::default();
    for path in &traced.paths {
        latencies.add(path);
    }
    let Traced { coverage, trust, .. } = traced;
    Ok(Found { proof: Proof { cases, order, netns, coverage, trust }, latencies })
}

/// Nothing was sent, so nothing was missed.
fn nothing_traced() -> Traced {
    let losses = Losses { missed: Some(0), ..Losses::default() };
    let trust = Trust { losses: Some(losses), duration_ns: Some(0), ..Trust::default() };
    Traced { trust, ..Traced::default() }
}

/// What stands in the way of asking the kernel.
fn asking(source: io::Error) -> Failure {
    Failure::System { what: "ask the kernel for its addresses and routes (rtnetlink)", source }
}

/// A connection, and what the devices counted meanwhile.
struct Talked {
    conversation: Result<Conversation, String>,
    server: Option<SocketAddr>,
    counters: Vec<Counter>,
}

/// Connects to each of these addresses, and says of each case what was seen of that.
async fn talk_and_trace(
    args: &ProveArgs,
    network: &Network,
    netns: u32,
    cases: Vec<&mut Case>,
    addresses: &[SocketAddr],
) -> Result<Traced, Failure> {
    let servers = listen(addresses);
    let ports: Vec<u16> = servers.iter().flatten().map(|server| server.address().port()).collect();
    if ports.is_empty() {
        for (case, refused) in
            cases.into_iter().zip(servers.iter().filter_map(|server| server.as_ref().err()))
        {
            let conversation = Err(cannot_listen(refused));
            case.traffic = Some(Traffic { conversation, packets: Packets::default(), counters: Vec::new() });
        }
        return Ok(nothing_traced());
    }
    let filter = Filter::new(Wanted { ports, transports: vec![Transport::Tcp], ..Wanted::default() })?;
    let mut trace = Tracer::attach(&args.engine, filter)?;
    let mut talks = Vec::with_capacity(servers.len());
    let mut before = network.interfaces().await.map_err(asking)?;
    for server in servers {
        let conversation = server.as_ref().map_err(cannot_listen).and_then(converse);
        trace.pump()?;
        let after = network.interfaces().await.map_err(asking)?;
        let conversation = conversation.map_err(|why| explained(why, &after));
        let counters = counted(&before, &after);
        let server = server.ok().map(|server| server.address());
        talks.push(Talked { conversation, server, counters });
        before = after;
    }
    let traced = trace.end()?;
    for (case, Talked { conversation, server, counters }) in cases.into_iter().zip(talks) {
        let client = conversation.as_ref().ok().map(|done| done.client);
        let packets = server.map_or_else(Packets::default, |server| {
            packets_between(Ends { server, client, netns }, &traced.paths)
        });
        case.traffic = Some(Traffic { conversation, packets, counters });
    }
    Ok(traced)
}

fn cannot_listen(error: &io::Error) -> String {
    format!("cannot listen on it: {error}")
}

fn converse(server: &TcpServer) -> Result<Conversation, String> {
    server.converse(MESSAGES).map_err(|error| error.to_string())
}

/// Why a connection did not come to its end, with the usual reason in a namespace that is new.
fn explained(why: String, devices: &[Interface]) -> String {
    let lo_is_down = devices.iter().any(|device| device.index == Device::LOOPBACK && !device.is_up);
    if lo_is_down {
        format!("{why}, as lo is down in this network namespace (ip link set lo up)")
    } else {
        why
    }
}

/// What each device has counted between two moments. A device that came between them has counted all it has.
fn counted(before: &[Interface], after: &[Interface]) -> Vec<Counter> {
    let each = after.iter().map(|now| {
        let then = before.iter().find(|then| then.index == now.index);
        let since = |now: u64, then: Option<u64>| now.saturating_sub(then.unwrap_or(0));
        Counter {
            device: now.name.clone(),
            index: now.index,
            sent: since(now.sent, then.map(|then| then.sent)),
            received: since(now.received, then.map(|then| then.received)),
        }
    });
    each.collect()
}

fn show(args: &ProveArgs, Found { proof, latencies }: &Found) -> io::Result<()> {
    let summary = Summary { table: latencies, trust: &proof.trust, coverage: &proof.coverage };
    let mut text = Vec::new();
    if args.json {
        for (case, verdict) in proof.verdicts() {
            json::write_verdict(proof, case, &verdict, &mut text)?;
        }
        json::write_summary(&summary, &mut text)?;
    } else {
        let color = output::is_colored(io::stdout().is_terminal());
        let style = Style { color, ..Style::default() };
        write_proof(proof, args.engine.quiet, style, &mut text)?;
        if proof.cases.iter().any(|case| case.traffic.is_some()) {
            write_trust(&summary, style, &mut text)?;
        }
    }
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, sent: u64, received: u64) -> Interface {
        Interface { index, name: format!("d{index}"), is_up: true, sent, received }
    }

    #[test]
    fn a_namespace_whose_lo_is_down_is_the_usual_reason() {
        let why = || "connection timed out".to_owned();
        let down = |index| Interface { is_up: false, ..device(index, 0, 0) };
        assert_eq!(explained(why(), &[device(1, 0, 0), down(2)]), why());
        assert!(explained(why(), &[down(1), device(2, 0, 0)]).contains("ip link set lo up"));
    }

    #[test]
    fn a_device_has_counted_what_came_since() {
        let counters = counted(&[device(1, 5, 6), device(2, 9, 9)], &[device(1, 7, 7), device(3, 1, 0)]);
        let moved: Vec<_> = counters.iter().map(|it| (it.index, it.sent, it.received)).collect();
        assert_eq!(moved, [(1, 2, 1), (3, 1, 0)]);
    }
}
