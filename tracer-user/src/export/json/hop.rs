//! The hops of a path.

use std::net::IpAddr;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::Shown;
use crate::{
    export::{Extra, Printable, route_type_name},
    model::{Coverage, Device, Hop, Path},
};

/// Serializes the hops one by one, without a list of them.
pub(super) struct Hops<'a> {
    pub(super) path: &'a Path,
    pub(super) coverage: &'a Coverage,
}

impl Serialize for Hops<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let start_ns = self.path.start_ns();
        let mut list = to.serialize_seq(Some(self.path.hops.len()))?;
        for hop in &self.path.hops {
            list.serialize_element(&Entry::of(hop, start_ns, self.path, self.coverage))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    hop: &'static str,
    function: Option<&'a str>,
    backend: &'static str,
    cpu: u32,
    ns: u64,
    #[serde(flatten)]
    extra: Option<Beside<'a>>,
}

/// What a hop says beside.
#[derive(Serialize)]
#[serde(untagged)]
enum Beside<'a> {
    Route {
        table: u32,
        route_type: Option<&'static str>,
        out: Option<Shown<Printable<'a>>>,
        source: Option<IpAddr>,
        error: i32,
    },
    TargetCpu {
        target_cpu: u32,
    },
    Device {
        device: Option<Shown<Printable<'a>>>,
        ifindex: u32,
        netns: u32,
    },
}

impl<'a> Beside<'a> {
    fn of(path: &'a Path, hop: &Hop) -> Option<Self> {
        Some(match Extra::of(path, hop)? {
            Extra::Route(route) => Self::Route {
                table: route.table,
                route_type: route_type_name(route.route_type),
                out: route.device.as_ref().and_then(device_name),
                source: route.source,
                error: route.error,
            },
            Extra::TargetCpu(target_cpu) => Self::TargetCpu { target_cpu },
            Extra::Device(device) => {
                Self::Device { device: device_name(device), ifindex: device.ifindex, netns: device.netns }
            }
            // The path says it.
            Extra::Dropped(_) => return None,
        })
    }
}

/// A device's name, if it was announced.
pub(super) fn device_name(device: &Device) -> Option<Shown<Printable<'_>>> {
    device.name.as_deref().map(|name| Shown(Printable(name.as_bytes())))
}

impl<'a> Entry<'a> {
    fn of(hop: &Hop, start_ns: u64, path: &'a Path, coverage: &'a Coverage) -> Self {
        Self {
            hop: hop.point.row().hop,
            function: coverage.attached(hop.point).map(|attached| attached.function.as_str()),
            backend: hop.backend.name(),
            cpu: hop.cpu,
            ns: hop.time_ns.saturating_sub(start_ns),
            extra: Beside::of(path, hop),
        }
    }
}
