//! What each stage adds to the difference between two kinds of connection.

use super::{Messages, Stage};

/// Two ways, stage by stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// The stages that any of the two passed, in their order.
    pub rows: Vec<GapRow>,
    /// One way, ns: the means of the first's stages together.
    pub first_ns: f64,
    /// One way, ns: those of the second.
    pub second_ns: f64,
}

/// A stage on both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GapRow {
    /// Which.
    pub stage: Stage,
    /// What it costs on the first way; `None` if that does not pass it.
    pub first: Option<Cost>,
    /// What it costs on the second way.
    pub second: Option<Cost>,
    /// Which part of the gap it is: 1 is all of it, less than 0 makes it smaller. All rows together are 1. `None` if
    /// there is no gap to speak of.
    pub share: Option<f64>,
}

/// How long a stage takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The median, ns.
    pub p50_ns: u64,
    /// The mean of the middle half of the messages, ns ([`Messages::means`]).
    pub mean_ns: f64,
}

/// A gap smaller than this part of the longer way is none: what it consists of would be noise.
const LEAST_GAP: f64 = 0.02;

impl Gap {
    /// From the first to the second; `None` unless messages of both were followed.
    pub fn between(first: &Messages, second: &Messages) -> Option<Self> {
        if first.followed() == 0 || second.followed() == 0 {
            return None;
        }
        let costs = [costs(first), costs(second)];
        let total = |at: usize| costs[at].iter().flatten().map(|cost| cost.mean_ns).sum::<f64>();
        let (first_ns, second_ns) = (total(0), total(1));
        let gap_ns = first_ns - second_ns;
        let is_gap = gap_ns.abs() > LEAST_GAP * first_ns.max(second_ns);
        let rows = Stage::ALL.into_iter().filter_map(|stage| {
            let [first, second] = [0, 1].map(|at| costs[at][stage as usize]);
            first.or(second)?;
            let mean = |cost: Option<Cost>| cost.map_or(0.0, |cost| cost.mean_ns);
            let share = is_gap.then(|| (mean(first) - mean(second)) / gap_ns);
            Some(GapRow { stage, first, second, share })
        });
        Some(Self { rows: rows.collect(), first_ns, second_ns })
    }

    /// How much longer the first way is, ns.
    pub fn ns(&self) -> f64 {
        self.first_ns - self.second_ns
    }
}

fn costs(messages: &Messages) -> [Option<Cost>; Stage::ALL.len()] {
    let means = messages.means();
    Stage::ALL.map(|stage| {
        let (p50_ns, mean_ns) = (messages.p50(stage)?, means[stage as usize]?);
        Some(Cost { p50_ns, mean_ns })
    })
}
