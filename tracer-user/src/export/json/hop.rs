//! The hops of a path.

use std::{io, net::IpAddr};

use serde::Serialize;
use serde_json::Value;
use tracer_common::probes::{Backend, Point};

use super::{Text, add_fields};
use crate::{
    export::{Extra, Printable, route_type_name},
    model::{Coverage, Device, Hop, Path},
};

/// Writes hops. Most of a hop's text is what its place is called, so that is put into JSON once.
#[derive(Debug)]
pub(super) struct HopWriter {
    /// How an object begins, by `Point as usize` and `Backend as usize`.
    places: Vec<[String; Backend::ALL.len()]>,
}

impl HopWriter {
    pub(super) fn new(coverage: &Coverage) -> Self {
        let place = |point: Point, backend: Backend| {
            let function = coverage.attached(point).map(|attached| attached.function.as_str());
            let [hop, function, backend] =
                [Value::from(point.row().hop), Value::from(function), Value::from(backend.name())];
            format!(r#"{{"hop":{hop},"function":{function},"backend":{backend},"cpu":"#)
        };
        let places = Point::ALL.iter().map(|point| Backend::ALL.map(|backend| place(*point, backend)));
        Self { places: places.collect() }
    }

    /// Writes the list of a path's hops.
    pub(super) fn write(&self, path: &Path, out: &mut Vec<u8>) -> io::Result<()> {
        let start_ns = path.start_ns();
        out.push(b'[');
        for (index, hop) in path.hops.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.places[hop.point as usize][hop.backend as usize].as_bytes());
            serde_json::to_writer(&mut *out, &hop.cpu)?;
            out.extend_from_slice(b",\"ns\":");
            serde_json::to_writer(&mut *out, &hop.time_ns.saturating_sub(start_ns))?;
            if let Some(beside) = Beside::of(path, hop) {
                add_fields(&beside, out)?;
            }
            out.push(b'}');
        }
        out.push(b']');
        Ok(())
    }
}

/// What a hop says beside.
#[derive(Serialize)]
#[serde(untagged)]
enum Beside<'a> {
    Route {
        table: u32,
        route_type: Option<&'static str>,
        out: Option<Text<'a>>,
        source: Option<IpAddr>,
        error: i32,
    },
    TargetCpu {
        target_cpu: u32,
    },
    Device {
        device: Option<Text<'a>>,
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
pub(super) fn device_name(device: &Device) -> Option<Text<'_>> {
    device.name.as_deref().map(|name| Text(Printable(name.as_bytes())))
}
