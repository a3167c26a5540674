//! The stages as a table: what each costs on each connection, and which part of the gap to TCP it is.

use maud::{Markup, html};

use super::{
    drawing::{Drawing, WIDTH},
    stages::{meaning, traced},
    text::{Anchor, Percent, Px, human, text},
};
use crate::{
    comparison::{AtSize, Gap, Messages, Stage},
    workload::Link,
};

/// From row to row, px.
const ROW: f64 = 21.0;
/// The two lines above the rows, px.
const HEAD: f64 = 40.0;
/// Names of stages, px.
const NAMES: f64 = 84.0;
/// What they mean, px; left out where many connections need the room.
const MEANINGS: f64 = 170.0;
/// A column of times, px.
const TIMES: f64 = 84.0;
/// The figure beside a bar, px.
const FIGURE: f64 = 56.0;
/// As many connections leave room for meanings.
const MOST_WITH_MEANINGS: usize = 3;

/// The table; `None` if nothing was followed.
pub(super) fn draw(at: &AtSize) -> Option<Drawing> {
    let sides: Vec<_> = traced(at).filter(|(_, messages)| messages.followed() > 0).map(Side::new).collect();
    let others = sides.iter().filter(|side| side.link != Link::Tcp);
    let gaps: Vec<_> = others.filter_map(|side| Some((side.link, at.gap(side.link)?))).collect();
    let stages: Vec<_> =
        Stage::ALL.into_iter().filter(|stage| sides.iter().any(|side| side.mean(*stage).is_some())).collect();
    if sides.is_empty() {
        return None;
    }
    let ledger = Ledger { sides, gaps, stages };
    Some(Drawing {
        title: "What each stage costs, and its part of the gap".to_owned(),
        caption: "On the right, each way against that of TCP: the parts of a gap add up to 100 %, and a stage that makes \
                  it smaller has less than 0 %."
            .to_owned(),
        description: ledger.describe(),
        height: HEAD + (ledger.stages.len() + 1) as f64 * ROW + 6.0,
        body: ledger.draw(),
    })
}

/// A connection, and the mean time in each stage, ns.
struct Side {
    link: Link,
    means: [Option<f64>; Stage::ALL.len()],
}

impl Side {
    fn new((link, messages): (Link, &Messages)) -> Self {
        Self { link, means: messages.means() }
    }

    fn mean(&self, stage: Stage) -> Option<f64> {
        self.means[stage as usize]
    }

    fn ns(&self) -> f64 {
        self.means.iter().flatten().sum()
    }
}

struct Ledger {
    sides: Vec<Side>,
    gaps: Vec<(Link, Gap)>,
    stages: Vec<Stage>,
}

impl Ledger {
    /// Which part of a gap a stage is.
    fn share(gap: &Gap, stage: Stage) -> Option<f64> {
        gap.rows.iter().find(|row| row.stage == stage)?.share
    }

    /// The smallest and the largest part, 0 included.
    fn range(&self) -> (f64, f64) {
        let shares = self.gaps.iter().flat_map(|(_, gap)| &gap.rows).filter_map(|row| row.share);
        shares.fold((0.0, f64::EPSILON), |(least, most), share| (least.min(share), most.max(share)))
    }

    fn meanings(&self) -> f64 {
        if self.sides.len() > MOST_WITH_MEANINGS { 0.0 } else { MEANINGS }
    }

    /// Where the times of a connection end.
    fn times_end(&self, side: usize) -> f64 {
        NAMES + self.meanings() + (side + 1) as f64 * TIMES
    }

    fn draw(&self) -> Markup {
        let bottom = HEAD + self.stages.len() as f64 * ROW;
        let begin = self.times_end(self.sides.len() - 1) + 24.0;
        let column = ((WIDTH - begin) / self.gaps.len().max(1) as f64).min(380.0);
        html! {
            (text(18.0, 30.0, Anchor::Start, "faint", "stage"))
            @for (at, side) in self.sides.iter().enumerate() {
                (text(self.times_end(at), 30.0, Anchor::End, "strong", side.link))
            }
            line class="rule" x1="0" x2=(Px(WIDTH)) y1=(Px(HEAD)) y2=(Px(HEAD)) {}
            @for (row, stage) in self.stages.iter().enumerate() {
                (self.row(*stage, HEAD + row as f64 * ROW))
            }
            line class="rule" x1="0" x2=(Px(WIDTH)) y1=(Px(bottom)) y2=(Px(bottom)) {}
            (text(18.0, bottom + 16.0, Anchor::Start, "strong", "one way"))
            @for (at, side) in self.sides.iter().enumerate() {
                (text(self.times_end(at), bottom + 16.0, Anchor::End, "strong", human(side.ns())))
            }
            @for (at, (link, gap)) in self.gaps.iter().enumerate() {
                (self.gap(*link, gap, begin + at as f64 * column, column))
            }
        }
    }

    fn row(&self, stage: Stage, y: f64) -> Markup {
        html! {
            rect class={ "stage " (stage.name()) } x="0" y=(Px(y + 5.0)) width="12" height="12" {}
            (text(18.0, y + 15.0, Anchor::Start, "", stage.name()))
            @if self.meanings() > 0.0 { (text(NAMES, y + 15.0, Anchor::Start, "faint", meaning(stage))) }
            @for (at, side) in self.sides.iter().enumerate() {
                @match side.mean(stage) {
                    Some(ns) => (text(self.times_end(at), y + 15.0, Anchor::End, "", human(ns))),
                    None => (text(self.times_end(at), y + 15.0, Anchor::End, "faint", "not passed")),
                }
            }
        }
    }

    /// The column of a gap: a bar and a figure for each stage.
    fn gap(&self, link: Link, gap: &Gap, x: f64, column: f64) -> Markup {
        let (least, most) = self.range();
        let bars = column - FIGURE - 16.0;
        let place = |share: f64| x + FIGURE + 8.0 + (share - least) / (most - least) * bars;
        let bottom = HEAD + self.stages.len() as f64 * ROW;
        let has_shares = gap.rows.iter().any(|row| row.share.is_some());
        html! {
            (text(x + 8.0, 14.0, Anchor::Start, "strong", link))
            (text(x + 8.0, 30.0, Anchor::Start, "faint", Self::size(gap)))
            @if has_shares {
                line class="rule" x1=(Px(place(0.0))) x2=(Px(place(0.0))) y1=(Px(HEAD)) y2=(Px(bottom)) {}
                (text(x + FIGURE, bottom + 16.0, Anchor::End, "strong", Percent(1.0)))
            }
            @for (row, stage) in self.stages.iter().enumerate() {
                @if let Some(share) = Self::share(gap, *stage) {
                    @let y = HEAD + row as f64 * ROW;
                    @let (from, to) = (place(share.min(0.0)), place(share.max(0.0)));
                    (text(x + FIGURE, y + 15.0, Anchor::End, "", Percent(share)))
                    rect class={ "stage " (stage.name()) } x=(Px(from)) y=(Px(y + 4.0)) width=(Px(to - from))
                        height=(Px(ROW - 8.0)) {
                        title { (stage.name()) ": " (Percent(share)) " of the gap to " (link) }
                    }
                }
            }
        }
    }

    /// How much longer or shorter than TCP.
    fn size(gap: &Gap) -> String {
        if gap.rows.iter().all(|row| row.share.is_none()) {
            "none to speak of".to_owned()
        } else if gap.ns() < 0.0 {
            format!("{} longer", human(-gap.ns()))
        } else {
            format!("{} shorter", human(gap.ns()))
        }
    }

    fn describe(&self) -> String {
        let gap = |(link, gap): &(Link, Gap)| {
            let shares = gap.rows.iter().filter_map(|row| Some((row.stage.name(), Percent(row.share?))));
            let shares: Vec<_> = shares.map(|(stage, share)| format!("{stage} {share}")).collect();
            format!("{link} against TCP: {}. {}.", Self::size(gap), shares.join(", "))
        };
        self.gaps.iter().map(gap).collect::<Vec<_>>().join(" ")
    }
}
