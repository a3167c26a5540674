//! Messages on UNIX sockets.

use std::sync::Arc;

use tracer_common::{event::AUX_UNKNOWN, probes::Point};

use super::{path, task};
use crate::model::{Path, Unix};

pub(super) fn socket(name: &[u8]) -> Unix {
    Unix { name: Some(Arc::from(name)), socket_type: 1, inode: 48_213, descriptors: 0, reads: 1 }
}

/// A message on a UNIX socket that is bound to a path.
pub(crate) fn unix() -> Path {
    Path {
        unix: Some(socket(b"/run/app.sock")),
        len: 100,
        sender: Some(task(812, b"client")),
        receiver: Some(task(799, b"server")),
        ..path(
            40,
            &[
                (Point::UnixStreamSendmsg, 1, 0, AUX_UNKNOWN),
                (Point::SockDefReadable, 1, 934, AUX_UNKNOWN),
                (Point::SchedWaking, 1, 1_310, AUX_UNKNOWN),
                (Point::SchedSwitch, 3, 20_400, AUX_UNKNOWN),
                (Point::UnixStreamRecvmsg, 3, 22_100, AUX_UNKNOWN),
            ],
        )
    }
}

/// A connection to an abstract name.
pub(crate) fn unix_abstract() -> Path {
    Path {
        unix: Some(socket(b"\0pathtrace-demo")),
        sender: Some(task(812, b"client")),
        ..path(
            41,
            &[
                (Point::UnixStreamConnect, 1, 0, AUX_UNKNOWN),
                (Point::SockDefReadable, 1, 2_120, AUX_UNKNOWN),
                (Point::UnixAccept, 1, 9_800, AUX_UNKNOWN),
            ],
        )
    }
}

/// A message on a socket whose `connect` was not seen.
pub(crate) fn unix_unnamed() -> Path {
    Path { unix: Some(socket(b"")), id: 42, ..unix() }
}

/// Much data with two file descriptors, which the reader takes in parts.
pub(crate) fn unix_in_parts() -> Path {
    Path {
        id: 43,
        unix: Some(Unix { descriptors: 2, reads: 3, ..socket(b"/run/app.sock") }),
        len: 200_000,
        ..unix()
    }
}

/// A datagram between two sockets without names.
pub(crate) fn unix_dgram() -> Path {
    Path {
        unix: Some(Unix { socket_type: 2, ..socket(b"") }),
        len: 5,
        sender: Some(task(812, b"client")),
        receiver: Some(task(799, b"server")),
        ..path(
            44,
            &[
                (Point::UnixDgramSendmsg, 1, 0, AUX_UNKNOWN),
                (Point::SockDefReadable, 1, 3_010, AUX_UNKNOWN),
                (Point::UnixDgramRecvmsg, 1, 5_800, AUX_UNKNOWN),
            ],
        )
    }
}

/// A record on an abstract name, with a file descriptor.
pub(crate) fn unix_seqpacket() -> Path {
    Path {
        id: 45,
        unix: Some(Unix { socket_type: 5, descriptors: 1, ..socket(b"\0systemd") }),
        ..unix_dgram()
    }
}
