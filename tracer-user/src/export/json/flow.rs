//! The ends of a path, and what its TCP header says.

use std::net::SocketAddr;

use arrayvec::ArrayString;
use serde::{Serialize, Serializer};

use super::Shown;
use crate::{
    export::UnixName,
    model::{Flow, Path, Protocol, Tcp},
};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Ends<'a> {
    Ip { proto: Shown<Protocol>, src: Shown<SocketAddr>, dst: Shown<SocketAddr> },
    Unix { proto: &'static str, path: Option<Shown<UnixName<'a>>>, r#type: &'static str, inode: Option<u32> },
}

impl<'a> Ends<'a> {
    pub(super) fn of(path: &'a Path) -> Option<Self> {
        if let Some(unix) = &path.unix {
            let name = unix.name.as_deref().and_then(UnixName::new).map(Shown);
            let inode = (unix.inode != 0).then_some(unix.inode);
            return Some(Self::Unix { proto: "unix", path: name, r#type: unix.type_name(), inode });
        }
        let Flow { protocol, src, dst, netns: _ } = path.flow?;
        Some(Self::Ip { proto: Shown(protocol), src: Shown(src), dst: Shown(dst) })
    }
}

#[derive(Serialize)]
pub(super) struct Header {
    flags: Letters,
    seq: u32,
    ack: u32,
}

impl Header {
    pub(super) fn of(tcp: Tcp) -> Self {
        Self { flags: Letters(tcp.flags), seq: tcp.seq, ack: tcp.ack }
    }
}

/// The initials of the flags that are set, as in `PA`.
struct Letters(u8);

impl Serialize for Letters {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        const LETTERS: [(u8, char); 8] = [
            (Tcp::SYN, 'S'),
            (Tcp::FIN, 'F'),
            (Tcp::RST, 'R'),
            (0x08, 'P'),
            (0x10, 'A'),
            (0x20, 'U'),
            (0x40, 'E'),
            (0x80, 'C'),
        ];
        let mut text = ArrayString::<{ LETTERS.len() }>::new();
        for (_, letter) in LETTERS.iter().filter(|(flag, _)| self.0 & flag != 0) {
            text.push(*letter);
        }
        to.serialize_str(&text)
    }
}
