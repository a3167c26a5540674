//! A comparison: a line for each size and link, one for each gap, the conclusions among them.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};

use super::SCHEMA;
use crate::{
    analyze::Distribution,
    comparison::{AtSize, Comparison, Cost, Former, Gap, Metric, Run, Stage},
    export::comparison::{Conclusion, nanos},
    workload::Link,
};

/// Messages over one link.
#[derive(Serialize)]
struct Line {
    schema: u32,
    kind: &'static str,
    link: &'static str,
    /// `null` for a user's own.
    bytes: Option<u32>,
    client_cpu: Option<usize>,
    server_cpu: Option<usize>,
    tracer_cpu: Option<usize>,
    /// What conditions are about.
    figures: BTreeMap<&'static str, f64>,
    untraced: Option<Times>,
    traced: Option<Times>,
    /// How many times longer the median round trip was while it was traced.
    cost_of_tracing: Option<f64>,
    messages: Option<Messages>,
    way: Option<Way>,
    short_cut: Option<ShortCut>,
    /// Packets of a user's own traffic that are in none of the figures, as enough were kept.
    not_kept: u64,
}

/// Messages that a map of sockets was to hand over.
#[derive(Serialize)]
struct ShortCut {
    sent_bytes: u64,
    delivered_bytes: u64,
    /// Packets with data that were seen all the same.
    packets: u64,
    skipped: Vec<&'static str>,
}

#[derive(Serialize)]
struct Times {
    round_trip: Quantiles,
    one_way: Quantiles,
}

#[derive(Serialize)]
struct Quantiles {
    count: u64,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    p999_ns: Option<u64>,
    max_ns: Option<u64>,
    mean_ns: Option<u64>,
}

impl Quantiles {
    fn of(times: &Distribution) -> Self {
        Self {
            count: times.count(),
            p50_ns: times.quantile(0.5),
            p90_ns: times.quantile(0.9),
            p99_ns: times.quantile(0.99),
            p999_ns: times.quantile(0.999),
            max_ns: times.max(),
            mean_ns: times.mean(),
        }
    }
}

/// The traced messages.
#[derive(Serialize)]
struct Messages {
    sent: u64,
    followed: u64,
    one_way: Quantiles,
    /// Stages that none passed are left out.
    stages: BTreeMap<&'static str, Spent>,
}

#[derive(Serialize)]
struct Spent {
    p50_ns: Option<u64>,
    /// Of the middle half of the messages.
    mean_ns: Option<u64>,
}

/// The hops that most messages took.
#[derive(Serialize)]
struct Way {
    share: f64,
    hops: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    hop: &'static str,
    p50_ns: u64,
}

/// What the stages add to a gap.
#[derive(Serialize)]
struct GapLine {
    schema: u32,
    kind: &'static str,
    bytes: Option<u32>,
    from: &'static str,
    to: &'static str,
    from_ns: u64,
    to_ns: u64,
    stages: Vec<GapStage>,
    conclusion: String,
}

#[derive(Serialize)]
struct GapStage {
    stage: &'static str,
    from: Option<Spent>,
    to: Option<Spent>,
    share: Option<f64>,
}

/// A link that could not be compared.
#[derive(Serialize)]
struct LeftOut<'a> {
    schema: u32,
    kind: &'static str,
    link: &'static str,
    reason: &'a str,
}

/// Writes all lines but the summary.
pub fn write_comparison(comparison: &Comparison, mut out: impl Write) -> io::Result<()> {
    let mut line = |line: serde_json::Result<Vec<u8>>| -> io::Result<()> {
        out.write_all(&line?)?;
        out.write_all(b"\n")
    };
    for size in &comparison.sizes {
        for run in &size.runs {
            line(serde_json::to_vec(&run_line(comparison, size, run)))?;
        }
        for run in &size.runs {
            if let Some(gap) = size.gap(run.link).filter(|_| run.link != Link::Tcp) {
                line(serde_json::to_vec(&gap_line(size, run.link, &gap)))?;
            }
        }
    }
    for (link, reason) in &comparison.left_out {
        line(serde_json::to_vec(&LeftOut { schema: SCHEMA, kind: "left_out", link: link.name(), reason }))?;
    }
    Ok(())
}

fn run_line(comparison: &Comparison, size: &AtSize, run: &Run) -> Line {
    let times = |measured: &crate::comparison::Measured| Times {
        round_trip: Quantiles::of(&measured.round_trip),
        one_way: Quantiles::of(&measured.one_way),
    };
    let figures = Metric::ALL.into_iter().filter_map(|metric| Some((metric.name(), metric.of(run)?)));
    Line {
        schema: SCHEMA,
        kind: "comparison",
        link: run.link.name(),
        bytes: size.bytes,
        client_cpu: comparison.cpus.client,
        server_cpu: comparison.cpus.server,
        tracer_cpu: comparison.cpus.tracer,
        figures: figures.collect(),
        untraced: run.untraced.as_ref().map(times),
        traced: run.traced.as_ref().map(times),
        cost_of_tracing: run.cost_of_tracing(),
        messages: run.messages.as_ref().map(messages),
        way: run.messages.as_ref().and_then(way),
        not_kept: comparison.not_kept,
        short_cut: run.short_cut.map(|short_cut| ShortCut {
            sent_bytes: short_cut.sent_bytes,
            delivered_bytes: short_cut.delivered_bytes,
            packets: short_cut.packets,
            skipped: Stage::ALL
                .into_iter()
                .filter(|stage| short_cut.skips(*stage))
                .map(Stage::name)
                .collect(),
        }),
    }
}

fn messages(messages: &crate::comparison::Messages) -> Messages {
    let means = messages.means();
    let stages = Stage::ALL.into_iter().filter_map(|stage| {
        let p50_ns = messages.p50(stage)?;
        Some((
            stage.name(),
            Spent { p50_ns: Some(p50_ns), mean_ns: means[stage as usize].map(|ns| nanos(ns).0) },
        ))
    });
    Messages {
        sent: messages.sent(),
        followed: messages.followed(),
        one_way: Quantiles::of(&messages.one_way()),
        stages: stages.collect(),
    }
}

fn way(messages: &crate::comparison::Messages) -> Option<Way> {
    let way = messages.way()?;
    let hops = way.steps.iter().map(|(point, p50_ns)| Step { hop: point.row().hop, p50_ns: *p50_ns });
    Some(Way { share: way.share, hops: hops.collect() })
}

fn gap_line(size: &AtSize, to: Link, gap: &Gap) -> GapLine {
    let spent = |cost: Cost| Spent { p50_ns: Some(cost.p50_ns), mean_ns: Some(nanos(cost.mean_ns).0) };
    let stages = gap.rows.iter().map(|row| GapStage {
        stage: row.stage.name(),
        from: row.first.map(spent),
        to: row.second.map(spent),
        share: row.share,
    });
    GapLine {
        schema: SCHEMA,
        kind: "gap",
        bytes: size.bytes,
        from: Link::Tcp.name(),
        to: to.name(),
        from_ns: nanos(gap.first_ns).0,
        to_ns: nanos(gap.second_ns).0,
        stages: stages.collect(),
        conclusion: Conclusion { size, to }.to_string().trim_start().to_owned(),
    }
}

/// What is read back of a line.
#[derive(Deserialize)]
struct FormerLine {
    schema: u32,
    kind: String,
    link: Option<String>,
    bytes: Option<u32>,
    #[serde(default)]
    figures: BTreeMap<String, f64>,
}

/// No comparison is longer than this, bytes.
const MOST_BYTES: u64 = 16 << 20;
/// No figure is outside of these: a ns, and more bytes a second than any memory moves.
const FIGURES: std::ops::RangeInclusive<f64> = 1.0..=1e15;

/// Reads the figures of an earlier comparison. An error says in words what is wrong with it.
pub fn read_former(from: impl BufRead) -> Result<Vec<Former>, String> {
    let mut all = Vec::new();
    for (number, text) in from.take(MOST_BYTES).lines().enumerate() {
        let text = text.map_err(|error| error.to_string())?;
        let what = |error: serde_json::Error| format!("line {}: {error}", number + 1);
        let former: FormerLine = serde_json::from_str(&text).map_err(what)?;
        if former.schema != SCHEMA {
            return Err(format!("line {}: schema {} is not known", number + 1, former.schema));
        }
        let known = Link::ALL.into_iter().find(|link| Some(link.name()) == former.link.as_deref());
        let Some(link) = known.filter(|_| former.kind == "comparison") else { continue };
        let figure = |metric: Metric| {
            let value = former.figures.get(metric.name()).copied().filter(|value| FIGURES.contains(value))?;
            Some(Former { link, bytes: former.bytes, metric, value })
        };
        all.extend(Metric::ALL.into_iter().filter_map(figure));
    }
    if all.is_empty() {
        return Err("this is no output of `pathtrace compare --json`".to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::comparison::samples;

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        write_comparison(&samples::comparison(), &mut out).unwrap();
        out
    }

    #[test]
    fn every_line_is_an_object_of_the_contract() {
        let text = String::from_utf8(written()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["comparison", "comparison", "gap", "left_out"]);
        let pretty: Vec<String> =
            lines.iter().map(|line| serde_json::to_string_pretty(line).unwrap()).collect();
        insta::assert_snapshot!(pretty.join("\n"));
    }

    #[test]
    fn figures_come_back_as_they_went() {
        let comparison = samples::comparison();
        let former = read_former(written().as_slice()).unwrap();
        for run in &comparison.sizes[0].runs {
            for metric in Metric::ALL {
                let value = metric.of(run).unwrap();
                let found = former.iter().find(|one| (one.link, one.metric) == (run.link, metric)).unwrap();
                assert!((found.value - value).abs() <= value * 1e-9, "{metric:?}");
                assert_eq!(found.bytes, Some(100));
            }
        }
    }

    #[test]
    fn what_is_no_comparison_is_refused() {
        let no_number = r#"{"schema":1,"kind":"comparison","link":"tcp","figures":{"p50":"fast"}}"#;
        for text in [
            "",
            "hello",
            "{}",
            r#"{"schema":1,"kind":"summary"}"#,
            r#"{"schema":2,"kind":"comparison"}"#,
            no_number,
        ] {
            assert!(read_former(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = read_former(bytes.as_slice());
        }
    }
}
