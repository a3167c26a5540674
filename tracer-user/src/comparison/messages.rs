//! Messages that were followed from one program to the other.

use std::collections::HashMap;

use tracer_common::probes::Point;

use super::Stage;
use crate::{
    analyze::Distribution,
    model::{Hop, Path},
};

/// When a message was sent and when it was there, as the programs saw it: `CLOCK_MONOTONIC`, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Right before the send call.
    pub sent_ns: u64,
    /// Right after the call that read the last byte.
    pub received_ns: u64,
}

impl Stamp {
    /// One way, ns.
    pub fn ns(self) -> u64 {
        self.received_ns.saturating_sub(self.sent_ns)
    }
}

/// How long a message spent in each stage, ns; by `Stage as usize`. `None`: it did not pass it.
type Times = [Option<u64>; Stage::ALL.len()];

/// A message whose whole way was seen.
#[derive(Clone, Debug)]
struct Followed {
    stages: Times,
    /// The hops, each with the time since the one before it, ns.
    steps: Vec<(Point, u64)>,
}

/// The messages of a run.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    sent: u64,
    /// In rising order of their time.
    followed: Vec<Followed>,
    /// Whether any of them came in several packets.
    in_parts: bool,
}

/// The way that most messages took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Way {
    /// The hops, each with the median time since the one before it, ns.
    pub steps: Vec<(Point, u64)>,
    /// Which part of the messages took it, 0 to 1.
    pub share: f64,
}

/// The packets of one message.
#[derive(Default)]
struct Parts<'a> {
    count: u32,
    bytes: u64,
    /// The one that was on its way first.
    first: Option<&'a Path>,
    /// When the last of them was read, ns: the message is there then.
    end_ns: u64,
    /// A packet was lost track of, or sent twice: when the message was there is not known.
    is_broken: bool,
}

impl<'a> Parts<'a> {
    fn add(&mut self, path: &'a Path) {
        self.count += 1;
        self.bytes += u64::from(path.len);
        let is_whole = path.incomplete.is_none()
            && !path.retransmitted
            && path.hops.first().is_some_and(Hop::is_send)
            && path.hops.last().is_some_and(Hop::is_read);
        self.is_broken |= !is_whole;
        // All of one call have its time as the first one.
        let begun = |path: &Path| path.hops.get(1).map(|hop| hop.time_ns);
        if self.first.is_none_or(|first| begun(path) < begun(first)) {
            self.first = Some(path);
        }
        self.end_ns = self.end_ns.max(path.start_ns().saturating_add(path.total_ns()));
    }
}

impl Messages {
    /// Messages of so many bytes, one after the other, in both directions. A packet belongs to the message during which it
    /// began. A message is followed if all its bytes were, and if all of that was between its two moments.
    pub fn of_stamps<'a>(stamps: &[Stamp], bytes: u32, paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut stamps = stamps.to_vec();
        stamps.sort_unstable_by_key(|stamp| stamp.sent_ns);
        let mut parts: Vec<Parts<'_>> = stamps.iter().map(|_| Parts::default()).collect();
        for path in paths.into_iter().filter(|path| path.len > 0) {
            let begun = stamps.partition_point(|stamp| stamp.sent_ns <= path.start_ns());
            let Some(at) = begun.checked_sub(1) else { continue };
            if path.start_ns() <= stamps[at].received_ns {
                parts[at].add(path);
            }
        }
        let whole = stamps.iter().zip(&parts).filter_map(|(stamp, parts)| {
            let path = parts.first.filter(|_| !parts.is_broken && parts.bytes == u64::from(bytes))?;
            (parts.end_ns <= stamp.received_ns).then(|| Followed::between(*stamp, path))
        });
        let in_parts = parts.iter().any(|parts| parts.count > 1);
        Self { in_parts, ..Self::sorted(stamps.len() as u64, whole.collect()) }
    }

    /// Messages of programs that nobody has asked when they sent and received: each send call is one. They are followed
    /// until their reader can read: how long it takes to copy is not known of UNIX sockets, whose hop is where that begins.
    pub fn of_calls<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut calls: HashMap<_, Parts<'_>> = HashMap::new();
        for path in paths.into_iter().filter(|path| path.len > 0) {
            // UNIX paths are messages each; of TCP, several segments may come from one call.
            let socket = path.unix.as_ref().map(|unix| unix.inode);
            let flow = path.flow.map(|flow| (flow.src, flow.dst));
            calls.entry((path.start_ns(), flow, socket)).or_default().add(path);
        }
        let whole = calls.values().filter(|parts| !parts.is_broken).filter_map(|parts| parts.first);
        Self::sorted(calls.len() as u64, whole.map(Followed::until_readable).collect())
    }

    fn sorted(sent: u64, mut followed: Vec<Followed>) -> Self {
        followed.sort_by_key(Followed::ns);
        Self { sent, followed, in_parts: false }
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them were followed: all times are about these.
    pub fn followed(&self) -> u64 {
        self.followed.len() as u64
    }

    /// Whether any came in several packets. Their stages are those of the first one, as all others overlap with it; what is
    /// left of the others is in the last stage.
    pub fn in_parts(&self) -> bool {
        self.in_parts
    }

    /// The messages, one way.
    pub fn one_way(&self) -> Distribution {
        self.followed.iter().map(Followed::ns).collect()
    }

    /// The median time in a stage, ns, 0 for a message that did not pass it; `None` if none did.
    pub fn p50(&self, stage: Stage) -> Option<u64> {
        let times = || self.followed.iter().map(|message| message.stages[stage as usize]);
        times().flatten().next()?;
        median(times().map(Option::unwrap_or_default).collect())
    }

    /// The mean time in each stage, ns, over the middle half of the messages by their whole time, so that the few that were
    /// interrupted do not speak for all; `None` for a stage that no message passed. Means, unlike medians, add up.
    pub fn means(&self) -> [Option<f64>; Stage::ALL.len()] {
        let quarter = self.followed.len() / 4;
        let middle = &self.followed[quarter..self.followed.len() - quarter];
        Stage::ALL.map(|stage| {
            self.followed.iter().find_map(|message| message.stages[stage as usize])?;
            let times = middle.iter().filter_map(|message| message.stages[stage as usize]);
            Some(times.map(|ns| ns as f64).sum::<f64>() / middle.len() as f64)
        })
    }

    /// The way that most of them took; `None` if none was followed.
    pub fn way(&self) -> Option<Way> {
        let mut ways: HashMap<Vec<Point>, Vec<&Followed>> = HashMap::new();
        for message in &self.followed {
            let points = message.steps.iter().map(|(point, _)| *point).collect();
            ways.entry(points).or_default().push(message);
        }
        // Of two that are as frequent always the same one.
        let (points, messages) = ways.into_iter().max_by(|(one, these), (other, those)| {
            these.len().cmp(&those.len()).then_with(|| other.cmp(one))
        })?;
        let steps = points.into_iter().enumerate().map(|(at, point)| {
            let times = messages.iter().map(|message| message.steps[at].1).collect();
            (point, median(times).unwrap_or(0))
        });
        Some(Way { steps: steps.collect(), share: messages.len() as f64 / self.followed.len() as f64 })
    }
}

impl Followed {
    /// From before the send call until after the last byte was read.
    fn between(stamp: Stamp, path: &Path) -> Self {
        let mut followed = Self::until_readable(path);
        followed.stages[Stage::Entry as usize] = Some(path.start_ns() - stamp.sent_ns);
        followed.stages[Stage::Read as usize] = Some(stamp.ns().saturating_sub(followed.ns()));
        followed
    }

    /// Without its last stage.
    fn until_readable(path: &Path) -> Self {
        let mut stages = Times::default();
        for pair in path.hops.windows(2) {
            let stage = Stage::of_step(pair[0].point, pair[1].point);
            if stage != Stage::Read {
                let spent = pair[1].time_ns.saturating_sub(pair[0].time_ns);
                let time = stages[stage as usize].get_or_insert(0);
                *time = time.saturating_add(spent);
            }
        }
        Self { stages, steps: path.steps().map(|(hop, since)| (hop.point, since)).collect() }
    }

    fn ns(&self) -> u64 {
        self.stages.iter().flatten().fold(0, |sum, ns| sum.saturating_add(*ns))
    }
}

fn median(mut times: Vec<u64>) -> Option<u64> {
    let middle = times.len().checked_sub(1)? / 2;
    Some(*times.select_nth_unstable(middle).1)
}
