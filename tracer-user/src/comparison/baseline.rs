//! Whether a comparison is worse than an earlier one.

use std::{fmt, str::FromStr};

use super::{AtSize, Run};
use crate::{analyze::Distribution, workload::Link};

/// A figure of the end-to-end part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Median round trip, ns; of a user's own traffic: one way.
    P50,
    /// 90 of 100 round trips took no longer, ns.
    P90,
    /// 99 of 100.
    P99,
    /// 999 of 1000.
    P999,
    /// The longest.
    Max,
    /// Of a stream.
    MessagesPerSecond,
    /// Of a stream.
    BytesPerSecond,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::Max,
        Self::MessagesPerSecond,
        Self::BytesPerSecond,
    ];

    /// The name in conditions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::MessagesPerSecond => "messages_per_second",
            Self::BytesPerSecond => "bytes_per_second",
        }
    }

    /// What it is for a run, if that was measured.
    pub fn of(self, run: &Run) -> Option<f64> {
        let times = || match (&run.untraced, &run.messages) {
            (Some(measured), _) => Some(measured.round_trip.clone()),
            (None, messages) => messages.as_ref().map(super::Messages::one_way),
        };
        let quantile = |part| times().as_ref().and_then(|times| times.quantile(part)).map(|ns| ns as f64);
        match self {
            Self::P50 => quantile(0.5),
            Self::P90 => quantile(0.9),
            Self::P99 => quantile(0.99),
            Self::P999 => quantile(0.999),
            Self::Max => times().as_ref().and_then(Distribution::max).map(|ns| ns as f64),
            Self::MessagesPerSecond => run.stream.map(|stream| stream.messages_per_second()),
            Self::BytesPerSecond => run.stream.map(|stream| stream.bytes_per_second()),
        }
    }
}

/// What is a regression: a figure that has grown, or shrunk, by more than so many percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Only over this link; `None`: over any.
    link: Option<Link>,
    metric: Metric,
    /// More than 0: grown by more than this; less than 0: shrunk by more than its amount.
    percent: f64,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let metrics = Metric::ALL.map(Metric::name).join(", ");
            let links = Link::ALL.map(Link::name).join(", ");
            format!(
                "a condition is a figure that has grown (p99>+20%) or shrunk (bytes_per_second<-25%), over any link or one \
                 (tcp.p50>+10%); figures: {metrics}; links: {links}"
            )
        };
        let at = text.find(['<', '>']).ok_or_else(wrong)?;
        let (figure, change) = text.split_at(at);
        // `p99.9` has a dot of its own.
        let named = |name: &str| Metric::ALL.into_iter().find(|metric| metric.name() == name);
        let (link, metric) = match (named(figure), figure.split_once('.')) {
            (Some(metric), _) => (None, metric),
            (None, Some((link, metric))) => {
                let link = Link::ALL.into_iter().find(|one| one.name() == link).ok_or_else(wrong)?;
                (Some(link), named(metric).ok_or_else(wrong)?)
            }
            (None, None) => return Err(wrong()),
        };
        let sign = if change.starts_with(">+") { 1.0 } else { -1.0 };
        let number = change.strip_prefix(">+").or_else(|| change.strip_prefix("<-")).ok_or_else(wrong)?;
        let number = number.strip_suffix('%').ok_or_else(wrong)?;
        let percent: f64 = number.parse().map_err(|_| wrong())?;
        let is_valid =
            number.starts_with(|c: char| c.is_ascii_digit()) && percent.is_finite() && percent > 0.0;
        if is_valid { Ok(Self { link, metric, percent: sign * percent }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(link) = self.link {
            write!(f, "{}.", link.name())?;
        }
        let sign = if self.percent > 0.0 { ">+" } else { "<-" };
        write!(f, "{}{sign}{}%", self.metric.name(), self.percent.abs())
    }
}

/// A figure of an earlier comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Former {
    /// Over which link.
    pub link: Link,
    /// Of messages of so many bytes; `None` of a user's own.
    pub bytes: Option<u32>,
    /// Which figure.
    pub metric: Metric,
    /// What it was.
    pub value: f64,
}

/// A figure now and then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// What it was.
    pub former: Former,
    /// What it is.
    pub now: f64,
    /// The condition that it was held against.
    pub condition: Condition,
}

impl Change {
    /// By how much it has grown, percent; less than 0 if it has shrunk.
    pub fn percent(&self) -> f64 {
        (self.now / self.former.value - 1.0) * 100.0
    }

    /// Whether the condition holds.
    pub fn is_regression(&self) -> bool {
        let limit = self.condition.percent;
        if limit > 0.0 { self.percent() > limit } else { self.percent() < limit }
    }
}

/// What conditions say of two comparisons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// The figures that both have.
    pub changes: Vec<Change>,
    /// Figures that only this one has: nothing can be said of them.
    pub new: Vec<(Link, Option<u32>, Metric)>,
    /// Figures that only the earlier one has: what they were about has gone.
    pub gone: Vec<Former>,
}

/// Holds each figure that a condition is about against what it was. A condition about which there is no figure in both
/// cannot be answered, and is an error.
pub fn hold(sizes: &[AtSize], former: &[Former], conditions: &[Condition]) -> Result<Held, Condition> {
    let mut held = Held::default();
    let runs = || sizes.iter().flat_map(|size| size.runs.iter().map(|run| (size.bytes, run)));
    for condition in conditions {
        let is_about =
            |link, metric| metric == condition.metric && condition.link.is_none_or(|one| one == link);
        let before = held.changes.len();
        for (bytes, run) in runs().filter(|(_, run)| is_about(run.link, condition.metric)) {
            let Some(now) = condition.metric.of(run) else { continue };
            let same =
                |one: &&Former| (one.link, one.bytes, one.metric) == (run.link, bytes, condition.metric);
            // Of several comparisons in one file the last one counts.
            match former.iter().rfind(same) {
                Some(former) => held.changes.push(Change { former: *former, now, condition: *condition }),
                None => held.new.push((run.link, bytes, condition.metric)),
            }
        }
        if held.changes.len() == before {
            return Err(*condition);
        }
        let is_here = |one: &Former| {
            runs().any(|(bytes, run)| {
                (run.link, bytes) == (one.link, one.bytes) && one.metric.of(run).is_some()
            })
        };
        held.gone.extend(former.iter().filter(|one| is_about(one.link, one.metric) && !is_here(one)));
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::samples;

    fn condition(text: &str) -> Condition {
        text.parse().unwrap()
    }

    fn former(link: Link, metric: Metric, value: f64) -> Former {
        Former { link, bytes: Some(100), metric, value }
    }

    #[test]
    fn conditions_are_read_as_they_are_written() {
        for text in ["p99>+20%", "p99.9>+0.5%", "unix.p99.9>+20%", "tcp.bytes_per_second<-25%", "max>+1000%"]
        {
            assert_eq!(condition(text).to_string(), text);
        }
        let wrong = [
            "",
            "p99",
            "p99>20%",
            "p99>+20",
            "p98>+20%",
            "ipx.p99>+20%",
            "p99<+20%",
            "p99>+0%",
            "p99>+-3%",
            "p99>+nan%",
            "p99>+inf%",
            ".p99>+1%",
            "p99>>+1%",
        ];
        for text in wrong {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_figure_is_held_against_what_it_was() {
        let sizes = [samples::at_100_bytes()];
        let now = |link, metric: Metric| metric.of(sizes[0].run(link).unwrap()).unwrap();
        let verdict = |text, link, metric: Metric, factor: f64| {
            let then = former(link, metric, now(link, metric) * factor);
            hold(&sizes, &[then], &[condition(text)]).unwrap().changes.iter().any(Change::is_regression)
        };
        // It was half of what it is.
        assert!(verdict("p50>+20%", Link::Tcp, Metric::P50, 0.5));
        assert!(verdict("unix.p99>+99%", Link::Unix, Metric::P99, 0.5));
        assert!(!verdict("p50>+101%", Link::Tcp, Metric::P50, 0.5));
        assert!(!verdict("p50>+20%", Link::Tcp, Metric::P50, 1.0));
        assert!(verdict("bytes_per_second<-25%", Link::Tcp, Metric::BytesPerSecond, 2.0));
        assert!(!verdict("bytes_per_second<-60%", Link::Tcp, Metric::BytesPerSecond, 2.0));
    }

    #[test]
    fn what_nothing_can_be_held_against_is_no_silent_pass() {
        let sizes = [samples::at_100_bytes()];
        let then = former(Link::Tcp, Metric::P50, 1.0);
        for text in ["pipe.p50>+1%", "unix.p50>+1%", "p99>+1%"] {
            assert_eq!(hold(&sizes, &[then], &[condition(text)]), Err(condition(text)), "{text}");
        }
        let other_size = Former { bytes: Some(101), ..then };
        assert!(hold(&sizes, &[other_size], &[condition("p50>+1%")]).is_err());
    }

    #[test]
    fn what_only_one_of_them_has_is_said() {
        let sizes = [samples::at_100_bytes()];
        let then = former(Link::Tcp, Metric::P50, 1e9);
        let other_size = Former { bytes: Some(101), ..then };
        let pipe = Former { link: Link::Pipe, ..then };
        let former = [then, other_size, pipe, Former { metric: Metric::P99, ..pipe }];
        let held = hold(&sizes, &former, &[condition("p50>+1%")]).unwrap();
        assert_eq!(held.changes.len(), 1);
        assert_eq!(held.new, [(Link::Unix, Some(100), Metric::P50)]);
        assert_eq!(held.gone, [other_size, pipe]);
    }

    #[test]
    fn of_several_comparisons_in_a_file_the_last_counts() {
        let sizes = [samples::at_100_bytes()];
        let (first, last) = (former(Link::Tcp, Metric::P50, 1.0), former(Link::Tcp, Metric::P50, 1e9));
        let held = hold(&sizes, &[first, last], &[condition("tcp.p50>+1%")]).unwrap();
        assert!(held.changes.iter().all(|change| !change.is_regression()), "{held:?}");
    }
}
