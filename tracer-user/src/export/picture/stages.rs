//! Bars: how long a message is in each stage, one connection below the other.

use maud::{Markup, html};

use super::{
    drawing::{Drawing, WIDTH},
    scale::Linear,
    spread::spread,
    text::{Anchor, Px, SMALL, human, text, width},
};
use crate::{
    comparison::{AtSize, Messages, Stage},
    export::Human,
    workload::Link,
};

/// Where the bars begin, px: the names of connections stand before them.
const LEFT: f64 = 100.0;
/// Room for the time behind the longest bar, px.
const RIGHT: f64 = 76.0;
/// The height of a bar, px.
const BAR: f64 = 28.0;
/// From bar to bar, px; what does not fit into a bar is said below it.
const ROW: f64 = 64.0;
/// Above the first bar, px.
const TOP: f64 = 4.0;

/// What happens in a stage.
pub(super) const fn meaning(stage: Stage) -> &'static str {
    match stage {
        Stage::Entry => "into the kernel",
        Stage::Send => "send call, copying in",
        Stage::Route => "routing tables, IP",
        Stage::Device => "device layer, driver",
        Stage::Backlog => "in a CPU’s input queue",
        Stage::Receive => "receiving IP, transport",
        Stage::Wake => "until the reader runs",
        Stage::Read => "the rest: copying out, return",
    }
}

/// The connections whose messages are there to be followed.
pub(super) fn traced(at: &AtSize) -> impl Iterator<Item = (Link, &Messages)> {
    at.runs.iter().filter_map(|run| Some((run.link, run.messages.as_ref()?)))
}

/// The bars; `None` if nothing was traced.
pub(super) fn draw(at: &AtSize) -> Option<Drawing> {
    let bars: Vec<_> = traced(at).map(|(link, messages)| Bar { link, means: means(messages) }).collect();
    let longest_ns = bars.iter().map(Bar::ns).fold(0.0, f64::max);
    if bars.is_empty() {
        return None;
    }
    let scale = Linear::new(longest_ns, LEFT, WIDTH - RIGHT);
    let bottom = bars.len() as f64 * ROW;
    let ticks = if longest_ns > 0.0 { scale.ticks() } else { Vec::new() };
    let body = html! {
        @for ns in ticks {
            @let x = scale.at(ns as f64);
            line class="grid" x1=(Px(x)) x2=(Px(x)) y1="0" y2=(Px(bottom)) {}
            (text(x, bottom + 14.0, Anchor::Middle, "faint", Human(ns)))
        }
        @for (row, bar) in bars.iter().enumerate() { (bar.draw(TOP + row as f64 * ROW, scale)) }
    };
    Some(Drawing {
        title: "Where the time goes, one way".to_owned(),
        caption: "The mean time of a message in each stage, while traced, over the middle half of the messages: the \
                  few that were interrupted do not speak for all."
            .to_owned(),
        description: bars.iter().map(Bar::describe).collect::<Vec<_>>().join(" "),
        height: bottom + 20.0,
        body,
    })
}

/// The stages that a connection passes, with the mean time in each, ns.
fn means(messages: &Messages) -> Vec<(Stage, f64)> {
    Stage::ALL.into_iter().zip(messages.means()).filter_map(|(stage, mean)| Some((stage, mean?))).collect()
}

struct Bar {
    link: Link,
    means: Vec<(Stage, f64)>,
}

impl Bar {
    fn ns(&self) -> f64 {
        self.means.iter().map(|(_, ns)| ns).sum()
    }

    fn describe(&self) -> String {
        let stages: Vec<_> =
            self.means.iter().map(|(stage, ns)| format!("{} {}", stage.name(), human(*ns))).collect();
        let total = human(self.ns());
        if stages.is_empty() {
            format!("{}: no message was followed.", self.link)
        } else {
            format!("{}: {total} in all; {}.", self.link, stages.join(", "))
        }
    }

    fn draw(&self, y: f64, scale: Linear) -> Markup {
        let middle = y + BAR / 2.0 + 4.0;
        let segments = self.segments(scale);
        html! {
            (text(LEFT - 10.0, middle, Anchor::End, "strong", self.link))
            @for segment in &segments { (segment.draw(y)) }
            (names_below(&segments, y + BAR))
            @if self.means.is_empty() {
                (text(LEFT + 4.0, middle, Anchor::Start, "faint", "no message was followed"))
            } @else {
                (text(scale.at(self.ns()) + 8.0, middle, Anchor::Start, "strong", human(self.ns())))
            }
        }
    }

    fn segments(&self, scale: Linear) -> Vec<Segment> {
        let segment = |before: &mut f64, (stage, ns): &(Stage, f64)| {
            let from = scale.at(*before);
            *before += ns;
            Some(Segment { stage: *stage, ns: *ns, from, to: scale.at(*before) })
        };
        self.means.iter().scan(0.0, segment).collect()
    }
}

/// A stage in a bar.
struct Segment {
    stage: Stage,
    ns: f64,
    from: f64,
    to: f64,
}

impl Segment {
    fn middle(&self) -> f64 {
        f64::midpoint(self.from, self.to)
    }

    /// The longest text that has room inside.
    fn says(&self) -> Option<String> {
        let name = self.stage.name();
        let texts = [format!("{name} {}", human(self.ns)), name.to_owned()];
        texts.into_iter().find(|text| width(text, SMALL) + 6.0 < self.to - self.from)
    }

    fn draw(&self, y: f64) -> Markup {
        let name = self.stage.name();
        html! {
            g {
                title { (name) ", " (meaning(self.stage)) ": " (human(self.ns)) }
                rect class={ "stage " (name) } x=(Px(self.from)) y=(Px(y)) width=(Px(self.to - self.from))
                    height=(Px(BAR)) {}
                @if let Some(says) = self.says() {
                    text class={ "on-" (name) } x=(Px(self.middle())) y=(Px(y + BAR / 2.0 + 4.0))
                        text-anchor="middle" font-size=(SMALL) { (says) }
                }
            }
        }
    }
}

/// The names of what is too short for text.
fn names_below(segments: &[Segment], y: f64) -> Markup {
    let short: Vec<_> = segments.iter().filter(|segment| segment.says().is_none()).collect();
    let places: Vec<f64> = short.iter().map(|segment| segment.middle()).collect();
    let sizes: Vec<f64> = short.iter().map(|segment| width(segment.stage.name(), SMALL) + 6.0).collect();
    let labels = spread(&places, &sizes, LEFT - 20.0, WIDTH);
    html! {
        @for ((segment, place), label) in short.iter().zip(&places).zip(labels) {
            line class="leader" x1=(Px(*place)) x2=(Px(label)) y1=(Px(y + 1.0)) y2=(Px(y + 10.0)) {}
            text x=(Px(label)) y=(Px(y + 20.0)) text-anchor="middle" font-size=(SMALL) { (segment.stage.name()) }
        }
    }
}
