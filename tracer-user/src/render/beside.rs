//! What stands behind a hop: only what its reader has not been told at the hop before.

use std::fmt;

use super::{
    paint::{Paint, Tone},
    subject::{Answer, DeviceName, Reason},
};
use crate::{
    export::{Extra, route_type_name},
    model::{Device, Hop, Path, Route},
};

/// What hops say, one after the other.
pub(super) struct News<'a> {
    path: &'a Path,
    /// The device that was named last.
    device: Option<&'a Device>,
}

/// What one hop says.
pub(super) struct Said<'a> {
    pub(super) extra: Extra<'a>,
    /// The network namespace that its device is in, if the device before was in another one.
    pub(super) entered: Option<u32>,
}

impl<'a> News<'a> {
    /// Of a path whose first device has been named.
    pub(super) fn of(path: &'a Path) -> Self {
        Self { path, device: path.device() }
    }

    /// What the next hop of the path says, if it is new.
    pub(super) fn at(&mut self, hop: &Hop) -> Option<Said<'a>> {
        let extra = Extra::of(self.path, hop)?;
        let mut entered = None;
        if let Extra::Device(on) = extra {
            let before = self.device.replace(on);
            if before == Some(on) {
                return None;
            }
            entered = before.filter(|before| before.netns != on.netns).map(|_| on.netns);
        }
        Some(Said { extra, entered })
    }
}

/// What a hop says, at length.
pub(super) struct Beside<'a> {
    pub(super) said: Said<'a>,
    pub(super) paint: Paint,
}

impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said.extra {
            Extra::Route(route) => write_route(route, f),
            Extra::TargetCpu(cpu) => write!(f, "to CPU {cpu}"),
            Extra::Device(device) => {
                write!(f, "dev {}", DeviceName(device))?;
                self.said.entered.map_or(Ok(()), |netns| write!(f, " in netns {netns}"))
            }
            Extra::Dropped(dropped) => {
                self.paint.tone(Tone::Alarm, format_args!("DROPPED: {}", Reason(dropped))).fmt(f)
            }
        }
    }
}

fn write_route(route: &Route, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "table {}", Answer(route))?;
    if route.error != 0 {
        return Ok(());
    }
    if let Some(name) = route_type_name(route.route_type) {
        write!(f, " type {name}")?;
    }
    route.source.map_or(Ok(()), |source| write!(f, " src {source}"))
}
