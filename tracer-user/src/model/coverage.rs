//! Which probe points a run could see, and why the others are dark.

use tracer_common::probes::{Backend, PROBES, Point};

/// Where a point is attached.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attached {
    /// How.
    #[serde(with = "backend_name")]
    pub backend: Backend,
    /// The kernel symbol or tracepoint that was taken.
    pub function: String,
}

/// One backend's answer to an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// Which backend.
    #[serde(with = "backend_name")]
    pub backend: Backend,
    /// What it said.
    pub reason: String,
}

/// What became of a point.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is attached.
    Attached(Attached),
    /// Every backend that was asked for refused.
    Refused(Vec<Refusal>),
    /// The filters exclude all that it could see, so it was not tried.
    NotNeeded,
}

/// The state of every point of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    states: Vec<State>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { states: vec![State::NotNeeded; PROBES.len()] }
    }
}

impl Coverage {
    /// Sets the state of a point.
    pub fn set(&mut self, point: Point, state: State) {
        self.states[point as usize] = state;
    }

    /// The state of a point.
    pub fn state(&self, point: Point) -> &State {
        &self.states[point as usize]
    }

    /// Where a point is attached, if it is.
    pub fn attached(&self, point: Point) -> Option<&Attached> {
        match self.state(point) {
            State::Attached(attached) => Some(attached),
            _ => None,
        }
    }

    /// Whether a point is attached.
    pub fn sees(&self, point: Point) -> bool {
        self.attached(point).is_some()
    }

    /// The points that are attached by a backend.
    pub fn by_backend(&self, backend: Backend) -> impl Iterator<Item = Point> {
        self.all().filter_map(move |(point, state)| match state {
            State::Attached(attached) if attached.backend == backend => Some(point),
            _ => None,
        })
    }

    /// All points, in the order of the path.
    pub fn all(&self) -> impl Iterator<Item = (Point, &State)> {
        Point::ALL.iter().map(|point| (*point, self.state(*point)))
    }

    /// The points that were tried, in the order of the path.
    pub fn tried(&self) -> impl Iterator<Item = (Point, &State)> {
        self.all().filter(|(_, state)| **state != State::NotNeeded)
    }

    /// The points that every backend refused, in the order of the path.
    pub fn refused(&self) -> impl Iterator<Item = Point> {
        self.all().filter(|(_, state)| matches!(state, State::Refused(_))).map(|(point, _)| point)
    }

    /// Whether anything is attached that packets and messages pass. What is a tracepoint whichever backend is asked for
    /// only adds to what others see.
    pub fn sees_traffic(&self) -> bool {
        self.all()
            .any(|(point, state)| matches!(state, State::Attached(_)) && point.row().functions().is_ok())
    }

    /// How many points are attached, and how many were tried.
    pub fn counts(&self) -> (usize, usize) {
        let attached = self.tried().filter(|(_, state)| matches!(state, State::Attached(_))).count();
        (attached, self.tried().count())
    }
}

/// Backends by name in stored coverage.
mod backend_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tracer_common::probes::Backend;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` wants a reference")]
    pub(super) fn serialize<S: Serializer>(backend: &Backend, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(backend.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Backend, D::Error> {
        let name = String::deserialize(from)?;
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| D::Error::custom(format!("unknown backend {name:?}")))
    }
}
