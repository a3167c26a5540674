//! How long pathtrace takes to see the first path, and to end.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask::bench::lines::Start;

use crate::{
    group::Job,
    ours,
    process::{Files, Running, Started},
    target::Target,
    traffic::Traffic,
    watch::{Waited, Watch},
};

/// How long the first path may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Messages between which it is asked whether the tracer has ended.
const MESSAGES: u32 = 2000;
const LOOK: Duration = Duration::from_millis(20);

/// Starts and ends it while there is traffic.
pub(crate) fn measure(round: u32, work: Job, traffic: &mut Traffic) -> Result<Start> {
    let target = traffic.target_of(work);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let talking = scope.spawn(|| talk(work, traffic, &done));
        let measured = with_traffic(round, work, &target);
        done.store(true, Ordering::Relaxed);
        talking.join().ok().context("the traffic has panicked")??;
        measured
    })
}

/// Keeps messages coming.
fn talk(work: Job, traffic: &mut Traffic, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        traffic.job(work, MESSAGES, &mut || LOOK)?;
    }
    Ok(())
}

fn with_traffic(round: u32, work: Job, target: &Target) -> Result<Start> {
    let files = Files::new()?;
    let mut command = ours::command(&files);
    command.args(target.filter());
    let Started::Ready(mut running) = Running::start(command, files, |files| files.ready().exists())? else {
        bail!("pathtrace does not start");
    };
    let begun = running.begun();
    let ready = begun.elapsed();
    let first_path = first_path(&mut running, begun)?;
    let ended = running.end()?;
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(Start {
        round,
        work: work.to_string(),
        ready_ns: ns(ready),
        first_path_ns: ns(first_path),
        exit_ns: ns(ended.exit),
    })
}

fn first_path(running: &mut Running, begun: Instant) -> Result<Duration> {
    let watch = Watch::folder(running.files().folder())?;
    let output = running.files().output();
    let has_come = || output.metadata().is_ok_and(|file| file.len() > 0);
    match watch.wait(PATIENCE, has_come, || running.has_ended()).context("no path is shown")? {
        Waited::Come => Ok(begun.elapsed()),
        Waited::Over => bail!("pathtrace ended before its first path"),
    }
}
