//! Comparing with traffic of our own.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    cpus,
    measure::{self, Cell, LOOK, Pace, jobs, stamps},
};
use crate::{
    analyze::LatencyTable,
    cli::CompareArgs,
    collect::Sockmap,
    commands::{
        Failure,
        tracer::{Traced, Tracer},
    },
    comparison::{AtSize, Comparison, Measured, Messages, Run, ShortCut, Stream},
    filter::{Filter, UnixName},
    model::Path,
    workload::{Ends, Link, Pair, stop_signal},
};

/// Each connection is measured so often, in turn with the others, so that what else the machine does meets all alike.
const ROUNDS: u32 = 5;
/// How long round trips are measured unless the user says otherwise.
const USUAL: Duration = Duration::from_secs(1);
/// How many round trips are traced at most: medians need no more, and the paths are kept meanwhile.
const TRACED: u32 = 1_000;
/// How long the tracer waits between two looks at its buffer.
const DRAIN: Duration = Duration::from_millis(1);

/// Measures, traces, and says what came out.
pub(super) fn compare(args: &CompareArgs) -> Result<Comparison, Failure> {
    let cpus = cpus::choose(args.cpus)?;
    let mut links = vec![Link::Tcp, Link::Unix];
    for link in &args.with {
        if !links.contains(link) {
            links.push(*link);
        }
    }
    let Connected { pairs, mut left_out, sockmap } = connect(&links)?;
    let links: Vec<Link> = pairs.iter().map(Pair::link).collect();
    let filter = filter_of(&pairs)?;

    // SAFETY: nothing before has started a thread, and the event loop that others use is not made here.
    let ends = unsafe { Ends::start(pairs, cpus.client, cpus.server) };
    let mut ends = ends.map_err(|source| Failure::System { what: "start two processes", source })?;
    ends.heed_signals().map_err(|source| Failure::System { what: "listen for signals", source })?;
    cpus::stay_away(cpus).map_err(|source| Failure::System { what: "choose a CPU", source })?;

    let mut sizes: Vec<AtSize> = Vec::new();
    for bytes in &args.sizes {
        if sizes.iter().any(|size| size.bytes == Some(*bytes)) {
            continue;
        }
        let fits = |link: &Link| link.largest().is_none_or(|largest| *bytes <= largest);
        for link in links.iter().filter(|link| !fits(link)) {
            left_out.push((*link, format!("{bytes} bytes are more than one datagram holds")));
        }
        let runs = links.iter().copied().filter(fits).map(empty).collect();
        sizes.push(AtSize { bytes: Some(*bytes), runs });
    }
    let progress = progress(args.engine.quiet, &sizes);
    let paces = measure(args, &mut ends, &links, &mut sizes, &mut left_out, &progress)?;

    let mut tracer = Tracer::attach(&args.engine, filter)?;
    if let Some(signal) = stop_signal() {
        return Err(Failure::Interrupted { signal });
    }
    let mut latencies = LatencyTable::default();
    for (size, paces) in sizes.iter_mut().zip(&paces) {
        for (run, pace) in size.runs.iter_mut().zip(paces) {
            if run.link.is_traced() {
                let cell = Cell { pair: place(&links, run.link), bytes: size.bytes.unwrap_or(1) };
                let sockmap = sockmap.as_ref().filter(|_| run.link == Link::Sockmap);
                trace(&mut tracer, &mut ends, cell, *pace, run, sockmap, &mut latencies)?;
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    drop(ends);
    drop(sockmap);
    let Traced { coverage, trust, .. } = tracer.end()?;
    Ok(Comparison { cpus, sizes, not_kept: 0, left_out, coverage, trust, latencies })
}

/// What could be connected, and what could not, and why.
struct Connected {
    pairs: Vec<Pair>,
    left_out: Vec<(Link, String)>,
    /// What goes past the network, if that was asked for.
    sockmap: Option<Sockmap>,
}

/// TCP and UNIX are what is compared; others are beside them.
fn connect(links: &[Link]) -> Result<Connected, Failure> {
    let mut connected = Connected { pairs: Vec::new(), left_out: Vec::new(), sockmap: None };
    for link in links {
        let pair = match link {
            Link::Tcp | Link::Unix => Ok(Pair::connect(*link, None).map_err(failed(*link))?),
            Link::Sockmap => short_cut().map(|(pair, sockmap)| {
                connected.sockmap = Some(sockmap);
                pair
            }),
            link => Pair::connect(*link, None).map_err(|error| error.to_string()),
        };
        match pair {
            Ok(pair) => connected.pairs.push(pair),
            Err(why) => connected.left_out.push((*link, why)),
        }
    }
    Ok(connected)
}

/// TCP whose messages go past the network; an error says in words why not.
fn short_cut() -> Result<(Pair, Sockmap), String> {
    let in_words = |error: io::Error| error.to_string();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .map_err(in_words)?
        .port();
    let sockmap = Sockmap::attach(port).map_err(|error| error.to_string())?;
    // A socket belongs to the cgroup in which it is made. The sockets of other links do not mind.
    fs::write(sockmap.cgroup_procs(), "0").map_err(in_words)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(in_words)?;
    let pair = Pair::connect(Link::Sockmap, Some(listener)).map_err(in_words)?;
    Ok((pair, sockmap))
}

/// Only what these connections carry.
fn filter_of(pairs: &[Pair]) -> Result<Filter, Failure> {
    let ports = pairs.iter().filter_map(Pair::port).collect();
    let names = pairs.iter().filter_map(Pair::name).map(UnixName::of_abstract).collect();
    Ok(Filter::either(ports, names)?)
}

fn empty(link: Link) -> Run {
    Run {
        link,
        untraced: Some(Measured::default()),
        stream: None,
        traced: None,
        messages: None,
        short_cut: None,
    }
}

/// The place of a link's connection in the list that both processes have.
fn place(links: &[Link], link: Link) -> u32 {
    (0..).zip(links).find(|(_, one)| **one == link).map_or(0, |(at, _)| at)
}

fn failed(link: Link) -> impl FnOnce(io::Error) -> Failure {
    move |source| match stop_signal() {
        Some(signal) => Failure::Interrupted { signal },
        None => Failure::Exchange { link, source },
    }
}

/// Measures everything while nothing is traced: of each size and run, in this order, how long its messages take. A link
/// beside TCP and UNIX whose messages are lost is left out from there on.
fn measure(
    args: &CompareArgs,
    ends: &mut Ends,
    links: &[Link],
    sizes: &mut [AtSize],
    left_out: &mut Vec<(Link, String)>,
    progress: &ProgressBar,
) -> Result<Vec<Vec<Pace>>, Failure> {
    let mut all = Vec::with_capacity(sizes.len());
    for size in sizes {
        let bytes = size.bytes.unwrap_or(1);
        let cell = |link| Cell { pair: place(links, link), bytes };
        let mut paces = Vec::with_capacity(size.runs.len());
        let mut runs = Vec::with_capacity(size.runs.len());
        for run in size.runs.drain(..) {
            match cell(run.link).pace(ends, run.link.is_reliable()) {
                Ok(pace) => {
                    paces.push(pace);
                    runs.push(run);
                }
                // Both ends have given up, so the connection can be used again.
                Err(error) if !run.link.is_reliable() && error.raw_os_error() == Some(libc::EAGAIN) => {
                    left_out.push((run.link, format!("a message of {bytes} bytes was lost")));
                }
                Err(error) => return Err(failed(run.link)(error)),
            }
        }
        size.runs = runs;
        for round in 0..ROUNDS {
            for (run, pace) in size.runs.iter_mut().zip(&paces) {
                a_round(args, ends, cell(run.link), run, *pace, round).map_err(failed(run.link))?;
                progress.inc(1);
            }
        }
        all.push(paces);
    }
    Ok(all)
}

/// Measures a run for its part of the time.
fn a_round(
    args: &CompareArgs,
    ends: &mut Ends,
    cell: Cell,
    run: &mut Run,
    pace: Pace,
    round: u32,
) -> io::Result<()> {
    let time = args.duration.unwrap_or(USUAL) / ROUNDS;
    let count = match args.count {
        // The first rounds have one more where they cannot all have as many.
        Some(count) => u64::from(count / ROUNDS + u32::from(round < count % ROUNDS)),
        None => pace.round_trips(time),
    };
    for count in jobs(count) {
        let report = cell.round_trips(ends, count, pace.round_trip(), || LOOK)?;
        measure::add(run.untraced.get_or_insert_default(), &stamps(&report));
    }
    for count in pace.messages(time / 2).into_iter().flat_map(jobs) {
        let stream = cell.stream(ends, count, pace.round_trip())?;
        run.stream = Some(run.stream.map_or(stream, |sum| sum.and(stream)));
    }
    Ok(())
}

/// Does the same again while it is traced.
fn trace(
    tracer: &mut Tracer,
    ends: &mut Ends,
    cell: Cell,
    pace: Pace,
    run: &mut Run,
    sockmap: Option<&Sockmap>,
    latencies: &mut LatencyTable,
) -> Result<(), Failure> {
    let count = u32::try_from(pace.round_trips(USUAL)).map_or(TRACED, |count| count.min(TRACED));
    let delivered = || sockmap.and_then(|map| map.delivered_bytes().ok());
    let before = delivered();
    let mut shown = Ok(());
    let report = cell.round_trips(ends, count, pace.round_trip(), || {
        shown = tracer.pump();
        DRAIN
    });
    let report = report.map_err(failed(run.link))?;
    shown?;
    let (stamps, paths): (_, Vec<Path>) = (stamps(&report), tracer.settle()?);
    for path in &paths {
        latencies.add(path);
    }
    run.traced = Some(measure::measured(&stamps));
    if let (Some(before), Some(after)) = (before, delivered()) {
        let packets = paths.iter().filter(|path| path.len > 0).count() as u64;
        // Those that warm up are in it.
        let messages = 2 * (stamps.len() as u64 + u64::from(measure::WARM_UP));
        let sent_bytes = messages * u64::from(cell.bytes);
        run.short_cut = Some(ShortCut { sent_bytes, delivered_bytes: after - before, packets });
    } else {
        run.messages = Some(Messages::of_stamps(stamps.as_flattened(), cell.bytes, &paths));
    }
    Ok(())
}

fn progress(quiet: bool, sizes: &[AtSize]) -> ProgressBar {
    let runs: usize = sizes.iter().map(|size| size.runs.len()).sum();
    let bar = crate::commands::trace::progress_bar(quiet);
    bar.set_length(runs as u64 * u64::from(ROUNDS + 1));
    if let Ok(style) = ProgressStyle::with_template("comparing {bar:24} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

impl Stream {
    /// Both, one after the other.
    fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            ns: self.ns + other.ns,
        }
    }
}
