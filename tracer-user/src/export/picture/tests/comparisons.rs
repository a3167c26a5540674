//! Comparisons that are hard to draw.

use crate::{
    analyze::{Distribution, samples as paths},
    comparison::{AtSize, Comparison, Measured, Messages, Run, samples},
    export::picture::Facts,
    model::Path,
    workload::Link,
};

/// What the hostile names try.
pub(super) const SCRIPT: &str = "</style><script>document.title = 'taken'</script>";

pub(super) fn conclusions() -> Vec<String> {
    let why = "A message over UNIX is there in half the time that TCP takes. Most of the gap is the way down through \
               routing, the device layer and the input queue, which a UNIX socket does not have: it puts the message \
               right into the reader’s queue.";
    vec![
        why.to_owned(),
        format!("Hostile: {SCRIPT}\nand a second line with a\u{1b}[31m control & an ampersand."),
    ]
}

pub(super) fn facts(conclusions: &[String]) -> Facts<'_> {
    Facts {
        kernel: "Linux 6.18.44+deb13-amd64",
        time: "2025-06-07 12:34:56 UTC",
        command: "pathtrace compare --sizes 100,1024,102400 --html compare.html",
        conclusions,
    }
}

/// Times as they are: most near the middle, few that take far longer.
fn spread(middle_ns: u64) -> Distribution {
    let usual = |at: u64| middle_ns + middle_ns * (at * at % 997) / 2_500;
    (0..2_000).map(|at| if at % 90 == 0 { usual(at) * (2 + at % 7) } else { usual(at) }).collect()
}

fn slower(mut path: Path, times: u64) -> Path {
    let start = path.start_ns();
    for hop in &mut path.hops {
        hop.time_ns = start + (hop.time_ns - start) * times;
    }
    path
}

fn run(link: Link, path: &Path, times: u64, round_trip_ns: u64) -> Run {
    let measured = |ns| Measured { round_trip: spread(ns), one_way: spread(ns / 2) };
    Run {
        untraced: Some(measured(round_trip_ns)),
        traced: Some(measured(round_trip_ns * 3 / 2)),
        ..samples::run(link, &slower(path.clone(), times), round_trip_ns)
    }
}

/// TCP, UNIX, UDP and a pair of sockets, in three sizes; with 100 KB datagrams left out, and no message followed.
pub(super) fn four_kinds() -> Comparison {
    let at = |bytes, times, round_trip_ns: u64| AtSize {
        bytes: Some(bytes),
        runs: vec![
            run(Link::Tcp, &paths::tcp_woken(), times, round_trip_ns),
            run(Link::Unix, &paths::unix(), times, round_trip_ns / 2),
            run(Link::Udp, &paths::udp(), times, round_trip_ns * 3 / 4),
            run(Link::SocketPair, &paths::unix(), times, round_trip_ns / 20),
        ],
    };
    let mut large = at(102_400, 900, 50_000_000);
    large.runs[2] =
        Run { untraced: None, stream: None, traced: None, messages: None, short_cut: None, link: Link::Udp };
    large.runs[3].messages = Some(Messages::default());
    Comparison { sizes: vec![at(100, 1, 20_000), at(1_024, 1, 24_000), large], ..samples::comparison() }
}

/// All there are: five that are traced, and pipes.
pub(super) fn every_kind() -> Comparison {
    let mut runs = vec![
        run(Link::Tcp, &paths::tcp_woken(), 1, 20_000),
        run(Link::Unix, &paths::unix(), 1, 12_345),
        run(Link::Udp, &paths::udp(), 1, 19_000),
        run(Link::SocketPair, &paths::unix(), 2, 11_000),
        run(Link::Pipe, &paths::unix(), 1, 9_000),
        run(Link::Sockmap, &paths::tcp_woken(), 3, 17_000),
    ];
    runs[4].messages = None;
    runs[4].traced = None;
    Comparison {
        sizes: vec![AtSize { bytes: Some(1_048_576), runs }],
        left_out: vec![(Link::Sockmap, format!("{SCRIPT} {}", "why ".repeat(80)))],
        ..samples::comparison()
    }
}

/// What somebody's own programs do: nobody has asked them how long it took.
pub(super) fn own_traffic() -> Comparison {
    let paths = [(Link::Tcp, paths::tcp_woken()), (Link::Unix, paths::unix())];
    let run = |(link, path): &(Link, Path)| {
        let mut other = slower(path.clone(), 3);
        other.hops.iter_mut().for_each(|hop| hop.time_ns += 1_000_000);
        let messages = Some(Messages::of_calls([path, &other]));
        Run { link: *link, untraced: None, stream: None, traced: None, short_cut: None, messages }
    };
    Comparison {
        sizes: vec![AtSize { bytes: None, runs: paths.iter().map(run).collect() }],
        left_out: Vec::new(),
        ..samples::comparison()
    }
}

/// Nothing that could be drawn.
pub(super) fn nothing() -> Comparison {
    let run =
        |link, messages| Run { link, untraced: None, stream: None, traced: None, short_cut: None, messages };
    let empty = vec![
        run(Link::Tcp, Some(Messages::default())),
        run(Link::Unix, Some(Messages::default())),
        run(Link::Pipe, None),
    ];
    let sizes = vec![AtSize { bytes: None, runs: Vec::new() }, AtSize { bytes: Some(1), runs: empty }];
    Comparison { sizes, ..samples::comparison() }
}
