//! The send calls that segments of TCP come from, joined by sequence number.

use tracer_common::{
    event::{AUX_UNKNOWN, HopRecord},
    probes::Point,
};

use super::{Correlator, delivery::is_after, flows::FlowKey, in_flight::Packet, process};
use crate::model::{Hop, Incomplete};

/// Calls that are remembered of a flow. Where the receiver is slow, many small ones wait in the send buffer.
const CALLS: usize = 1024;

/// A send call on a TCP socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendCall {
    /// The sequence number of its first byte.
    seq: u32,
    /// Bytes, [`AUX_UNKNOWN`] if not known.
    len: u32,
    tid: u32,
    tgid: Option<u32>,
    hop: Hop,
    /// Another thread entered before this one had written, so whose bytes these are cannot be told.
    contested: bool,
}

impl SendCall {
    /// Whether the byte at `seq` is one of its bytes, as far as can be told.
    fn has(&self, seq: u32) -> bool {
        !is_after(self.seq, seq)
            && (self.len == AUX_UNKNOWN || is_after(self.seq.wrapping_add(self.len), seq))
    }
}

impl Correlator {
    /// A process calls send on a TCP socket.
    pub(super) fn tcp_send(&mut self, flow: FlowKey, record: &HopRecord, hop: Hop) {
        let Some(state) = self.flows.get_mut(flow) else { return };
        let tgid = process(record);
        state.sender = tgid.or(state.sender);
        let mut call =
            SendCall { seq: record.seq, len: record.len, tid: record.tid, tgid, hop, contested: false };
        for before in &mut state.sends {
            // It may have been cut short (it ends here then), or may be in progress in another thread.
            if !before.has(record.seq) && before.seq != record.seq {
                continue;
            }
            if before.tid == record.tid {
                before.len = record.seq.wrapping_sub(before.seq);
            } else {
                before.contested = true;
                call.contested = true;
            }
        }
        if state.sends.len() >= CALLS {
            state.sends.pop_front();
            state.forgotten_before = state.sends.front().map(|oldest| oldest.seq);
        }
        state.sends.push_back(call);
    }

    /// Gives a packet of a flow the call that its first byte comes from. `retransmitted` packets have none: their call was
    /// long ago and has had its path.
    pub(super) fn give_call(&mut self, flow: FlowKey, packet: &mut Packet, sent_ns: u64) {
        let (Some(tcp), Some(state)) = (packet.tcp, self.flows.get_mut(flow)) else { return };
        if packet.len == 0 || packet.retransmitted {
            return;
        }
        // What comes before the call of this packet has been sent, unless another thread may still be writing it.
        while let [first, next, ..] = state.sends.make_contiguous()
            && !is_after(next.seq, tcp.seq)
            && !(first.contested && first.has(tcp.seq))
        {
            state.sends.pop_front();
        }
        let is_forgotten = state.forgotten_before.is_some_and(|before| is_after(before, tcp.seq));
        if !is_forgotten {
            state.forgotten_before = None;
        }
        let call = state.sends.iter().rev().find(|call| !is_after(call.seq, tcp.seq));
        let Some(call) = call else {
            if is_forgotten {
                packet.doubt.get_or_insert(Incomplete::CallNotKept);
            }
            return;
        };
        if call.has(tcp.seq) && call.hop.time_ns <= sent_ns && !call.contested {
            packet.sender = call.tgid;
            packet.add(call.hop);
        }
    }
}

/// Whether a point is the call that a packet comes from.
pub(super) fn is_call(point: Point) -> bool {
    matches!(point, Point::TcpSendmsg | Point::UdpSendmsg | Point::Udpv6Sendmsg)
}
