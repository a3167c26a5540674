//! Measuring with two processes: how many messages fit into a time, and what the moments that they report mean.

use std::{io, time::Duration};

use crate::{
    comparison::{Measured, Stamp, Stream},
    workload::{Ends, Job, Report, Shape},
};

/// Messages before each measurement, which are not counted: caches and congestion windows are warm then.
pub(super) const WARM_UP: u32 = 50;
/// Round trips from which the time of one is estimated.
const TRIAL: u32 = 50;
/// How long a job may take beyond what it should: a machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many times longer than it should.
const PATIENT: u32 = 10;
/// How often processes are looked after that nobody traces.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// A connection, and messages of one size over it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Its place in the list of connections.
    pub(super) pair: u32,
    pub(super) bytes: u32,
}

/// How long messages take, roughly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    round_trip_ns: u64,
    /// Of a stream, for each message; `None` if there can be none.
    message_ns: Option<u64>,
}

/// So many messages at most in a job: their moments are kept.
const MOST: u32 = 1_000_000;
/// So few at least in a time.
const LEAST: u64 = 20;
/// No memory is slower than this, bytes a ms.
const SLOW: u32 = 1_000;

impl Pace {
    /// How many round trips fit into this time.
    pub(super) fn round_trips(self, time: Duration) -> u64 {
        fitting(time, self.round_trip_ns)
    }

    /// How long one round trip takes.
    pub(super) fn round_trip(self) -> Duration {
        Duration::from_nanos(self.round_trip_ns)
    }

    /// How many messages of a stream do.
    pub(super) fn messages(self, time: Duration) -> Option<u64> {
        self.message_ns.map(|ns| fitting(time, ns))
    }
}

fn fitting(time: Duration, each_ns: u64) -> u64 {
    let count = time.as_nanos() / u128::from(each_ns.max(1));
    u64::try_from(count).unwrap_or(u64::MAX).max(LEAST)
}

/// As many as a job may have, again and again, until they are all of this count.
pub(super) fn jobs(count: u64) -> impl Iterator<Item = u32> {
    let mut left = count;
    std::iter::from_fn(move || {
        let next = u32::try_from(left).unwrap_or(MOST).min(MOST);
        left -= u64::from(next);
        (next > 0).then_some(next)
    })
}

impl Cell {
    /// Finds out how long messages take.
    pub(super) fn pace(self, ends: &mut Ends, streams: bool) -> io::Result<Pace> {
        // Nothing is known yet but how much there is to copy.
        let unknown = Duration::from_millis(10 + u64::from(self.bytes / SLOW));
        let report = self.round_trips(ends, TRIAL, unknown, || LOOK)?;
        let round_trip_ns = measured(&stamps(&report)).round_trip.quantile(0.5).unwrap_or(1);
        let message_ns = if streams {
            let stream = self.stream(ends, TRIAL, unknown)?;
            Some(stream.ns / stream.messages.max(1))
        } else {
            None
        };
        Ok(Pace { round_trip_ns, message_ns })
    }

    /// Does round trips, each of which takes about this long. `meanwhile` is called again and again until they are done, and
    /// says how long to wait then.
    pub(super) fn round_trips(
        self,
        ends: &mut Ends,
        count: u32,
        each: Duration,
        meanwhile: impl FnMut() -> Duration,
    ) -> io::Result<Report> {
        let job =
            Job { pair: self.pair, shape: Shape::RoundTrips, bytes: self.bytes, count, warm_up: WARM_UP };
        ends.begin(job)?;
        ends.wait(job, patience(count.saturating_add(WARM_UP), each), meanwhile)
    }

    /// Sends a stream of so many messages.
    pub(super) fn stream(self, ends: &mut Ends, count: u32, each: Duration) -> io::Result<Stream> {
        let job = Job { pair: self.pair, shape: Shape::Stream, bytes: self.bytes, count, warm_up: 0 };
        ends.begin(job)?;
        let report = ends.wait(job, patience(count, each), || LOOK)?;
        let (Some(begun), Some(had)) = (report.client.first(), report.server.first()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let messages = u64::from(count);
        Ok(Stream { messages, bytes: messages * u64::from(self.bytes), ns: had.saturating_sub(*begun) })
    }
}

/// How long so many messages may take.
fn patience(count: u32, each: Duration) -> Duration {
    PATIENCE.saturating_add(each.saturating_mul(count).saturating_mul(PATIENT))
}

/// What the moments of round trips say of each message, first that of the client.
pub(super) fn stamps(report: &Report) -> Vec<[Stamp; 2]> {
    let trips = report.client.windows(2).zip(&report.server);
    trips
        .map(|(client, server)| {
            [
                Stamp { sent_ns: client[0], received_ns: *server },
                Stamp { sent_ns: *server, received_ns: client[1] },
            ]
        })
        .collect()
}

/// How long these took.
pub(super) fn measured(stamps: &[[Stamp; 2]]) -> Measured {
    let mut measured = Measured::default();
    add(&mut measured, stamps);
    measured
}

/// Adds how long these took.
pub(super) fn add(measured: &mut Measured, stamps: &[[Stamp; 2]]) {
    measured.round_trip.extend(stamps.iter().map(|[there, back]| there.ns() + back.ns()));
    measured.one_way.extend(stamps.iter().flatten().map(|stamp| stamp.ns()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_a_message_there_and_one_back() {
        let report = Report { client: vec![100, 130, 170], server: vec![110, 155] };
        let stamps = stamps(&report);
        let ns: Vec<_> = stamps.iter().map(|[there, back]| (there.ns(), back.ns())).collect();
        assert_eq!(ns, [(10, 20), (25, 15)]);
        let measured = measured(&stamps);
        assert_eq!((measured.round_trip.count(), measured.round_trip.max()), (2, Some(40)));
        assert_eq!((measured.one_way.count(), measured.one_way.max()), (4, Some(25)));
    }

    #[test]
    fn as_many_fit_as_there_is_time_within_bounds() {
        let pace = Pace { round_trip_ns: 10_000, message_ns: Some(0) };
        assert_eq!(pace.round_trips(Duration::from_secs(1)), 100_000);
        assert_eq!(pace.round_trips(Duration::ZERO), 20);
        assert_eq!(pace.messages(Duration::from_secs(1)), Some(1_000_000_000));
        assert_eq!(jobs(2_500_000).collect::<Vec<_>>(), [1_000_000, 1_000_000, 500_000]);
        assert_eq!(jobs(0).count(), 0);
    }
}
