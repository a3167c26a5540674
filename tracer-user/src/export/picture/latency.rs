//! How the times are spread, one connection below the other on one axis.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::{
    drawing::{Drawing, WIDTH},
    scale::Log,
    spread::spread,
    text::{Anchor, Grouped, Px, SIZE, text, width},
};
use crate::{
    analyze::Distribution,
    comparison::{AtSize, Run},
    export::Human,
    workload::Link,
};

/// Where the axis begins, px: the names of connections stand before it.
const LEFT: f64 = 100.0;
/// Half a label of the axis, px.
const RIGHT: f64 = 30.0;
/// The height of the highest bin, px.
const CURVE: f64 = 50.0;
/// Quantiles below a curve, and what is between two curves, px.
const BELOW: f64 = 36.0;
/// Into how many parts the axis is cut to count times. The parts are wider than the times are exact.
const BINS: usize = 140;
/// What is marked.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];

/// The curves; `None` if nothing was measured.
pub(super) fn draw(at: &AtSize) -> Option<Drawing> {
    let round_trips: Vec<_> = at.runs.iter().filter_map(Curves::of_round_trips).collect();
    let (curves, of, key) = if round_trips.is_empty() {
        let one_way = at.runs.iter().filter_map(Curves::of_one_way).collect();
        (one_way, "One way", "All of it was traced, which costs time.")
    } else {
        (round_trips, "Round trips", "Filled: the true times. Dashed: while traced, which costs time.")
    };
    let shown = || curves.iter().flat_map(|curves: &Curves| [&curves.untraced, &curves.traced]).flatten();
    let shortest_ns = shown().filter_map(|times| times.times().next()).map(|(ns, _)| ns).min()?;
    let longest_ns = shown().filter_map(Distribution::max).max()?;
    let scale = Log::new(shortest_ns, longest_ns, LEFT, WIDTH - RIGHT);
    let bottom = curves.len() as f64 * (CURVE + BELOW);
    let body = html! {
        @for ns in scale.ticks() {
            @let x = scale.at(*ns);
            line class="grid" x1=(Px(x)) x2=(Px(x)) y1="0" y2=(Px(bottom)) {}
            (text(x, bottom + 14.0, Anchor::Middle, "faint", Human(*ns)))
        }
        @for (row, curves) in curves.iter().enumerate() {
            (curves.draw(row as f64 * (CURVE + BELOW) + CURVE + 4.0, &scale))
        }
    };
    Some(Drawing {
        title: format!("{of}: how the times are spread"),
        caption: format!("The axis is logarithmic, and all curves are equally high. {key}"),
        description: curves.iter().map(Curves::describe).collect::<Vec<_>>().join(" "),
        height: bottom + 20.0,
        body,
    })
}

/// The times of a connection; one of the two at least has some.
struct Curves {
    link: Link,
    untraced: Option<Distribution>,
    traced: Option<Distribution>,
}

impl Curves {
    fn new(link: Link, untraced: Option<Distribution>, traced: Option<Distribution>) -> Option<Self> {
        let some = |times: Option<Distribution>| times.filter(|times| times.count() > 0);
        let curves = Self { link, untraced: some(untraced), traced: some(traced) };
        curves.main().is_some().then_some(curves)
    }

    fn of_round_trips(run: &Run) -> Option<Self> {
        let [untraced, traced] = [&run.untraced, &run.traced]
            .map(|measured| measured.as_ref().map(|measured| measured.round_trip.clone()));
        Self::new(run.link, untraced, traced)
    }

    /// Where nobody has measured round trips, the messages that were followed are all there is.
    fn of_one_way(run: &Run) -> Option<Self> {
        Self::new(run.link, None, Some(run.messages.as_ref()?.one_way()))
    }

    /// The one whose quantiles are marked.
    fn main(&self) -> Option<&Distribution> {
        self.untraced.as_ref().or(self.traced.as_ref())
    }

    fn quantiles(&self) -> Vec<(&'static str, u64)> {
        let quantile = |(part, name)| Some((name, self.main()?.quantile(part)?));
        QUANTILES.into_iter().filter_map(quantile).collect()
    }

    fn describe(&self) -> String {
        let quantiles: Vec<_> =
            self.quantiles().into_iter().map(|(name, ns)| format!("{name} {}", Human(ns))).collect();
        format!("{}: {}.", self.link, quantiles.join(", "))
    }

    fn draw(&self, y: f64, scale: &Log) -> Markup {
        let count = self.main().map_or(0, Distribution::count);
        html! {
            (text(LEFT - 10.0, y - 12.0, Anchor::End, "strong", self.link))
            (text(LEFT - 10.0, y + 3.0, Anchor::End, "faint", format_args!("{}×", Grouped(count))))
            @if let Some(times) = &self.untraced { path class="times" d=(outline(times, y, scale)) {} }
            @if let Some(times) = &self.traced { path class="times-traced" d=(outline(times, y, scale)) {} }
            line class="rule" x1=(Px(LEFT)) x2=(Px(WIDTH - RIGHT)) y1=(Px(y)) y2=(Px(y)) {}
            (self.marks(y, scale))
        }
    }

    fn marks(&self, y: f64, scale: &Log) -> Markup {
        let marks = self.quantiles();
        let places: Vec<f64> = marks.iter().map(|(_, ns)| scale.at(*ns)).collect();
        let says: Vec<String> = marks.iter().map(|(name, ns)| format!("{name} {}", Human(*ns))).collect();
        let sizes: Vec<f64> = says.iter().map(|says| width(says, SIZE) + 10.0).collect();
        let labels = spread(&places, &sizes, LEFT - 8.0, WIDTH);
        html! {
            @for ((place, label), says) in places.iter().zip(labels).zip(says) {
                line class="mark" x1=(Px(*place)) x2=(Px(*place)) y1=(Px(y - CURVE)) y2=(Px(y + 4.0)) {}
                line class="leader" x1=(Px(*place)) x2=(Px(label)) y1=(Px(y + 4.0)) y2=(Px(y + 12.0)) {}
                (text(label, y + 23.0, Anchor::Middle, "", says))
            }
        }
    }
}

/// A path around the bins, as high as [`CURVE`] above `y`.
fn outline(times: &Distribution, y: f64, scale: &Log) -> String {
    let bin = (WIDTH - RIGHT - LEFT) / BINS as f64;
    let mut bins = [0_u64; BINS];
    for (ns, count) in times.times() {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, and bins are few"
        )]
        let at = ((scale.at(ns) - LEFT) / bin) as usize;
        bins[at.min(BINS - 1)] += count;
    }
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    let first = bins.iter().position(|count| *count > 0).unwrap_or(0);
    let last = bins.iter().rposition(|count| *count > 0).unwrap_or(0);
    let mut path = format!("M{:.1} {y:.1}", LEFT + first as f64 * bin);
    for (at, count) in bins.iter().enumerate().take(last + 1).skip(first) {
        let top = y - *count as f64 / most as f64 * CURVE;
        // Writing to a string does not fail.
        let _ = write!(path, "V{top:.1}H{:.1}", LEFT + (at + 1) as f64 * bin);
    }
    let _ = write!(path, "V{y:.1}");
    path
}
