//! The flows, and what is known of the two ends of each.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hashbrown::HashMap;
use slotmap::SlotMap;
use tracer_common::event::{FlowRecord, NO_FLOW};

use super::in_flight::PacketKey;
use crate::model::{Flow, Protocol};

/// `AF_INET6` on the wire.
const AF_INET6: u8 = 10;

slotmap::new_key_type! {
    /// Names a flow of the table. A number of the kernel's side is not enough: one flow may have several.
    pub(super) struct FlowKey;
}

/// What is known of one direction of a conversation.
#[derive(Debug)]
pub(super) struct FlowState {
    pub(super) flow: Flow,
    /// The process that was last seen to send on it.
    pub(super) sender: Option<u32>,
    /// The process that was last seen to read from it.
    pub(super) receiver: Option<u32>,
    /// Packets that were received and wait to be read, by the end of their data.
    pub(super) waiting: VecDeque<PacketKey>,
    /// Everything before this sequence number has been read.
    pub(super) read_up_to: Option<u32>,
    /// A RST ended the conversation.
    pub(super) reset: bool,
    /// How many of the kernel's numbers name it.
    numbers: usize,
}

/// All flows, bounded.
pub(super) struct Flows {
    limit: usize,
    states: SlotMap<FlowKey, FlowState>,
    by_flow: HashMap<Flow, FlowKey>,
    by_number: HashMap<u64, FlowKey>,
    /// Numbers in the order of their announcement.
    oldest: VecDeque<u64>,
}

impl Flows {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            states: SlotMap::with_key(),
            by_flow: HashMap::new(),
            by_number: HashMap::new(),
            oldest: VecDeque::new(),
        }
    }

    /// Takes the record that gives a flow its number.
    pub(super) fn announce(&mut self, record: &FlowRecord) {
        if record.id == NO_FLOW {
            return;
        }
        let flow = flow_of(record);
        let key = *self.by_flow.entry(flow).or_insert_with(|| {
            self.states.insert(FlowState {
                flow,
                sender: None,
                receiver: None,
                waiting: VecDeque::new(),
                read_up_to: None,
                reset: false,
                numbers: 0,
            })
        });
        self.states[key].numbers += 1;
        match self.by_number.insert(record.id, key) {
            Some(before) => self.release(before),
            None => self.oldest.push_back(record.id),
        }
        if self.oldest.len() > self.limit {
            self.forget_oldest();
        }
    }

    /// The flow that the kernel calls `number`.
    pub(super) fn find(&self, number: u64) -> Option<FlowKey> {
        self.by_number.get(&number).copied()
    }

    pub(super) fn get(&self, key: FlowKey) -> Option<&FlowState> {
        self.states.get(key)
    }

    pub(super) fn get_mut(&mut self, key: FlowKey) -> Option<&mut FlowState> {
        self.states.get_mut(key)
    }

    /// A process sends on the flow.
    pub(super) fn sends(&mut self, number: u64, tgid: u32) {
        if let Some(state) = self.find(number).and_then(|key| self.states.get_mut(key)) {
            state.sender = Some(tgid);
        }
    }

    /// A connection begins: whatever was known of an earlier one between the same ends is void.
    pub(super) fn begin(&mut self, key: FlowKey) {
        if let Some(state) = self.states.get_mut(key) {
            (state.sender, state.receiver, state.read_up_to, state.reset) = (None, None, None, false);
        }
    }

    /// A RST was sent on the flow: both directions are over.
    pub(super) fn reset(&mut self, key: FlowKey) {
        let Some(state) = self.states.get_mut(key) else { return };
        state.reset = true;
        let Flow { src, dst, .. } = state.flow;
        let back = Flow { src: dst, dst: src, ..state.flow };
        if let Some(state) = self.by_flow.get(&back).and_then(|key| self.states.get_mut(*key)) {
            state.reset = true;
        }
    }

    /// Forgets the oldest number, unless data of its flow waits to be read.
    fn forget_oldest(&mut self) {
        let Some(number) = self.oldest.pop_front() else { return };
        let waits = |key| self.states.get(key).is_some_and(|state| !state.waiting.is_empty());
        if self.find(number).is_some_and(waits) {
            self.oldest.push_back(number);
        } else if let Some(key) = self.by_number.remove(&number) {
            self.release(key);
        }
    }

    /// The flow has one number less.
    fn release(&mut self, key: FlowKey) {
        let Some(state) = self.states.get_mut(key) else { return };
        state.numbers -= 1;
        if state.numbers == 0 {
            self.by_flow.remove(&state.flow);
            self.states.remove(key);
        }
    }
}

/// A flow from its record.
pub(super) fn flow_of(record: &FlowRecord) -> Flow {
    let address = |bytes: [u8; 16]| {
        if record.family == AF_INET6 {
            IpAddr::V6(Ipv6Addr::from(bytes))
        } else {
            let [a, b, c, d, ..] = bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
    };
    Flow {
        protocol: Protocol::from_ip(record.protocol),
        src: SocketAddr::new(address(record.saddr), record.sport),
        dst: SocketAddr::new(address(record.daddr), record.dport),
        netns: record.netns,
    }
}
