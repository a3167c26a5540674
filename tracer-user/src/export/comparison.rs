//! A comparison in words.

use std::fmt;

use super::Human;
use crate::{
    comparison::{AtSize, Gap, GapRow, Messages, Run, ShortCut, Stage},
    workload::Link,
};

/// A stage for people.
#[derive(Clone, Copy, Debug)]
pub struct StageTitle {
    /// Which.
    pub stage: Stage,
    /// Whether the way through IP is seen apart from the send call.
    pub sees_ip: bool,
    /// Whether messages came in several packets, of which the last stage has all but the first.
    pub in_parts: bool,
}

impl StageTitle {
    /// The title of a stage in this table.
    pub fn of(stage: Stage, size: &AtSize) -> Self {
        let passes = |run: &Run, stage| run.messages.as_ref().is_some_and(|all| all.p50(stage).is_some());
        // Whatever has a device has IP before it, whether that is seen or not.
        let sees_ip = size.runs.iter().any(|run| passes(run, Stage::Route))
            || !size.runs.iter().any(|run| passes(run, Stage::Device));
        let in_parts = size.runs.iter().any(|run| run.messages.as_ref().is_some_and(Messages::in_parts));
        Self { stage, sees_ip, in_parts }
    }
}

impl fmt::Display for StageTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.stage, self.sees_ip) {
            (Stage::Entry, _) => "before the first hop",
            (Stage::Send, true) => "system call, copy in, transport",
            (Stage::Send, false) => "system call, copy in, transport, IP",
            (Stage::Route, _) => "route and IP",
            (Stage::Device, _) => "device",
            (Stage::Backlog, _) => "backlog wait",
            (Stage::Receive, _) => "receive",
            (Stage::Wake, _) => "wake-up",
            (Stage::Read, _) => {
                if self.in_parts {
                    "later parts, copy out, return"
                } else {
                    "copy out, return"
                }
            }
        })
    }
}

/// A number of bytes: 100 B, 1 KB, 1.5 KB, 64 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u32);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ ..1_000 => write!(f, "{bytes} B"),
            bytes if bytes % 1_000_000 == 0 => write!(f, "{} MB", bytes / 1_000_000),
            bytes if bytes % 1_000 == 0 => write!(f, "{} KB", bytes / 1_000),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

/// What a table says, in a paragraph that is made of its figures.
#[derive(Clone, Copy, Debug)]
pub struct Conclusion<'a> {
    /// The table.
    pub size: &'a AtSize,
    /// What TCP is compared with.
    pub to: Link,
}

/// A stage whose part of the gap is less than this is not worth a word.
const WORTH_A_WORD: f64 = 0.05;
/// Times that differ by less than this part are called equal.
const EQUAL: f64 = 0.02;

impl fmt::Display for Conclusion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, to } = self;
        let (Some(tcp), Some(other)) = (size.run(Link::Tcp), size.run(*to)) else { return Ok(()) };
        self.end_to_end(tcp, other, f)?;
        let unseen = [tcp, other]
            .into_iter()
            .filter(|run| run.messages.as_ref().is_some_and(|all| all.followed() == 0));
        let unseen: Vec<String> = unseen.map(|run| run.link.to_string()).collect();
        if !unseen.is_empty() {
            let links = unseen.join(" or ");
            return write!(f, " No message over {links} was followed, so nothing is known of its stages.");
        }
        if let Some(short_cut) = other.short_cut {
            return write!(f, " {}", Skipped(short_cut));
        }
        match size.gap(*to) {
            Some(gap) if self.is_contradicted(&gap) => write!(
                f,
                " While traced it was the other way round ({} over TCP, {} over {to}, one way), so the stages do not explain \
                 this difference: messages were too few, or other work interrupted them.",
                nanos(gap.first_ns),
                nanos(gap.second_ns)
            ),
            Some(gap) => self.stages(&gap, f),
            None => write!(f, " {to} passes no probe points, so nothing is known of its stages."),
        }
    }
}

impl Conclusion<'_> {
    fn end_to_end(&self, tcp: &Run, other: &Run, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p50 = |run: &Run| run.untraced.as_ref()?.round_trip.quantile(0.5);
        let (Some(tcp_ns), Some(other_ns)) = (p50(tcp), p50(other)) else { return Ok(()) };
        let to = self.to;
        write!(f, "A round trip")?;
        if let Some(bytes) = self.size.bytes {
            write!(f, " of {}", Bytes(bytes))?;
        }
        write!(
            f,
            " takes {} over TCP and {} over {to} (median, untraced): ",
            Human(tcp_ns),
            Human(other_ns)
        )?;
        let ratio = tcp_ns as f64 / other_ns.max(1) as f64;
        if (ratio - 1.0).abs() < EQUAL {
            write!(f, "both are equally fast.")
        } else if ratio > 1.0 {
            write!(f, "TCP takes {ratio:.2} times as long.")
        } else {
            write!(f, "{to} takes {:.2} times as long.", 1.0 / ratio)
        }
    }

    /// Whether one is clearly faster untraced, and the other while traced.
    fn is_contradicted(&self, gap: &Gap) -> bool {
        let p50 = |link| self.size.run(link)?.untraced.as_ref()?.round_trip.quantile(0.5);
        let (Some(tcp_ns), Some(other_ns)) = (p50(Link::Tcp), p50(self.to)) else { return false };
        let ratio = tcp_ns as f64 / other_ns.max(1) as f64;
        let traced = gap.first_ns / gap.second_ns.max(1.0);
        (ratio - 1.0).abs() >= EQUAL && (traced - 1.0).abs() >= EQUAL && (ratio > 1.0) != (traced > 1.0)
    }

    fn stages(&self, gap: &Gap, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = self.to;
        let (slower, faster) = if gap.ns() > 0.0 { (Link::Tcp, to) } else { (to, Link::Tcp) };
        let took = "While traced, a message took";
        let until = if self.size.bytes.is_none() { "until its reader could read" } else { "one way" };
        if gap.rows.iter().all(|row| row.share.is_none()) {
            return write!(f, " {took} {} {until} over TCP and as long over {to}.", nanos(gap.first_ns));
        }
        let (longer, shorter) = (gap.first_ns.max(gap.second_ns), gap.first_ns.min(gap.second_ns));
        let (longer, shorter) = (nanos(longer), nanos(shorter));
        write!(f, " {took} {longer} {until} over {slower} and {shorter} over {faster}.")?;
        let share = |row: &GapRow| row.share.unwrap_or_default();
        let title = |row: &GapRow| StageTitle::of(row.stage, self.size);
        let (alone, both): (Vec<GapRow>, Vec<GapRow>) =
            gap.rows.iter().partition(|row| row.first.is_none() || row.second.is_none());
        // What only the faster one passes makes the gap smaller.
        let (alone, faster_alone): (Vec<GapRow>, Vec<GapRow>) =
            alone.iter().partition(|row| share(row) > 0.0);
        for (rows, link) in [(&alone, slower), (&faster_alone, faster)] {
            if !rows.is_empty() {
                let together: f64 = rows.iter().map(share).sum();
                let each = rows.iter().map(|row| format!("{} {}", title(row), Percent(share(row))));
                let each = each.collect::<Vec<_>>().join(", ");
                write!(f, " Stages that only {link} passes are {} of the gap: {each}.", Percent(together))?;
            }
        }
        let mut both: Vec<GapRow> = both.into_iter().filter(|row| share(row).abs() >= WORTH_A_WORD).collect();
        both.sort_by(|one, other| share(other).total_cmp(&share(one)));
        let (more, less): (Vec<GapRow>, Vec<GapRow>) = both.iter().partition(|row| share(row) > 0.0);
        let each = |rows: &[GapRow]| -> Vec<String> {
            rows.iter().map(|row| format!("{} ({})", title(row), Percent(share(row).abs()))).collect()
        };
        if !more.is_empty() {
            write!(f, " Both pass, but {slower} is longer in: {}.", each(&more).join(", "))?;
        }
        if !less.is_empty() {
            write!(f, " On the other hand {faster} is longer in: {}.", each(&less).join(", "))?;
        }
        Ok(())
    }
}

/// What a short cut has spared.
#[derive(Clone, Copy, Debug)]
struct Skipped(ShortCut);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShortCut { sent_bytes, delivered_bytes, packets } = self.0;
        write!(
            f,
            "The map of sockets has handed over {delivered_bytes} of {sent_bytes} bytes while they were traced, and "
        )?;
        if packets == 0 {
            write!(
                f,
                "no packet with data was seen: IP, the device, the backlog and the receiving side are skipped."
            )
        } else {
            write!(f, "{packets} packets with data were seen, so not all of them were spared the network.")
        }
    }
}

/// A time that was reckoned, ns; none is less than 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and not negative")]
pub fn nanos(ns: f64) -> Human {
    Human(ns.round().max(0.0) as u64)
}

/// A part of a whole in percent.
#[derive(Clone, Copy, Debug)]
pub struct Percent(pub f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No negative zero.
        let tenths = (self.0 * 1_000.0).round() + 0.0;
        f.pad(&format!("{:.1} %", tenths / 10.0))
    }
}

/// A rate to three digits: 312 MB/s, 1.21 GB/s.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many each second.
    pub per_second: f64,
    /// Of what: `B`, or nothing.
    pub unit: &'static str,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = self.per_second;
        let mut prefixes = ["", "K", "M", "G"].into_iter();
        let mut prefix = prefixes.next().unwrap_or_default();
        while number >= 999.5
            && let Some(next) = prefixes.next()
        {
            number /= 1_000.0;
            prefix = next;
        }
        let digits = match number {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{number:.digits$} {prefix}{}/s", self.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Measured, Messages, samples};

    #[test]
    fn the_conclusion_is_made_of_the_figures() {
        let size = samples::at_100_bytes();
        insta::assert_snapshot!(Conclusion { size: &size, to: Link::Unix });
    }

    #[test]
    fn other_figures_make_another_conclusion() {
        let mut size = samples::at_100_bytes();
        size.runs.reverse();
        size.runs[0].link = Link::Tcp;
        size.runs[1].link = Link::Unix;
        insta::assert_snapshot!(Conclusion { size: &size, to: Link::Unix });
    }

    #[test]
    fn a_short_cut_says_what_it_skips() {
        let mut comparison = samples::with_others();
        let size = &mut comparison.sizes[0];
        insta::assert_snapshot!(Conclusion { size, to: Link::Sockmap });
        let run = size.runs.iter_mut().find(|run| run.link == Link::Sockmap).unwrap();
        run.short_cut.as_mut().unwrap().packets = 3;
        let text = Conclusion { size, to: Link::Sockmap }.to_string();
        assert!(
            text.ends_with("3 packets with data were seen, so not all of them were spared the network."),
            "{text}"
        );
    }

    #[test]
    fn stages_explain_no_other_difference() {
        let mut size = samples::at_100_bytes();
        let [tcp, unix] = size.runs.as_mut_slice() else { unreachable!() };
        std::mem::swap(&mut tcp.untraced, &mut unix.untraced);
        let text = Conclusion { size: &size, to: Link::Unix }.to_string();
        assert!(
            text.contains("UNIX takes 2.00 times as long. While traced it was the other way round"),
            "{text}"
        );
        assert!(!text.contains('%'), "{text}");
    }

    #[test]
    fn what_is_not_known_is_not_concluded() {
        let mut size = samples::at_100_bytes();
        size.runs[1].messages = Some(Messages::default());
        let text = Conclusion { size: &size, to: Link::Unix }.to_string();
        assert!(
            text.ends_with("No message over UNIX was followed, so nothing is known of its stages."),
            "{text}"
        );
        size.runs[1].messages = None;
        size.runs[1].untraced = Some(Measured::default());
        let text = Conclusion { size: &size, to: Link::Unix }.to_string();
        assert_eq!(text, " UNIX passes no probe points, so nothing is known of its stages.");
    }

    #[test]
    fn sizes_and_rates_have_few_digits() {
        let sizes = [
            (1, "1 B"),
            (999, "999 B"),
            (1_000, "1 KB"),
            (1_024, "1 KiB"),
            (100_000, "100 KB"),
            (1_500, "1500 B"),
            (2_000_000, "2 MB"),
            (1 << 20, "1 MiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        let rates = [
            (0.5, "0.50 B/s"),
            (999.4, "999 B/s"),
            (1_000.0, "1.00 KB/s"),
            (312_400_000.0, "312 MB/s"),
            (1.206e9, "1.21 GB/s"),
            (5e12, "5000 GB/s"),
        ];
        for (per_second, text) in rates {
            assert_eq!(Rate { per_second, unit: "B" }.to_string(), text);
        }
        assert_eq!(Percent(-0.0001).to_string(), "0.0 %");
    }
}
