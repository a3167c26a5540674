//! The readers of the probe table: each takes the arguments that a row names, filters, and writes one record.
//!
//! What a reader puts into `seq`, `len` and `aux` is part of the wire format and is said at each.

mod calls;
mod packets;
mod routes;
mod sched;
mod sockets;
mod unix;

use tracer_common::event::{AUX_UNKNOWN, NO_FLOW};

use crate::record::Hop;

pub(crate) use self::{calls::*, packets::*, routes::*, sched::*, sockets::*, unix::*};

const EMPTY: Hop =
    Hop { skb: 0, sk: 0, flow: NO_FLOW, tcp_flags: 0, marks: 0, seq: 0, ack: 0, len: 0, aux: AUX_UNKNOWN };
