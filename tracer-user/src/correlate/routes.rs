//! Routing questions: asked by a thread before or while it sends, with no packet in hand.

use arrayvec::ArrayVec;
use hashbrown::HashMap;
use tracer_common::event::HopRecord;

use super::{flows::Flows, in_flight::Packet};
use crate::model::{Flow, Hop};

/// Questions kept for each thread. `connect` asks twice (`ip_route_connect`, then `ip_route_newports` with the port
/// that it chose), each time of at most two tables.
const QUESTIONS: usize = 4;

/// A question older than this, with the source or a port left open, belongs to something else. ns.
const OPEN_QUESTION_NS: u64 = 10_000_000;

/// Threads with open questions that are remembered.
const THREADS: usize = 4096;

#[derive(Debug)]
struct Question {
    number: u64,
    hop: Hop,
}

/// The questions that no packet has followed yet, by thread.
#[derive(Default)]
pub(super) struct Routes {
    asked: HashMap<(u32, u32), ArrayVec<Question, QUESTIONS>>,
}

impl Routes {
    /// A thread asks.
    pub(super) fn ask(&mut self, record: &HopRecord, hop: Hop) {
        if self.asked.len() >= THREADS {
            self.asked.clear();
        }
        let questions = self.asked.entry(thread(record)).or_default();
        if questions.is_full() {
            questions.remove(0);
        }
        questions.push(Question { number: record.flow, hop });
    }

    /// A packet was seen in a thread: gives it the questions that were asked for it, and forgets all others of that
    /// thread, as they were not followed by their packet.
    ///
    /// One question must name the packet's flow in full. Those before it that leave the source or the ports open are
    /// its predecessors from the same `connect`.
    pub(super) fn answer(&mut self, record: &HopRecord, flow: Flow, flows: &Flows, packet: &mut Packet) {
        let Some(questions) = self.asked.remove(&thread(record)) else { return };
        let asked = |question: &Question| {
            flows.find(question.number).and_then(|key| flows.get(key)).map(|state| state.flow)
        };
        let exact = |question: &Question| {
            asked(question).is_some_and(|asked| {
                (asked.protocol, asked.src, asked.dst) == (flow.protocol, flow.src, flow.dst)
            })
        };
        let Some(last) = questions.iter().rposition(exact) else { return };
        for question in &questions[..=last] {
            let recent = record.time_ns.saturating_sub(question.hop.time_ns) <= OPEN_QUESTION_NS;
            let open = asked(question)
                .is_some_and(|asked| asked.protocol == flow.protocol && flow.may_be_routed_by(&asked));
            if exact(question) || (open && recent) {
                packet.add(question.hop);
            }
        }
    }
}

/// The idle task has the number 0 on every CPU; softirqs run in it as in any other.
fn thread(record: &HopRecord) -> (u32, u32) {
    (record.tid, if record.tid == 0 { record.cpu } else { 0 })
}
