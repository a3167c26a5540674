//! The readers of the probe table: each takes the arguments that a row names, filters, and writes one record.
//!
//! What a reader puts into `seq`, `len` and `aux` is part of the wire format and is said at each.

mod calls;
mod drawn;
mod files;
mod first;
mod packets;
mod routes;
mod sched;
mod sockets;
mod unix;
mod wanted;

use crate::record::NO_HOP as EMPTY;

/// `SOCK_STREAM`, `SOCK_DGRAM`.
const STREAM: u16 = 1;
const DATAGRAM: u16 = 2;

pub(crate) use self::{calls::*, packets::*, routes::*, sched::*, sockets::*, unix::*};
