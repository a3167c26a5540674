//! What the values of options mean, and what is said of those that mean nothing.

use std::{path::PathBuf, time::Duration};

/// The longest run.
const YEAR: Duration = Duration::from_secs(365 * 86400);

/// Units of time, in seconds. What is no letter belongs to the number, `µ` to its unit.
const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// How long a run takes; a bare number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text, "a time, such as 500ms, 10s or 2m; a bare number is seconds")?;
    Duration::try_from_secs_f64(number * unit.unwrap_or(1.0))
        .ok()
        .filter(|time| !time.is_zero() && *time <= YEAR)
        .ok_or_else(|| "a time is more than nothing and at most a year".to_owned())
}

/// How long a path takes. A bare number is refused: it could be microseconds as well as milliseconds.
pub(super) fn parse_latency(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text, "a latency, such as 50us or 2ms")?;
    let unit =
        unit.ok_or_else(|| format!("a latency needs its unit: {text}ns, {text}us, {text}ms or {text}s"))?;
    Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|time| *time <= YEAR)
        .ok_or_else(|| "a latency is nothing or more, and at most a year".to_owned())
}

/// A number, and its unit in seconds if it has one.
fn number_and_unit(text: &str, wanted: &str) -> Result<(f64, Option<f64>), String> {
    let wrong = || format!("this is no time; give {wanted}");
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "" => None,
        name => Some(UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, seconds)| *seconds).ok_or_else(
            || format!("{name} is no unit of time, which are ns, us, ms, s, m and h; give {wanted}"),
        )?),
    };
    Ok((digits.parse().map_err(|_| wrong())?, unit))
}

/// How many paths.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "a number of paths is 1 or more; leave --count away for all".to_owned())
}

/// One of how many messages is traced.
pub(super) fn parse_sample(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|sample| (2..=1 << 20).contains(sample))
        .ok_or_else(|| "one of 2 to 1048576 messages can be traced; leave --sample away for all".to_owned())
}

/// The number of a process.
pub(super) fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| "a process is given by its number, 1 or more; by its name with --comm".to_owned())
}

/// The file of a recording.
pub(super) fn parse_recording(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str() == "-" {
        return Err(
            "a recording goes to a file, not to standard output; for live data use pathtrace --json, for a file \
                    of this name ./-",
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_latency("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_latency("50µs"), parse_latency("50us"));
        assert_eq!(parse_latency("0ns"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in ["", "s", "-1", "-1s", "0", "1e99", "nan", "inf", "400000h", "5 s", "soon"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "us", "5", "-1us", "5 us", "1e99s"] {
            assert!(parse_latency(wrong).is_err(), "{wrong}");
        }
    }
}
