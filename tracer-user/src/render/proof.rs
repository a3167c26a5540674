//! The answer of `pathtrace prove` for people: for each address what was found out, then the verdict in one sentence.

use std::{
    fmt,
    io::{self, Write},
};

use tracer_common::probes::Point;

use super::{
    Style,
    paint::{Paint, Tone},
};
use crate::{
    export::{
        Printable,
        proof::{Address, Answered, DeviceOf, Sentence, Table, Why, usability_name},
        route_type_name,
    },
    kernel::network::TABLE_LOCAL,
    model::{Coverage, Device},
    proof::{Case, Counter, Proof, Route, Traffic, Verdict},
};

/// Columns of what a line is about.
const LABEL: usize = 14;

/// Writes what was found out of each address and the verdicts; with `only_verdicts` just these.
pub fn write_proof(
    proof: &Proof,
    only_verdicts: bool,
    style: Style,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let paint = Paint(style.color);
    for (case, verdict) in proof.verdicts() {
        if !only_verdicts {
            write_case(case, &proof.coverage, paint, out)?;
        }
        let tone = if matches!(verdict, Verdict::Proven(_)) { Tone::Strong } else { Tone::Alarm };
        let sentence = Sentence { case, verdict: &verdict };
        writeln!(out, "{}: {}", Address(case), paint.tone(tone, sentence))?;
        if !only_verdicts {
            writeln!(out)?;
        }
    }
    // An own address that is not local is not so because of the order.
    if !only_verdicts && proof.cases.iter().any(|case| case.is_local() || case.holder.is_some()) {
        writeln!(out, "why: {}", Why(&proof.order))?;
    }
    Ok(())
}

fn fact(label: &str, what: impl fmt::Display, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    writeln!(out, "  {label:LABEL$}{what}")
}

fn write_case(
    case: &Case,
    coverage: &Coverage,
    paint: Paint,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    writeln!(out, "{}{}", Address(case), SetOn(case))?;
    match &case.route {
        Ok(route) => fact("route", Says(route), out)?,
        Err(why) => fact("route", format_args!("none: {}", Printable(why.as_bytes())), out)?,
    }
    match &case.traffic {
        Some(traffic) => write_traffic(case, traffic, coverage, paint, out),
        None => fact("connection", "none: nothing is sent to an address that is not local", out),
    }
}

/// ` on eth0`, and in which state.
struct SetOn<'a>(&'a Case);

impl fmt::Display for SetOn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(holder) = &self.0.holder else {
            return f.write_str(" (set on no device)");
        };
        write!(f, " on {}", Printable(holder.device.as_bytes()))?;
        let state = [(!holder.is_up).then_some("down"), usability_name(holder.usability)];
        for (index, word) in state.into_iter().flatten().enumerate() {
            write!(f, "{}{word}", if index == 0 { ", " } else { " and " })?;
        }
        Ok(())
    }
}

/// What the kernel answers when it is asked, as `ip route get` does.
struct Says<'a>(&'a Route);

impl fmt::Display for Says<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { kind, table, device, gateway, entry_device } = self.0;
        write!(f, "type {}, table {}", route_type_name(*kind).unwrap_or("unknown"), Table(*table))?;
        if let Some(device) = device {
            write!(f, ", to {}", Printable(device.as_bytes()))?;
        }
        if let Some(gateway) = gateway {
            write!(f, " via {gateway}")?;
        }
        match entry_device {
            Some(entry) if entry_device != device => {
                write!(f, " (the entry names {})", Printable(entry.as_bytes()))
            }
            _ => Ok(()),
        }
    }
}

fn write_traffic(
    case: &Case,
    traffic: &Traffic,
    coverage: &Coverage,
    paint: Paint,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let failed = |why: &str| {
        let why = format!("failed: {}", Printable(why.as_bytes()));
        paint.tone(Tone::Alarm, why)
    };
    if let Err(why) = &traffic.conversation
        && traffic.packets.total == 0
    {
        // No packet, so there is nothing that could have been seen.
        return fact("connection", failed(why), out);
    }
    write_lookups(case, traffic, coverage, paint, out)?;
    match &traffic.conversation {
        Ok(done) => {
            let segments = Segments(done.segments);
            fact(
                "connection",
                format_args!(
                    "{} → {}, {} messages and answers, {segments}",
                    done.client, done.server, done.messages
                ),
                out,
            )?;
        }
        Err(why) => fact("connection", failed(why), out)?,
    }
    fact("packets seen", Seen { case, traffic }, out)?;
    if !coverage.sees(Point::LoopbackXmit) {
        let resting = "loopback_xmit is not attached: the device is the one that dev_queue_xmit was given";
        fact("", paint.tone(Tone::Notice, resting), out)?;
    }
    fact("counters", Moved { case, traffic }, out)
}

/// What the tables were seen to answer, or what stands in for it.
fn write_lookups(
    case: &Case,
    traffic: &Traffic,
    coverage: &Coverage,
    paint: Paint,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let hop = case.lookup().row().hop;
    let lookups = &traffic.packets.lookups;
    if lookups.is_empty() {
        let why = if coverage.sees(case.lookup()) { "was not seen" } else { "is not attached" };
        let text = format!("{hop} {why}: table, type and device rest on the kernel's answer to RTM_GETROUTE");
        return fact("lookup", paint.tone(Tone::Notice, text), out);
    }
    for lookup in lookups {
        fact("lookup", format_args!("{}× {hop}: {}", lookup.times, Answered(lookup)), out)?;
    }
    let is_renamed = |route: &Route| {
        lookups.iter().any(|lookup| lookup.table == MAIN && route.is_reported_as(lookup.table))
    };
    if case.route.as_ref().is_ok_and(is_renamed) {
        fact(
            "",
            "(the kernel keeps local and main in one tree here, and its tracepoint calls that main)",
            out,
        )?;
    }
    Ok(())
}

/// `RT_TABLE_MAIN`.
const MAIN: u32 = TABLE_LOCAL - 1;

struct Segments(Option<u32>);

impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(segments) => write!(f, "{segments} packets by the sockets' count"),
            None => f.write_str("packets not counted by the sockets"),
        }
    }
}

/// Our packets by device.
struct Seen<'a> {
    case: &'a Case,
    traffic: &'a Traffic,
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packets = &self.traffic.packets;
        write!(f, "{}: lo {}", packets.total, packets.on_lo())?;
        if let Some(card) = self.case.card() {
            write!(f, ", {} {}", Printable(card.device.as_bytes()), packets.on(card.index))?;
        }
        let card = self.case.card().map(|card| card.index);
        let others = packets.elsewhere().filter(|on| !(on.is_here && Some(on.device.ifindex) == card));
        for on in others {
            write!(f, ", {} {}", DeviceOf(on), on.packets)?;
        }
        match packets.nowhere {
            0 => Ok(()),
            nowhere => write!(f, ", on no device {nowhere}"),
        }
    }
}

/// What the devices have counted meanwhile, and how much of that cannot be ours.
struct Moved<'a> {
    case: &'a Case,
    traffic: &'a Traffic,
}

impl Moved<'_> {
    /// `lo`, the network card, and what has moved.
    fn is_worth_saying(&self, counter: &Counter) -> bool {
        counter.index == Device::LOOPBACK
            || self.case.card().is_some_and(|card| card.index == counter.index)
            || counter.sent + counter.received > 0
    }
}

impl fmt::Display for Moved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.traffic.counters.iter().filter(|counter| self.is_worth_saying(counter));
        for (index, counter) in shown.enumerate() {
            let before = if index == 0 { "" } else { "; " };
            let name = Printable(counter.device.as_bytes());
            write!(f, "{before}{name} sent {}, received {}", counter.sent, counter.received)?;
            let ours = self.traffic.packets.on(counter.index);
            let others = counter.sent.max(counter.received).saturating_sub(ours);
            match (others, ours) {
                (0, _) => {}
                (_, 0) => f.write_str(" (others' packets, none is ours)")?,
                (others, _) => write!(f, " ({others} are others')")?,
            }
        }
        Ok(())
    }
}
