//! The flows, and what is known of the two ends of each.

use std::{
    collections::VecDeque,
    hash::BuildHasher as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable, hash_table::Entry};
use slotmap::SlotMap;
use tracer_common::event::{FlowRecord, NO_FLOW};

use super::{in_flight::PacketKey, queue::Queue, sends::Sends};
use crate::model::{Flow, Protocol};

/// `AF_INET6` on the wire.
const AF_INET6: u8 = 10;

/// More than three times as many as the kernel's table has (`tracer_ebpf::flow`, 32768), and as many as tables of 2^17 places take.
/// Up to twice as many are known where they are in use.
const MOST: usize = 7 << 14;

/// Numbers that one announcement looks at to find one to forget.
const LOOKS: usize = 4;

/// Numbers that need not be looked up again.
const RECENT: usize = 64;

slotmap::new_key_type! {
    /// Names a flow of the table. A number of the kernel's side is not enough: one flow may have several.
    pub(super) struct FlowKey;
}

/// A flow, in little space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    /// As on the wire.
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
    netns: u32,
    protocol: Protocol,
    is_v6: bool,
}

impl Ends {
    fn of(record: &FlowRecord) -> Self {
        let is_v6 = record.family == AF_INET6;
        let address = |bytes: [u8; 16]| match bytes {
            [a, b, c, d, ..] if !is_v6 => [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            bytes => bytes,
        };
        Self {
            addresses: [record.saddr, record.daddr].map(address),
            ports: [record.sport, record.dport],
            netns: record.netns,
            protocol: Protocol::from_ip(record.protocol),
            is_v6,
        }
    }

    /// Those of the other direction.
    fn back(self) -> Self {
        let Self { addresses: [src, dst], ports: [from, to], .. } = self;
        Self { addresses: [dst, src], ports: [to, from], ..self }
    }
}

/// What is known of one direction of a conversation.
#[derive(Debug)]
pub(super) struct FlowState {
    ends: Ends,
    /// The process that was last seen to send on it.
    pub(super) sender: Option<u32>,
    /// Others were seen to send on it, too.
    pub(super) several_send: bool,
    /// The socket whose calls to send were seen last, 0 if none were. Where ports are translated (REDIRECT), packets of another
    /// socket may be on this flow when the device has them.
    pub(super) called_on: u64,
    /// The process that was last seen to read from it.
    pub(super) receiver: Option<u32>,
    /// The socket whose reader was woken last, 0 if none was.
    pub(super) woken_on: u64,
    /// The same of an earlier connection between the same ends, until one is woken of this one: what that one has left in its socket may
    /// be read after its end.
    pub(super) was_woken_on: u64,
    /// Packets that were received and wait to be read, by the end of their data.
    pub(super) waiting: Queue<PacketKey, 1>,
    /// Everything before this sequence number has been read.
    pub(super) read_up_to: Option<u32>,
    /// The send calls whose data may still be sent. Changed by [`Flows::change_sends`], which counts them.
    pub(super) sends: Sends,
    /// The sequence number behind the last data that was sent.
    pub(super) sent_up_to: Option<u32>,
    /// A RST ended the conversation.
    pub(super) reset: bool,
    /// Sequence number of the SYN that began it.
    pub(super) syn: Option<u32>,
    /// When that was first seen, `CLOCK_MONOTONIC` ns; 0 if it was not.
    pub(super) begun_ns: u64,
    /// From this sequence number on each call was seen: none was lost since the first of them.
    pub(super) calls_known_from: Option<u32>,
    /// Data was sent by no call that was seen, and none was lost.
    pub(super) sends_unseen: bool,
    /// Up to which loss what is known is true.
    losses: u32,
    /// How many of the kernel's numbers name it.
    numbers: u32,
}

impl FlowState {
    /// Who talks to whom.
    pub(super) fn flow(&self) -> Flow {
        let Ends { addresses: [src, dst], ports: [from, to], netns, protocol, is_v6 } = self.ends;
        let end = |address, port| SocketAddr::new(address_of(address, is_v6), port);
        Flow { protocol, src: end(src, from), dst: end(dst, to), netns }
    }

    pub(super) fn netns(&self) -> u32 {
        self.ends.netns
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.ends.protocol
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.ends.is_v6
    }

    /// Whether two flows differ in their namespaces at most.
    pub(super) fn has_ends_of(&self, other: &Self) -> bool {
        self.ends == Ends { netns: self.ends.netns, ..other.ends }
    }

    /// Whether a packet that this socket has sent, 0 if that is not known, is of another one than the calls.
    pub(super) fn is_called_on_another(&self, sk: u64) -> bool {
        sk != 0 && self.called_on != 0 && sk != self.called_on
    }

    /// Whether a read on this socket, 0 if that is not known, is not of what was received here.
    pub(super) fn is_read_on_another(&self, sk: u64) -> bool {
        sk != 0 && (sk == self.was_woken_on || self.woken_on != 0 && sk != self.woken_on)
    }

    /// Reads something of every part.
    pub(super) fn touch(&self) -> u64 {
        let parts =
            [Some(self.ends.netns), self.sender, self.receiver, self.read_up_to, self.sent_up_to, self.syn];
        parts.into_iter().flatten().map(u64::from).sum::<u64>() ^ self.sends.touch()
    }
}

/// One of the kernel's numbers for a flow.
#[derive(Debug)]
struct Number {
    flow: FlowKey,
    /// How many announcements there had been when it was last used.
    used: u64,
}

/// All flows, bounded.
pub(super) struct Flows {
    limit: usize,
    states: SlotMap<FlowKey, FlowState>,
    /// By what they are, which stands in `states`.
    by_flow: HashTable<FlowKey>,
    hasher: DefaultHashBuilder,
    by_number: HashMap<u64, Number>,
    /// Numbers in the order in which they are looked at to be forgotten.
    oldest: VecDeque<u64>,
    announced: u64,
    /// Numbers that were used since the last announcement, each at its place: a message has some ten hops.
    recent: [(u64, FlowKey); RECENT],
    /// Send calls that are remembered, of all flows.
    sends: usize,
    /// How often records were lost.
    losses: u32,
}

impl Flows {
    /// No more than `limit`, and twice as many of those that are in use.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, MOST),
            states: SlotMap::with_key(),
            by_flow: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            by_number: HashMap::new(),
            oldest: VecDeque::new(),
            announced: 0,
            recent: [(NO_FLOW, FlowKey::default()); RECENT],
            sends: 0,
            losses: 0,
        }
    }

    /// Records were lost: what was known of any flow is so no more, when it is next used.
    pub(super) fn lose(&mut self) {
        self.losses = self.losses.wrapping_add(1);
        self.recent = [(NO_FLOW, FlowKey::default()); RECENT];
    }

    /// Takes the record that gives a flow its number.
    pub(super) fn announce(&mut self, record: &FlowRecord) {
        if record.id == NO_FLOW {
            return;
        }
        let key = self.key_of(Ends::of(record));
        if let Some(state) = self.states.get_mut(key) {
            state.numbers += 1;
        }
        self.announced += 1;
        self.recent = [(NO_FLOW, FlowKey::default()); RECENT];
        match self.by_number.insert(record.id, Number { flow: key, used: self.announced }) {
            Some(before) => self.release(before.flow),
            None => self.oldest.push_back(record.id),
        }
        if self.oldest.len() > self.limit {
            self.forget_some();
        }
    }

    /// The flow that the kernel calls `number`, which is thereby in use.
    pub(super) fn find(&mut self, number: u64) -> Option<FlowKey> {
        // The lowest bits are those of the CPU that has announced it.
        let place = usize::from((number ^ number >> 16).to_le_bytes()[0]) % RECENT;
        let (recent, flow) = self.recent[place];
        if recent == number && number != NO_FLOW {
            return Some(flow);
        }
        let found = self.by_number.get_mut(&number)?;
        found.used = self.announced;
        self.recent[place] = (number, found.flow);
        if let Some(state) = self.states.get_mut(found.flow)
            && state.losses != self.losses
        {
            state.losses = self.losses;
            // The conversation may have ended meanwhile, and another one begun between the same ends.
            (state.sent_up_to, state.read_up_to, state.syn, state.calls_known_from) =
                (None, None, None, None);
            (state.woken_on, state.was_woken_on) = (0, 0);
        }
        Some(found.flow)
    }

    /// The same, which is not in use by that.
    pub(super) fn peek(&self, number: u64) -> Option<FlowKey> {
        self.by_number.get(&number).map(|found| found.flow)
    }

    pub(super) fn get(&self, key: FlowKey) -> Option<&FlowState> {
        self.states.get(key)
    }

    pub(super) fn get_mut(&mut self, key: FlowKey) -> Option<&mut FlowState> {
        self.states.get_mut(key)
    }

    /// How many send calls are remembered, of all flows.
    pub(super) fn sends(&self) -> usize {
        self.sends
    }

    /// Changes the send calls of a flow, if it is known.
    pub(super) fn change_sends(&mut self, key: FlowKey, change: impl FnOnce(&mut FlowState)) {
        if let Some(state) = self.states.get_mut(key) {
            let before = state.sends.len();
            change(state);
            self.sends = self.sends - before + state.sends.len();
        }
    }

    /// The other direction of the same conversation.
    pub(super) fn back(&self, key: FlowKey) -> Option<FlowKey> {
        let back = self.states.get(key)?.ends.back();
        self.by_flow.find(self.hasher.hash_one(back), |key| self.is(*key, back)).copied()
    }

    /// Whether a key is that of the flow with these ends.
    fn is(&self, key: FlowKey, ends: Ends) -> bool {
        self.states.get(key).is_some_and(|state| state.ends == ends)
    }

    /// The key of a flow, which may be new.
    fn key_of(&mut self, ends: Ends) -> FlowKey {
        let Self { states, by_flow, hasher, losses, .. } = self;
        let is_it = |key: &FlowKey| states.get(*key).is_some_and(|state| state.ends == ends);
        let hash_of = |key: &FlowKey| states.get(*key).map_or(0, |state| hasher.hash_one(state.ends));
        match by_flow.entry(hasher.hash_one(ends), is_it, hash_of) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(place) => {
                let key = states.insert(FlowState {
                    ends,
                    sender: None,
                    several_send: false,
                    called_on: 0,
                    receiver: None,
                    woken_on: 0,
                    was_woken_on: 0,
                    waiting: Queue::default(),
                    read_up_to: None,
                    sends: Sends::default(),
                    sent_up_to: None,
                    reset: false,
                    syn: None,
                    begun_ns: 0,
                    calls_known_from: None,
                    sends_unseen: false,
                    losses: *losses,
                    numbers: 0,
                });
                place.insert(key);
                key
            }
        }
    }

    /// A SYN with this sequence number was sent; says whether a conversation begins with it. A SYN that is sent again
    /// begins none.
    pub(super) fn begin(&mut self, key: FlowKey, syn: u32, time_ns: u64) -> bool {
        let Some(state) = self.states.get_mut(key) else { return false };
        let begins = state.syn.replace(syn) != Some(syn);
        if begins {
            state.begun_ns = time_ns;
        }
        begins
    }

    /// A conversation begins: nothing is known any more of an earlier one between the same ends. Returns the packets
    /// of that one whose data waits to be read.
    pub(super) fn forget_conversation(&mut self, key: FlowKey) -> Queue<PacketKey, 1> {
        let Some(state) = self.states.get_mut(key) else { return Queue::default() };
        (state.sender, state.receiver, state.read_up_to, state.reset) = (None, None, None, false);
        (state.sent_up_to, state.calls_known_from, state.sends_unseen) = (None, None, false);
        (state.several_send, state.called_on) = (false, 0);
        if state.woken_on != 0 {
            state.was_woken_on = std::mem::take(&mut state.woken_on);
        }
        self.sends -= std::mem::take(&mut state.sends).len();
        std::mem::take(&mut state.waiting)
    }

    /// A RST was sent on the flow: both directions are over.
    pub(super) fn reset(&mut self, key: FlowKey) {
        for key in [Some(key), self.back(key)].into_iter().flatten() {
            if let Some(state) = self.states.get_mut(key) {
                state.reset = true;
            }
        }
    }

    /// Nothing waits to be read on the flow any more. If it has no number left either, it goes.
    pub(super) fn idle(&mut self, key: FlowKey) {
        if let Some(state) = self.states.get(key)
            && state.numbers == 0
            && state.waiting.is_empty()
        {
            let hash = self.hasher.hash_one(state.ends);
            if let Ok(found) = self.by_flow.find_entry(hash, |other| *other == key) {
                found.remove();
            }
            self.sends -= state.sends.len();
            self.states.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        [self.states.len(), self.by_flow.len(), self.by_number.len(), self.oldest.len()]
    }

    /// Forgets a number that was not used for so long that the kernel has hardly kept it, and on whose flow no data
    /// waits to be read; at twice the limit any.
    ///
    /// The order of announcement alone would not do: a connection that outlives many others keeps its number.
    fn forget_some(&mut self) {
        for _ in 0..LOOKS {
            let Some(number) = self.oldest.pop_front() else { return };
            let Some(found) = self.by_number.get(&number) else { continue };
            // Twice what the kernel's table has room for: it may keep what was used more than once (`bpf_lru_list.c`) longer
            // than others.
            let is_used = self.announced - found.used < self.limit as u64 * 4 / 7;
            let is_needed = self
                .states
                .get(found.flow)
                .is_some_and(|state| state.numbers == 1 && !state.waiting.is_empty());
            if (is_used || is_needed) && self.oldest.len() < 2 * self.limit {
                self.oldest.push_back(number);
                continue;
            }
            let flow = found.flow;
            self.by_number.remove(&number);
            self.release(flow);
            if self.oldest.len() <= self.limit {
                return;
            }
        }
    }

    /// The flow has one number less.
    fn release(&mut self, key: FlowKey) {
        if let Some(state) = self.states.get_mut(key) {
            state.numbers -= 1;
        }
        self.idle(key);
    }
}

/// An address from its bytes on the wire.
pub(super) fn address_of(bytes: [u8; 16], is_v6: bool) -> IpAddr {
    if is_v6 {
        return IpAddr::V6(Ipv6Addr::from(bytes));
    }
    let [a, b, c, d, ..] = bytes;
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}
