//! The verdict on an address.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
};

use serde::Serialize;

use super::{SCHEMA, Shown};
use crate::{
    export::{
        Printable,
        proof::{Address, DeviceOf, Sentence, Table, usability_name},
        route_type_name,
    },
    model::Coverage,
    proof::{Case, Lookup, OnDevice, Order, Proof, Traffic, Verdict},
};

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    kind: &'static str,
    address: Shown<Address<'a>>,
    /// `null` if it cannot be told.
    local: Option<bool>,
    verdict: &'static str,
    sentence: Shown<Sentence<'a>>,
    table: Option<Shown<Table>>,
    route_type: Option<&'static str>,
    device: Option<Text<'a>>,
    gateway: Option<IpAddr>,
    route_error: Option<Text<'a>>,
    entry_device: Option<Text<'a>>,
    set_on: Option<SetOn<'a>>,
    /// Whether the routing rules ask the table `local` before all others; `null` if that could not be found out.
    local_asked_first: Option<bool>,
    netns: u32,
    packets: BTreeMap<String, u64>,
    packets_total: u64,
    segments: Option<u32>,
    connection: Option<Connection<'a>>,
    lookups: Vec<Looked<'a>>,
    counters: BTreeMap<String, Counted>,
}

type Text<'a> = Shown<Printable<'a>>;

fn text(name: &str) -> Text<'_> {
    Shown(Printable(name.as_bytes()))
}

/// The device that the address is set on.
#[derive(Serialize)]
struct SetOn<'a> {
    device: Text<'a>,
    up: bool,
    state: &'static str,
}

#[derive(Serialize)]
struct Connection<'a> {
    client: Option<String>,
    server: Option<String>,
    messages: Option<u32>,
    error: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Looked<'a> {
    hop: &'static str,
    function: Option<&'a str>,
    table: u32,
    route_type: Option<&'static str>,
    out: Option<Text<'a>>,
    times: u64,
}

#[derive(Serialize)]
struct Counted {
    sent: u64,
    received: u64,
}

/// Writes the verdict on an address as one line.
pub fn write_verdict(proof: &Proof, case: &Case, verdict: &Verdict, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut out, &Line::of(proof, case, verdict))?;
    out.write_all(b"\n")
}

impl<'a> Line<'a> {
    fn of(proof: &'a Proof, case: &'a Case, verdict: &'a Verdict) -> Self {
        let (local, name) = match verdict {
            Verdict::Proven(_) => (Some(true), "proven"),
            Verdict::NotLocal => (Some(false), "not_local"),
            Verdict::Elsewhere(_) => (Some(false), "elsewhere"),
            Verdict::Unproven(_) => (None, "not_proven"),
        };
        let route = case.route.as_ref();
        let traffic = case.traffic.as_ref();
        Self {
            schema: SCHEMA,
            kind: "verdict",
            address: Shown(Address(case)),
            local,
            verdict: name,
            sentence: Shown(Sentence { case, verdict }),
            table: route.ok().map(|route| Shown(Table(route.table))),
            route_type: route.ok().and_then(|route| route_type_name(route.kind)),
            device: route.ok().and_then(|route| route.device.as_deref()).map(text),
            gateway: route.ok().and_then(|route| route.gateway),
            route_error: route.err().map(|why| text(why)),
            entry_device: route.ok().and_then(|route| route.entry_device.as_deref()).map(text),
            set_on: case.holder.as_ref().map(|holder| SetOn {
                device: text(&holder.device),
                up: holder.is_up,
                state: usability_name(holder.usability).unwrap_or(USABLE),
            }),
            local_asked_first: match proof.order {
                Order::LocalFirst(_) | Order::Fixed => Some(true),
                Order::Changed => Some(false),
                Order::Unknown(_) => None,
            },
            netns: proof.netns,
            packets: traffic.map(|traffic| per_device(case, traffic)).unwrap_or_default(),
            packets_total: traffic.map_or(0, |traffic| traffic.packets.total),
            segments: traffic
                .and_then(|traffic| traffic.conversation.as_ref().ok())
                .and_then(|conversation| conversation.segments),
            connection: traffic.map(Connection::of),
            lookups: traffic.map(|traffic| lookups(case, traffic, &proof.coverage)).unwrap_or_default(),
            counters: traffic.map(counters).unwrap_or_default(),
        }
    }
}

/// What is said of an address that can be used.
const USABLE: &str = "usable";

impl<'a> Connection<'a> {
    fn of(traffic: &'a Traffic) -> Self {
        let done = traffic.conversation.as_ref();
        Self {
            client: done.ok().map(|done| done.client.to_string()),
            server: done.ok().map(|done| done.server.to_string()),
            messages: done.ok().map(|done| done.messages),
            error: done.err().map(|why| text(why)),
        }
    }
}

/// Each device that a packet of ours passed, and those of which it is worth saying that none did.
fn per_device(case: &Case, traffic: &Traffic) -> BTreeMap<String, u64> {
    let mut packets = BTreeMap::from([("lo".to_owned(), traffic.packets.on_lo())]);
    packets.extend(
        case.card()
            .map(|card| (Printable(card.device.as_bytes()).to_string(), traffic.packets.on(card.index))),
    );
    let each = traffic.packets.devices.iter().filter(|on| !on.is_lo());
    packets.extend(each.map(|on: &OnDevice| (DeviceOf(on).to_string(), on.packets)));
    packets
}

fn counters(traffic: &Traffic) -> BTreeMap<String, Counted> {
    let each = traffic.counters.iter().map(|counter| {
        let name = Printable(counter.device.as_bytes()).to_string();
        (name, Counted { sent: counter.sent, received: counter.received })
    });
    each.collect()
}

fn lookups<'a>(case: &Case, traffic: &'a Traffic, coverage: &'a Coverage) -> Vec<Looked<'a>> {
    let point = case.lookup();
    let each = traffic.packets.lookups.iter().map(|lookup: &Lookup| Looked {
        hop: point.row().hop,
        function: coverage.attached(point).map(|attached| attached.function.as_str()),
        table: lookup.table,
        route_type: route_type_name(lookup.kind),
        out: lookup.device.as_deref().map(text),
        times: lookup.times,
    });
    each.collect()
}
