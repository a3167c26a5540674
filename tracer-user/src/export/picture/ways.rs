//! The hops of the most usual way over each connection, side by side on one time axis that runs downwards.

use maud::{Markup, html};
use tracer_common::probes::Point;

use super::{
    drawing::{Drawing, WIDTH},
    scale::Linear,
    spread::spread,
    stages::traced,
    text::{Anchor, Grouped, Percent, Px, SMALL, text},
};
use crate::{
    comparison::{AtSize, Messages, Stage, Way},
    export::Human,
    workload::Link,
};

/// Times of the axis, px.
const LEFT: f64 = 62.0;
/// The two lines above a way, px.
const HEAD: f64 = 44.0;
/// From hop to hop where many are at nearly the same time, px.
const LINE: f64 = 16.0;
/// The least height of the axis, px.
const LEAST: f64 = 260.0;
/// As many ways stand side by side; the names of hops need the room.
const MOST_BESIDE: usize = 4;
/// From a way to the names of its hops, px.
const LEADER: f64 = 34.0;
/// The width of a way, px.
const THICK: f64 = 7.0;

/// The ways; `None` if nothing was followed. Connections whose messages were not have none.
pub(super) fn draw(at: &AtSize) -> Option<Drawing> {
    let tracks: Vec<_> = traced(at).filter_map(Track::new).collect();
    let longest_ns = tracks.iter().map(Track::ns).max()?;
    let most_hops = tracks.iter().map(|track| track.hops.len()).max()?;
    let axis = LEAST.max(most_hops as f64 * LINE);
    let columns = tracks.len().min(MOST_BESIDE);
    let column = (WIDTH - LEFT) / columns as f64;
    let height = HEAD + axis + LINE;
    let body = html! {
        @for (row, tracks) in tracks.chunks(columns).enumerate() {
            @let top = row as f64 * height + HEAD;
            @let scale = Linear::new(longest_ns as f64, top, top + axis - LINE / 2.0);
            (time_axis(scale))
            @for (at, track) in tracks.iter().enumerate() { (track.draw(LEFT + at as f64 * column, top, axis, scale)) }
        }
    };
    Some(Drawing {
        title: "The way, hop by hop".to_owned(),
        caption: "The way that most messages took, to scale: time runs downwards, in the colours of the stages. Before a \
                  hop stands the median time since the one above."
            .to_owned(),
        description: tracks.iter().map(Track::describe).collect::<Vec<_>>().join(" "),
        height: tracks.len().div_ceil(columns) as f64 * height,
        body,
    })
}

fn time_axis(scale: Linear) -> Markup {
    html! {
        @for ns in scale.ticks() {
            @let y = scale.at(ns as f64);
            line class="grid" x1=(Px(LEFT - 6.0)) x2=(Px(WIDTH)) y1=(Px(y)) y2=(Px(y)) {}
            (text(LEFT - 10.0, y + 4.0, Anchor::End, "faint", Human(ns)))
        }
    }
}

/// A hop of a way.
struct Step {
    point: Point,
    /// Since the one before, ns.
    since_ns: u64,
    /// Since the first one, ns.
    ns: u64,
}

struct Track {
    link: Link,
    followed: u64,
    share: f64,
    hops: Vec<Step>,
}

impl Track {
    fn new((link, messages): (Link, &Messages)) -> Option<Self> {
        let Way { steps, share } = messages.way()?;
        let hops = steps.into_iter().scan(0_u64, |ns, (point, since_ns)| {
            *ns = ns.saturating_add(since_ns);
            Some(Step { point, since_ns, ns: *ns })
        });
        Some(Self { link, followed: messages.followed(), share, hops: hops.collect() })
    }

    fn ns(&self) -> u64 {
        self.hops.last().map_or(0, |hop| hop.ns)
    }

    /// How usual it is.
    fn usual(&self) -> String {
        format!("{} of {} took this way", Percent(self.share), Grouped(self.followed))
    }

    fn describe(&self) -> String {
        let hops: Vec<_> =
            self.hops.iter().map(|hop| format!("{} +{}", hop.point.row().hop, Human(hop.since_ns))).collect();
        format!("{}, {}: {}.", self.link, self.usual(), hops.join(", "))
    }

    fn draw(&self, x: f64, top: f64, axis: f64, scale: Linear) -> Markup {
        let places: Vec<f64> = self.hops.iter().map(|hop| scale.at(hop.ns as f64)).collect();
        let sizes = vec![LINE; places.len()];
        let labels = spread(&places, &sizes, top - LINE / 2.0, top + axis);
        html! {
            (text(x, top - 28.0, Anchor::Start, "strong", format_args!("{} {}", self.link, Human(self.ns()))))
            (text(x, top - 13.0, Anchor::Start, "faint", self.usual()))
            @for ((pair, from), to) in self.hops.windows(2).zip(&places).zip(places.iter().skip(1)) {
                @let stage = Stage::of_step(pair[0].point, pair[1].point);
                rect class=(stage.name()) x=(Px(x + 6.0 - THICK / 2.0)) width=(Px(THICK)) y=(Px(*from))
                    height=(Px(to - from)) {
                    title { (stage.name()) ": " (Human(pair[1].since_ns)) }
                }
            }
            @for ((hop, y), label) in self.hops.iter().zip(&places).zip(labels) {
                polyline class="leader" points={
                    (Px(x + 6.0)) "," (Px(*y)) " " (Px(x + 12.0)) "," (Px(*y)) " "
                    (Px(x + LEADER - 8.0)) "," (Px(label)) " " (Px(x + LEADER - 3.0)) "," (Px(label))
                } {}
                circle class="hop" cx=(Px(x + 6.0)) cy=(Px(*y)) r="3" {}
                (hop.draw(x + LEADER, label + 4.0))
            }
        }
    }
}

impl Step {
    fn draw(&self, x: f64, y: f64) -> Markup {
        html! {
            text class="on-grid" x=(Px(x)) y=(Px(y)) font-size=(SMALL) {
                title { (self.point.row().hop) ": " (Human(self.ns)) " after the first hop" }
                @if self.since_ns > 0 { tspan class="faint" { "+" (Human(self.since_ns)) " " } }
                (self.point.row().hop)
            }
        }
    }
}
