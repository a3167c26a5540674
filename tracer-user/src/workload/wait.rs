//! Waiting with an end, for what the standard library has no timeout for.

use std::{
    io::{self, ErrorKind},
    thread,
    time::{Duration, Instant},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(1);

/// Tries until it does not say that it would block, for at most `patience`.
pub(super) fn until_ready<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < patience => {
                thread::sleep(INTERVAL);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_what_comes_or_with_the_time() {
        let mut left = 3;
        let comes = until_ready(Duration::from_secs(60), || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err(ErrorKind::WouldBlock.into()) }
        });
        assert_eq!(comes.ok(), Some(7));
        let never: io::Result<()> = until_ready(INTERVAL, || Err(ErrorKind::WouldBlock.into()));
        assert_eq!(never.map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
        let fails: io::Result<()> = until_ready(INTERVAL, || Err(ErrorKind::NotFound.into()));
        assert_eq!(fails.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    }
}
