//! Traffic of our own past everything that is attached: a symbol can be attached and never called, as where the compiler
//! put the function into its callers.

use std::time::{Duration, Instant};

use tracer_common::probes::Point;

use super::tally::Tally;
use crate::{
    collect::{CollectError, Collector},
    diagnosis::{Exercise, SelfTest, exercise},
    workload::Workload,
};

/// How long the traffic may go on. Where every point fires it takes milliseconds.
const TIME: Duration = Duration::from_secs(2);

/// How often all of it is sent at most: what depends on who comes first (who waits for whom, whether a poll is already
/// running) does not happen each time.
const ROUNDS: usize = 5;

/// Records taken at once.
const BATCH: usize = 16 * 1024;

/// Sends the workload until every attached point has fired or there is no hope that it will.
pub(super) fn run(collector: &mut Collector) -> Result<SelfTest, CollectError> {
    let must_fire =
        |point: &Point| collector.coverage().sees(*point) && matches!(exercise(*point), Exercise::By(_));
    let awaited: Vec<Point> = Point::ALL.iter().copied().filter(must_fire).collect();
    let mut workload = Workload::prepare();
    let mut tally = Tally::new(&workload.ports(), std::process::id());
    collector.start()?;
    let until = Instant::now() + TIME;
    for _ in 0..ROUNDS {
        // Whoever wrote a record did so before the exchange could come to its end, so there is nothing to wait for.
        workload.run(until, || while collector.drain(BATCH, |record| tally.take(record)) == BATCH {});
        let all_fired = awaited.iter().all(|point| tally.hops().contains_key(point));
        if all_fired || Instant::now() >= until {
            break;
        }
    }
    collector.stop()?;
    while collector.drain(BATCH, |record| tally.take(record)) > 0 {}
    let losses = collector.losses()?;
    Ok(SelfTest { exchanges: workload.end(), hops: tally.into_hops(), losses })
}
