//! What the two ends of a connection do for a measurement, and what they report of it.

use std::io::{self, ErrorKind, Read, Write};

use super::pair::End;
use crate::kernel::clock::monotonic_now_ns;

/// Work for both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which connection: its place in the list that was given at the start.
    pub pair: u32,
    /// What to do.
    pub shape: Shape,
    /// Bytes of each message, at least 1.
    pub bytes: u32,
    /// How many messages from the client.
    pub count: u32,
    /// How many before them, which are not reported.
    pub warm_up: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is answered by one of the same size, and only then comes the next.
    RoundTrips,
    /// It is read, while the next ones are sent.
    Stream,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// Numbers on the wire of a job.
const WORDS: usize = 5;

impl Job {
    pub(super) fn write(self, mut to: impl Write) -> io::Result<()> {
        let words = [self.pair, self.shape as u32, self.bytes, self.count, self.warm_up];
        to.write_all(words.map(u32::to_ne_bytes).as_flattened())
    }

    /// `None` if there are no more.
    pub(super) fn read(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut wire = [0; WORDS * size_of::<u32>()];
        match from.read_exact(&mut wire) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let mut words = wire.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let (pair, shape) = (next(), next());
        let shape = if shape == Shape::Stream as u32 { Shape::Stream } else { Shape::RoundTrips };
        Ok(Some(Self { pair, shape, bytes: next(), count: next(), warm_up: next() }))
    }

    /// Does it. Returns moments, `CLOCK_MONOTONIC` ns. Of round trips: the client's, before the first message and after
    /// each answer, when it sends the next; the server's, when each message was there, and is answered. Of a stream: when
    /// the client began, and when the server had all.
    pub(super) fn run(self, role: Role, end: &mut End) -> io::Result<Vec<u64>> {
        let mut message = vec![0; self.bytes as usize];
        match (self.shape, role) {
            (Shape::RoundTrips, Role::Client) => self.ask(end, &mut message),
            (Shape::RoundTrips, Role::Server) => self.answer(end, &mut message),
            (Shape::Stream, Role::Client) => self.send(end, &message),
            (Shape::Stream, Role::Server) => self.receive(end, &mut message),
        }
    }

    fn ask(self, end: &mut End, message: &mut [u8]) -> io::Result<Vec<u64>> {
        let mut moments = Vec::with_capacity(self.count as usize + 1);
        for _ in 0..self.warm_up {
            end.writing.write_all(message)?;
            end.reading.read_exact(message)?;
        }
        moments.push(monotonic_now_ns());
        for _ in 0..self.count {
            end.writing.write_all(message)?;
            end.reading.read_exact(message)?;
            moments.push(monotonic_now_ns());
        }
        Ok(moments)
    }

    fn answer(self, end: &mut End, message: &mut [u8]) -> io::Result<Vec<u64>> {
        let mut moments = Vec::with_capacity(self.count as usize);
        for _ in 0..self.warm_up {
            end.reading.read_exact(message)?;
            end.writing.write_all(message)?;
        }
        for _ in 0..self.count {
            end.reading.read_exact(message)?;
            moments.push(monotonic_now_ns());
            end.writing.write_all(message)?;
        }
        Ok(moments)
    }

    fn send(self, end: &mut End, message: &[u8]) -> io::Result<Vec<u64>> {
        for _ in 0..self.warm_up {
            end.writing.write_all(message)?;
        }
        let begun = monotonic_now_ns();
        for _ in 0..self.count {
            end.writing.write_all(message)?;
        }
        Ok(vec![begun])
    }

    fn receive(self, end: &mut End, message: &mut [u8]) -> io::Result<Vec<u64>> {
        let messages = u64::from(self.warm_up) + u64::from(self.count);
        let mut left = messages * u64::from(self.bytes);
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(message.len());
            match end.reading.read(&mut message[..room])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => left -= count as u64,
            }
        }
        Ok(vec![monotonic_now_ns()])
    }
}

/// A report on the wire: how many moments, and the moments; or this, and the errno.
const FAILED: u64 = u64::MAX;

/// Writes the outcome of a job.
pub(super) fn write_report(result: &io::Result<Vec<u64>>, mut to: impl Write) -> io::Result<()> {
    let wire: Vec<u8> = match result {
        Ok(moments) => {
            [moments.len() as u64].iter().chain(moments).flat_map(|word| word.to_ne_bytes()).collect()
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EPIPE);
            [FAILED, u64::from(errno.unsigned_abs())].map(u64::to_ne_bytes).concat()
        }
    };
    to.write_all(&wire)
}

/// Reads the outcome of a job that reports at most so many moments.
pub(super) fn read_report(mut from: impl Read, most: u64) -> io::Result<Vec<u64>> {
    let mut word = || {
        let mut word = [0; size_of::<u64>()];
        from.read_exact(&mut word).map(|()| u64::from_ne_bytes(word))
    };
    match word()? {
        FAILED => Err(io::Error::from_raw_os_error(i32::try_from(word()?).unwrap_or(libc::EPIPE))),
        count if count <= most => (0..count).map(|_| word()).collect(),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::workload::{Link, Pair};

    /// Does a job with both ends in this process.
    fn done(link: Link, job: Job) -> (Vec<u64>, Vec<u64>) {
        let Pair { mut client, mut server, .. } = Pair::connect(link, None).unwrap();
        thread::scope(|scope| {
            let serving = scope.spawn(|| job.run(Role::Server, &mut server).unwrap());
            let asked = job.run(Role::Client, &mut client).unwrap();
            (asked, serving.join().unwrap())
        })
    }

    #[test]
    fn round_trips_of_every_link_have_their_moments_in_order() {
        for link in Link::ALL {
            for bytes in [1, 100, 50_000] {
                let job = Job { pair: 0, shape: Shape::RoundTrips, bytes, count: 5, warm_up: 2 };
                let (client, server) = done(link, job);
                assert_eq!((client.len(), server.len()), (6, 5), "{link}");
                for (pair, there) in client.windows(2).zip(&server) {
                    assert!(pair[0] <= *there && *there <= pair[1], "{link}: {client:?} {server:?}");
                }
            }
        }
    }

    #[test]
    fn streams_arrive_whole() {
        for link in Link::ALL.into_iter().filter(|link| link.is_reliable()) {
            let job = Job { pair: 0, shape: Shape::Stream, bytes: 100_000, count: 20, warm_up: 1 };
            let (begun, had) = done(link, job);
            assert!(begun.len() == 1 && had.len() == 1 && begun[0] <= had[0], "{link}");
        }
    }

    #[test]
    fn jobs_and_reports_come_as_they_went() {
        let job = Job { pair: 3, shape: Shape::Stream, bytes: 7, count: u32::MAX, warm_up: 1 };
        let mut wire = Vec::new();
        job.write(&mut wire).unwrap();
        assert_eq!(Job::read(wire.as_slice()).unwrap(), Some(job));
        assert_eq!(Job::read(io::empty()).unwrap(), None);

        let mut wire = Vec::new();
        write_report(&Ok(vec![4, 5]), &mut wire).unwrap();
        assert_eq!(read_report(wire.as_slice(), 2).unwrap(), [4, 5]);
        assert_eq!(read_report(wire.as_slice(), 1).unwrap_err().kind(), ErrorKind::InvalidData);
        let mut wire = Vec::new();
        write_report(&Err(io::Error::from_raw_os_error(libc::ECONNRESET)), &mut wire).unwrap();
        assert_eq!(read_report(wire.as_slice(), 2).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
