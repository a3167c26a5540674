//! The work that is done while somebody traces, and how long it takes.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail};
use pathtrace::workload::{self, Ends, Link, Pair, Report, Shape};

use crate::{
    crowd::Crowd,
    group::{Group, Job, Kind, Over},
    places::Places,
    redis::{self, Redis},
    target::Target,
};

/// How long each piece of work takes, roughly.
const MEASURED: Duration = Duration::from_millis(150);
/// Messages from which the time of one is estimated.
const TRIAL: u32 = 100;
/// Messages before each measurement, which are not counted.
const WARM_UP: u32 = 100;
/// So many at least: of fewer there is no 99th percentile.
const LEAST: u32 = 200;
/// So many at most: their moments are kept.
const MOST: u32 = 500_000;
/// How long a piece of work may take beyond that.
const PATIENCE: Duration = Duration::from_secs(60);
/// Turns from which the time of one is estimated, over many connections.
const TRIAL_TURNS: u32 = 20;
/// So many at least.
const LEAST_TURNS: u32 = 40;
/// The processes' names (`workload::processes`).
pub(crate) const PROCESSES: [&str; 2] = ["pathtrace-ask", "pathtrace-reply"];

/// Two pairs of processes, with their connections: on one CPU, and on two. What else is needed is started when it is.
pub(crate) struct Traffic {
    places: Places,
    together: Side,
    apart: Side,
    crowd: Option<Crowd>,
    redis: Option<Redis>,
}

struct Side {
    ends: Ends,
    port: u16,
    name: String,
}

/// What came out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    /// With those that came before and were not measured.
    pub(crate) seen: u64,
    pub(crate) ns: u64,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl Traffic {
    /// Connects and forks: nothing may have started a thread before.
    pub(crate) fn start(places: Places) -> Result<Self> {
        let together = Side::start(places.work, places.work)?;
        let apart = Side::start(places.work, places.other)?;
        together.ends.heed_signals().context("cannot listen for signals")?;
        Ok(Self { places, together, apart, crowd: None, redis: None })
    }

    /// Starts what the works of a group need and is not there yet; says what a tracer is to look at.
    pub(crate) fn prepare(&mut self, group: Group) -> Result<Target> {
        let cpu = self.places.work;
        match group {
            Group::Connections => {
                let crowd = match &mut self.crowd {
                    Some(crowd) => crowd,
                    none => none.insert(Crowd::connect(cpu).context("cannot connect many times")?),
                };
                Ok(Target::of_port(crowd.port(), &PROCESSES))
            }
            Group::Redis => {
                let redis = match &mut self.redis {
                    Some(redis) => redis,
                    none => none.insert(Redis::start(cpu)?),
                };
                Ok(Target::of_port(redis.port(), &redis::PROCESSES))
            }
            _ => Ok(self.target(group)),
        }
    }

    /// The connections that were made at the start.
    fn target(&self, group: Group) -> Target {
        let sides = [&self.together, &self.apart];
        let works = group.works();
        let goes_over = |over| works.iter().any(|work| work.over == over);
        let ports = if goes_over(Over::Tcp) { sides.map(|side| side.port).to_vec() } else { Vec::new() };
        let names = if ports.is_empty() { sides.map(|side| side.name.clone()).to_vec() } else { Vec::new() };
        Target { ports, names, processes: &PROCESSES }
    }

    /// The same for one piece of work.
    pub(crate) fn target_of(&self, work: Job) -> Target {
        let side = if work.apart { &self.apart } else { &self.together };
        match work.over {
            Over::Tcp => Target::of_port(side.port, &PROCESSES),
            Over::Unix => Target { ports: Vec::new(), names: vec![side.name.clone()], processes: &PROCESSES },
        }
    }

    /// Does it. `look` is called again and again meanwhile, and says how long to wait then.
    pub(crate) fn work(&mut self, work: Job, look: &mut dyn FnMut() -> Duration) -> Result<Figures> {
        match work.kind {
            Kind::Crowd => {
                let crowd = self.crowd.as_ref().context("many connections were not prepared")?;
                let trial = crowd.turns(TRIAL_TURNS)?;
                let each = trial.ns / u64::from(TRIAL_TURNS);
                let figures = crowd.turns(fitting(MEASURED, each.max(1)).max(LEAST_TURNS))?;
                Ok(Figures { seen: figures.seen + trial.seen, ..figures })
            }
            Kind::Requests => self.redis.as_ref().context("redis was not prepared")?.requests(),
            _ => {
                let trial = self.job(work, TRIAL, look)?;
                let figures = self.job(work, fitting(MEASURED, trial.each_ns()), look)?;
                Ok(Figures { seen: figures.seen + trial.seen, ..figures })
            }
        }
    }

    /// So many messages.
    pub(crate) fn job(
        &mut self,
        work: Job,
        count: u32,
        look: &mut dyn FnMut() -> Duration,
    ) -> Result<Figures> {
        let job = job_of(work, count);
        let report = self.side(work).run(job, look)?;
        figures(work, job, &report)
    }

    fn side(&mut self, work: Job) -> &mut Side {
        if work.apart { &mut self.apart } else { &mut self.together }
    }
}

impl Side {
    fn start(client: usize, server: usize) -> Result<Self> {
        let tcp = Pair::connect(Link::Tcp, None).context("cannot connect over TCP")?;
        let unix = Pair::connect(Link::Unix, None).context("cannot connect over a UNIX socket")?;
        let port = tcp.port().context("a TCP connection has no port")?;
        let name = unix.name().context("a UNIX connection has no name")?;
        let name = String::from_utf8(name.to_vec()).context("the name of a socket is no text")?;
        // SAFETY: `main` calls this before anything that starts a thread.
        let ends = unsafe { Ends::start(vec![tcp, unix], Some(client), Some(server)) };
        Ok(Self { ends: ends.context("cannot start two processes")?, port, name })
    }

    fn run(&mut self, job: workload::Job, look: &mut dyn FnMut() -> Duration) -> io::Result<Report> {
        self.ends.begin(job)?;
        self.ends.wait(job, PATIENCE, look)
    }
}

/// The place of a connection in the list that its processes were given.
fn job_of(work: Job, count: u32) -> workload::Job {
    let pair = match work.over {
        Over::Tcp => 0,
        Over::Unix => 1,
    };
    let shape = if work.kind == Kind::Stream { Shape::Stream } else { Shape::RoundTrips };
    workload::Job { pair, shape, bytes: work.bytes, count, warm_up: WARM_UP }
}

fn fitting(time: Duration, each_ns: u64) -> u32 {
    let count = time.as_nanos() / u128::from(each_ns.max(1));
    u32::try_from(count).unwrap_or(MOST).clamp(LEAST, MOST)
}

fn figures(work: Job, job: workload::Job, report: &Report) -> Result<Figures> {
    let seen = u64::from(job.count) + u64::from(job.warm_up);
    if work.kind == Kind::Stream {
        let (Some(begun), Some(had)) = (report.client.first(), report.server.first()) else {
            bail!("a stream had no end");
        };
        let count = u64::from(job.count);
        let bytes = Some(count * u64::from(work.bytes));
        return Ok(Figures { count, seen, ns: had.saturating_sub(*begun), bytes, ..Figures::default() });
    }
    let trips = report.client.windows(2).map(|moments| moments[1] - moments[0]).collect();
    Ok(Figures { seen, ..Figures::of_round_trips(trips) })
}

impl Figures {
    /// Of how long each took, ns.
    pub(crate) fn of_round_trips(mut trips: Vec<u64>) -> Self {
        trips.sort_unstable();
        let last = trips.len().saturating_sub(1);
        let at = |hundredth: usize| trips.get((trips.len() * hundredth / 100).min(last)).copied();
        let count = trips.len() as u64;
        Self { count, seen: count, ns: trips.iter().sum(), p50_ns: at(50), p99_ns: at(99), bytes: None }
    }

    /// How long one takes, ns.
    fn each_ns(&self) -> u64 {
        self.p50_ns.unwrap_or(self.ns / self.count.max(1)).max(1)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds()
    }

    pub(crate) fn bytes_per_second(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes as f64 / self.seconds())
    }

    fn seconds(&self) -> f64 {
        self.ns.max(1) as f64 / 1e9
    }
}
