//! The send calls that segments of TCP come from, joined by sequence number.

use smallvec::SmallVec;
use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::{Backend, Point},
};

use super::{
    Correlator,
    delivery::is_after,
    flows::FlowKey,
    in_flight::{Packet, Who},
    process,
    queue::Queue,
};
use crate::model::{Hop, Incomplete};

/// Calls that are remembered of a flow, however many all flows together have.
const CALLS: usize = 64;

/// Threads whose last call on a flow may be in progress.
const THREADS: usize = 64;

/// A send call on a TCP socket.
#[derive(Clone, Copy, Debug)]
struct SendCall {
    /// Its hop, but for what that of all calls on the flow has.
    time_ns: u64,
    aux: u32,
    cpu: u16,
    backend: Backend,
    /// Another thread entered before this one had written, so whose bytes these are cannot be told.
    contested: bool,
    /// The sequence number of its first byte.
    seq: u32,
    /// Bytes, [`AUX_UNKNOWN`] if not known.
    len: u32,
    tid: u32,
    /// 0 if not known.
    tgid: u32,
}

/// Half a cache line, as there are two in each flow.
const _: () = assert!(size_of::<SendCall>() == 32);

impl SendCall {
    /// Its hop, on a flow in this namespace.
    fn hop(&self, netns: u32) -> Hop {
        let Self { time_ns, aux, cpu, backend, .. } = *self;
        Hop { point: Point::TcpSendmsg, backend, cpu: cpu.into(), time_ns, aux, netns }
    }

    /// Whether the byte at `seq` is one of its bytes, as far as can be told.
    fn has(&self, seq: u32) -> bool {
        !is_after(self.seq, seq)
            && (self.len == AUX_UNKNOWN || is_after(self.seq.wrapping_add(self.len), seq))
    }
}

/// The calls on a flow whose data may still be sent. Where the receiver is slow, thousands of small ones wait.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// By the sequence number of their first byte.
    calls: Queue<SendCall, 2>,
    /// How many there were before them.
    gone: u64,
    /// The last call of each thread, counted from the first of all, that may not have written all of its data.
    open: SmallVec<[u64; 2]>,
    /// Where the calls that are remembered begin, if what was sent before them may not have left the socket.
    forgotten_before: Option<u32>,
}

impl Sends {
    /// Reads what the next call, or packet, is compared with.
    pub(super) fn touch(&self) -> u64 {
        self.calls.back().map_or(0, |call| call.time_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn add(&mut self, mut call: SendCall) {
        let Self { calls, gone, open, .. } = self;
        open.retain(|at| {
            let before = at.checked_sub(*gone).and_then(|at| calls.get_mut(usize::try_from(at).ok()?));
            let Some(before) = before.filter(|before| before.has(call.seq) || before.seq == call.seq) else {
                return false;
            };
            // It was cut short (it ends here then), or is in progress in another thread.
            if before.tid == call.tid {
                before.len = call.seq.wrapping_sub(before.seq);
                return false;
            }
            (before.contested, call.contested) = (true, true);
            true
        });
        if self.open.len() >= THREADS {
            self.open.remove(0);
        }
        self.open.push(self.gone + self.calls.len() as u64);
        self.calls.push_back(call);
    }

    fn pop(&mut self) {
        self.calls.pop_front();
        self.gone += 1;
    }

    fn forget_oldest(&mut self) {
        self.pop();
        self.forgotten_before = self.calls.front().map(|oldest| oldest.seq);
    }

    /// The call that the byte at `seq`, which is sent now, comes from; an error if it may be one that was forgotten.
    fn of(&mut self, seq: u32) -> Result<Option<&SendCall>, Incomplete> {
        // What comes before the call of this byte has been sent, unless another thread may still be writing it.
        while let (Some(first), Some(next)) = (self.calls.front(), self.calls.get(1))
            && !is_after(next.seq, seq)
            && !(first.contested && first.has(seq))
        {
            self.pop();
        }
        let is_forgotten = self.forgotten_before.is_some_and(|before| is_after(before, seq));
        if !is_forgotten {
            self.forgotten_before = None;
        }
        let behind = self.calls.partition_point(|call| !is_after(call.seq, seq));
        match behind.checked_sub(1) {
            Some(at) => Ok(self.calls.get(at)),
            None if is_forgotten => Err(Incomplete::CallNotKept),
            None => Ok(None),
        }
    }
}

impl Correlator {
    /// A process calls send on a TCP socket.
    pub(super) fn tcp_send(&mut self, flow: FlowKey, record: &HopRecord, hop: Hop) {
        let is_full = self.flows.sends() >= self.limits.in_flight;
        let is_unsure = self.lost.is_after(hop.time_ns);
        self.flows.change_sends(flow, |state| {
            let tgid = process(record);
            state.several_send |= tgid.is_some() && state.sender.is_some_and(|before| Some(before) != tgid);
            state.sender = tgid.or(state.sender);
            if state.is_called_on_another(record.sk) {
                // A conversation whose first packets were not seen.
                state.sends = Sends::default();
            }
            state.called_on = record.sk;
            let HopRecord { seq, len, tid, tgid, aux, cpu, time_ns, .. } = *record;
            let backend = hop.backend;
            if !is_unsure {
                state.calls_known_from.get_or_insert(seq);
            }
            state.sends.add(SendCall { time_ns, aux, cpu, backend, contested: false, seq, len, tid, tgid });
            if is_full && state.sends.len() > CALLS {
                state.sends.forget_oldest();
            }
        });
    }

    /// Gives a packet of a flow the call that its first byte comes from. `retransmitted` packets have none: their call was
    /// long ago and has had its path.
    pub(super) fn give_call(&mut self, flow: FlowKey, packet: &mut Packet, sent_ns: u64) {
        let Some(tcp) = packet.tcp().filter(|_| packet.len != 0 && !packet.retransmitted) else { return };
        let Some(state) = self.flows.get(flow) else { return };
        if state.is_called_on_another(packet.sent_by) {
            return self.has_call_elsewhere(packet);
        }
        let netns = state.netns();
        if state.sends.is_empty() {
            return self.has_no_call(flow, packet);
        }
        let mut has_none = false;
        self.flows.change_sends(flow, |state| match state.sends.of(tcp.seq) {
            Ok(Some(call)) if call.has(tcp.seq) && call.time_ns <= sent_ns && !call.contested => {
                packet.sender = Who::thread(call.tgid, call.tid);
                packet.add(call.hop(netns));
            }
            // Whose bytes they are cannot be told.
            Ok(Some(call)) if call.contested => _ = packet.doubt.get_or_insert(Incomplete::Entangled),
            Ok(_) => has_none = true,
            Err(reason) => _ = packet.doubt.get_or_insert(reason),
        });
        if has_none {
            self.has_no_call(flow, packet);
        }
    }
}

/// Whether a point is the call that a packet comes from.
pub(super) fn is_call(point: Point) -> bool {
    matches!(point, Point::TcpSendmsg | Point::UdpSendmsg | Point::Udpv6Sendmsg)
}
