//! Verdicts on addresses in words, for people and for programs alike.

use std::fmt;

use tracer_common::probes::Point;

use super::{Printable, route_type_name, table_name};
use crate::{
    kernel::network::Usability,
    proof::{Case, Doubt, Lookup, OnDevice, Order, Route, Verdict},
};

/// An address with the device that it lies on, if that belongs to it: `fe80::1%eth0`.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a>(pub &'a Case);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.address)?;
        match &self.0.scope {
            Some(device) => write!(f, "%{}", Printable(device.as_bytes())),
            None => Ok(()),
        }
    }
}

/// A routing table: its name, or its number.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub u32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match table_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A device with packets on it; one of another namespace with that namespace's number.
#[derive(Clone, Copy, Debug)]
pub struct DeviceOf<'a>(pub &'a OnDevice);

impl fmt::Display for DeviceOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OnDevice { device, is_here, .. } = self.0;
        write!(f, "{}", Printable(device.to_string().as_bytes()))?;
        if *is_here { Ok(()) } else { write!(f, "@netns:{}", device.netns) }
    }
}

/// The verdict on an address in one sentence, without the address.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a> {
    /// The address.
    pub case: &'a Case,
    /// The verdict on it.
    pub verdict: &'a Verdict,
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Proven(packets) => self.proven(*packets, f),
            Verdict::NotLocal => self.not_local(f),
            Verdict::Elsewhere(devices) => self.elsewhere(devices, f),
            Verdict::Unproven(doubts) => {
                f.write_str("not proven: ")?;
                doubts.iter().enumerate().try_for_each(|(index, doubt)| {
                    write!(f, "{}{}", if index == 0 { "" } else { "; " }, Words(doubt))
                })
            }
        }
    }
}

impl Sentence<'_> {
    fn proven(&self, packets: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("proven local: ")?;
        if let Ok(route) = &self.case.route {
            write!(f, "table {}, ", Table(route.table))?;
        }
        write!(f, "{packets}/{packets} packets through lo, 0 on ")?;
        match self.case.card() {
            Some(card) => write!(f, "{}", Printable(card.device.as_bytes())),
            None => f.write_str("any other device"),
        }
    }

    fn not_local(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not local: ")?;
        match &self.case.route {
            Err(why) => write!(f, "no route leads to it ({})", Printable(why.as_bytes()))?,
            Ok(route) => write!(f, "{}", WayOut(route))?,
        }
        match &self.case.holder {
            Some(holder) if !holder.is_up => {
                write!(f, "; it is set on {}, which is down", Printable(holder.device.as_bytes()))
            }
            Some(holder) => write!(f, "; it is set on {}", Printable(holder.device.as_bytes())),
            None => Ok(()),
        }
    }

    fn elsewhere(&self, devices: &[OnDevice], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.case.traffic.as_ref().map_or(0, |traffic| traffic.packets.total);
        f.write_str("not on lo: ")?;
        for (index, on) in devices.iter().enumerate() {
            let before = if index == 0 { "" } else { ", " };
            write!(f, "{before}{}/{total} packets through {}", on.packets, DeviceOf(on))?;
        }
        f.write_str(", though the route is local")
    }
}

/// Where a route leads that does not end here.
struct WayOut<'a>(&'a Route);

impl fmt::Display for WayOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Route { kind, device, gateway, .. } = self.0;
        // RTN_UNICAST
        if *kind != 1 {
            write!(f, "{}, ", route_type_name(*kind).unwrap_or("a route of unknown type"))?;
        }
        match device {
            Some(device) => write!(f, "leaves by {}", Printable(device.as_bytes()))?,
            None => f.write_str("leaves by no single device")?,
        }
        gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

/// A doubt in words.
struct Words<'a>(&'a Doubt);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Doubt::Tentative => f.write_str(
                "the address is tentative (the kernel is finding out whether another host has it), try again",
            ),
            Doubt::Duplicate => f.write_str("another host has the address, so this one may not use it"),
            Doubt::NotConnected(why) => {
                write!(f, "the connection did not come to its end: {}", Printable(why.as_bytes()))
            }
            Doubt::Dropped(reason, count) => {
                write!(f, "{} dropped ({})", Packets(*count), Printable(reason.as_bytes()))
            }
            Doubt::Missing { seen, sent } => {
                write!(f, "{} seen of {sent} that the sockets counted", Packets(*seen))
            }
            Doubt::NotCounted => f.write_str("the sockets do not say how many packets there were"),
            Doubt::Nowhere(packets) => write!(f, "{} seen on no device", Packets(*packets)),
            Doubt::Blind(points) => {
                f.write_str("not attached: ")?;
                list(points, f)?;
                f.write_str(", so a packet can pass a device unseen")
            }
            Doubt::Lost(Some(lost)) => write!(f, "events lost: {lost}, try again"),
            Doubt::Lost(None) => f.write_str("nobody knows how many events were lost"),
            Doubt::Skipped(times) => {
                write!(f, "programs of the trace that the kernel skipped: {times}, try again")
            }
            Doubt::Malformed(records) => write!(f, "records of the trace that made no sense: {records}"),
            Doubt::OtherRoute(lookup) => {
                write!(f, "a route lookup of a packet answered {}", Answered(lookup))
            }
            Doubt::Counter { seen, counted } => {
                write!(f, "{} seen on lo, which has counted {counted}", Packets(*seen))
            }
        }
    }
}

struct Packets(u64);

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "packet" } else { "packets" })
    }
}

fn list(points: &[Point], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    points
        .iter()
        .enumerate()
        .try_for_each(|(index, point)| write!(f, "{}{}", if index == 0 { "" } else { ", " }, point.row().hop))
}

/// What a routing table answered: `table main, type local, entry of eth0`.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a>(pub &'a Lookup);

impl fmt::Display for Answered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lookup { table, kind, device, .. } = self.0;
        write!(f, "table {}", Table(*table))?;
        if *kind != 0 {
            write!(f, ", type {}", route_type_name(*kind).unwrap_or("unknown"))?;
        }
        match device {
            Some(device) => write!(f, ", entry of {}", Printable(device.as_bytes())),
            None => Ok(()),
        }
    }
}

/// How far an address can be used, if that is worth saying.
pub fn usability_name(usability: Usability) -> Option<&'static str> {
    match usability {
        Usability::Usable => None,
        Usability::Deprecated => Some("deprecated"),
        Usability::Tentative => Some("tentative"),
        Usability::Duplicate => Some("duplicate"),
    }
}

/// Why a packet to an own address goes to `lo`, in one line.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a>(pub &'a Order);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LOCAL: &str = "an entry of type local there means lo, whichever device has the address";
        match self.0 {
            Order::LocalFirst(priority) => {
                write!(f, "rule {priority} (from all lookup local) asks table local before main; {LOCAL}")
            }
            Order::Fixed => write!(f, "this kernel has no rules and asks table local before main; {LOCAL}"),
            Order::Changed => write!(
                f,
                "the routing rules of this host do not ask table local first (ip rule); where it answers, {LOCAL}"
            ),
            Order::Unknown(error) => write!(
                f,
                "which table is asked first could not be found out ({}); {LOCAL}",
                Printable(error.as_bytes())
            ),
        }
    }
}
