//! A variant while it is attached.

use std::{process, time::Duration};

use anyhow::{Result, bail};
use xtask::bench::lines::Tracer;

use crate::{
    bpftrace, ours,
    process::{Ended, Running, Started},
    target::Target,
    tcpdump,
    variant::Variant,
    yardstick::Yardstick,
};

/// How often it is looked after what others trace.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// How often records are taken: as often as pathtrace does.
const DRAIN: Duration = Duration::from_millis(1);

/// It is attached. Dropping it detaches it.
pub(crate) enum Attached {
    /// Programs of this process.
    Here(Box<Yardstick>),
    /// Another process.
    There(Variant, Running),
}

/// What came of attaching.
pub(crate) enum Beginning {
    Attached(Attached),
    /// It cannot be measured here, and why.
    Unavailable(String),
}

impl Attached {
    /// Attaches, and returns when it traces.
    pub(crate) fn start(variant: Variant, target: &Target) -> Result<Beginning> {
        let started = match variant {
            Variant::Empty | Variant::One | Variant::Bare => {
                let kind = if variant == Variant::Bare { "bare" } else { "empty" };
                let takes = |point| variant != Variant::One || point == target.first_seen();
                let yardstick = Yardstick::attach(kind, target, takes)?;
                return Ok(Beginning::Attached(Self::Here(Box::new(yardstick))));
            }
            Variant::Json | Variant::JsonAny | Variant::Summary | Variant::Sample | Variant::Excluded => {
                ours::start(variant, target)?
            }
            Variant::BpftracePrint | Variant::BpftraceCount => bpftrace::start(variant, target)?,
            Variant::Tcpdump => tcpdump::start(target)?,
        };
        Ok(match started {
            Started::Ready(running) => Beginning::Attached(Self::There(variant, running)),
            Started::Refused(said) if ours::must_start(variant) => bail!("pathtrace does not start: {said}"),
            Started::Refused(said) => Beginning::Unavailable(why(&said)),
        })
    }

    /// Whose programs are in the kernel.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Here(_) => process::id(),
            Self::There(_, running) => running.pid(),
        }
    }

    /// CPU time that its process has used so far.
    pub(crate) fn cpu_ns(&self) -> Result<Option<u64>> {
        match self {
            Self::Here(_) => Ok(None),
            Self::There(_, running) => running.cpu_ns_so_far().map(Some),
        }
    }

    /// Does what has to be done now and then; returns how long that has time.
    pub(crate) fn look(&mut self) -> Duration {
        match self {
            Self::There(..) => LOOK,
            Self::Here(yardstick) => {
                yardstick.drain();
                DRAIN
            }
        }
    }

    /// Detaches. What is said of a process of its own has no round and no names yet.
    pub(crate) fn end(self) -> Result<Option<Tracer>> {
        let Self::There(variant, running) = self else { return Ok(None) };
        let ended = running.end()?;
        let tracer = common(&ended);
        Ok(Some(match variant {
            Variant::BpftracePrint | Variant::BpftraceCount => bpftrace::add(tracer, variant, &ended)?,
            Variant::Tcpdump => tcpdump::add(tracer, &ended)?,
            _ => ours::add(tracer, &ended)?,
        }))
    }
}

/// What can be said of any process.
fn common(ended: &Ended) -> Tracer {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Tracer {
        ready_ns: ns(ended.ready),
        traced_ns: ns(ended.traced),
        exit_ns: ns(ended.exit),
        cpu_ns: ended.cpu_ns,
        peak_bytes: ended.peak_bytes,
        output_bytes: ended.files.output().metadata().map_or(0, |file| file.len()),
        ..Tracer::default()
    }
}

/// Why a program has failed: what it calls an error, or what it said first.
fn why(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next().unwrap_or("it says nothing");
    lines.find(|line| line.starts_with("error: ")).unwrap_or(first).to_owned()
}
