//! Comparing what the user's own programs send.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use crate::{
    analyze::Summary,
    cli::{CompareArgs, FilterArgs, TraceArgs},
    commands::{Failure, Outcome, prepare::prepare, say, trace::trace, wanted::port},
    comparison::{AtSize, Comparison, Cpus, Messages, Run},
    filter::{Filter, UnixName},
    model::{Path, Protocol},
    render::PathWriter,
    session::Output,
    workload::Link,
};

/// Packets with data that are kept of each link: enough for figures, and an end to the memory that they take.
const MOST: usize = 20_000;

/// Traces while the command runs, or for a time, or until somebody says stop.
pub(super) fn compare(
    args: &CompareArgs,
    tcp: &str,
    unix: &UnixName,
) -> Result<(Comparison, Outcome), Failure> {
    let filter = Filter::either(vec![port("--tcp", tcp)?], vec![unix.clone()])?;
    let traced_as = trace_args(args);
    prepare(&traced_as, None)?;
    let found = Rc::new(RefCell::new(None));
    let open = |_: &_, _| {
        let writer = Box::new(Gatherer { found: Rc::clone(&found), ..Gatherer::default() });
        // The command's own output must not come between ours.
        Ok(Output { writer, to: Box::new(io::sink()), is_stdout: true })
    };
    let outcome = trace(&traced_as, filter, 0, open, None)?;
    // Whatever ends a trace, its summary is written.
    let comparison = found.take().ok_or_else(|| Failure::Output(io::ErrorKind::UnexpectedEof.into()))?;
    let unseen = comparison.sizes.iter().flat_map(|size| &size.runs);
    let unseen: Vec<Link> = unseen
        .filter(|run| run.messages.as_ref().is_none_or(|all| all.sent() == 0))
        .map(|run| run.link)
        .collect();
    for link in &unseen {
        let what = if *link == Link::Tcp {
            format!("TCP with port {tcp}")
        } else {
            format!("UNIX sockets of {unix}")
        };
        say(&format!(
            "pathtrace: no data was sent over {what} while it was traced, so there is nothing to compare\n"
        ));
    }
    let outcome = if outcome == Outcome::Done && !unseen.is_empty() { Outcome::Unknown } else { outcome };
    Ok((comparison, outcome))
}

fn trace_args(args: &CompareArgs) -> TraceArgs {
    let engine = &args.engine;
    TraceArgs {
        filters: FilterArgs::default(),
        count: None,
        duration: args.duration,
        exec: args.exec.clone(),
        backend: engine.backend,
        buffer_size: engine.buffer_size,
        btf: engine.btf.clone(),
        ready_file: args.ready_file.clone(),
        strict: false,
        audit: false,
        sample: None,
        quiet: engine.quiet,
        verbose: engine.verbose,
    }
}

/// Keeps what carries data, and at the end makes a comparison of it.
#[derive(Default)]
struct Gatherer {
    tcp: Vec<Path>,
    unix: Vec<Path>,
    /// How many were not kept.
    more: u64,
    found: Rc<RefCell<Option<Comparison>>>,
}

impl PathWriter for Gatherer {
    fn path(&mut self, path: &Path, _: &mut dyn Write) -> io::Result<()> {
        let is_tcp = path.flow.is_some_and(|flow| flow.protocol == Protocol::Tcp);
        let to = match (is_tcp, path.unix.is_some()) {
            _ if path.len == 0 => return Ok(()),
            (true, _) => &mut self.tcp,
            (false, true) => &mut self.unix,
            (false, false) => return Ok(()),
        };
        if to.len() < MOST {
            to.push(path.clone());
        } else {
            self.more += 1;
        }
        Ok(())
    }

    fn summary(&mut self, summary: &Summary<'_>, _: &mut dyn Write) -> io::Result<()> {
        let run = |link, paths: &[Path]| Run {
            link,
            untraced: None,
            stream: None,
            traced: None,
            messages: Some(Messages::of_calls(paths)),
            short_cut: None,
        };
        let runs = vec![run(Link::Tcp, &self.tcp), run(Link::Unix, &self.unix)];
        self.found.replace(Some(Comparison {
            cpus: Cpus::default(),
            not_kept: self.more,
            sizes: vec![AtSize { bytes: None, runs }],
            left_out: Vec::new(),
            coverage: summary.coverage.clone(),
            trust: summary.trust.clone(),
            latencies: summary.table.clone(),
        }));
        Ok(())
    }
}
