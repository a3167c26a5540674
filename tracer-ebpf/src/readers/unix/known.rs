//! The sockets that were seen: what makes them wanted, and whether they were announced by name.

use aya_ebpf::{macros::map, maps::LruHashMap};

use super::{
    super::sockets::inode,
    DATAGRAM, Looked, Socket,
    names::Name,
    settled::{self, Settled},
};
use crate::{
    filter::{self, BY_NAME, BY_PROCESS},
    kread::{Address, Pointer as _, Raw},
    words::mask_if_zero,
};

/// [`Known::seen`]: its name was sent.
const ANNOUNCED: u32 = 1 << 31;
/// What is seen now: its name is to be sent, whether or not it is wanted.
pub(super) const ANNOUNCE: u32 = 1 << 15;

/// [`Known::peer`] of a socket that has not sent anything yet.
const NOT_ASKED: Address = u64::MAX;

/// What is known of a socket.
#[repr(C)]
#[derive(Clone, Copy)]
struct Known {
    /// Its inode number, by which a new socket in the same memory is told from it.
    inode: u32,
    /// What was seen of it, as `filter` names it, and [`ANNOUNCED`].
    seen: u32,
    /// Where its data goes, 0 if that is not known: it has given its name as well.
    peer: Address,
}

#[map]
static SOCKETS: LruHashMap<u64, Known> = LruHashMap::with_max_entries(16384, 0);

#[inline(always)]
pub(super) fn is_wanted(seen: u32) -> bool {
    let needed = filter::needed_of_unix();
    seen & needed == needed
}

/// What was seen of a socket.
#[inline(always)]
pub(super) fn seen_of(sk: Address) -> u32 {
    if filter::needed_of_unix() == 0 {
        return 0;
    }
    if let Some(settled) = settled::find(sk) {
        return settled.seen;
    }
    // SAFETY: aligned words; the element of a socket that has gone may be another's by now, as its memory may be.
    unsafe { SOCKETS.get(sk) }.map_or(0, |known| known.seen)
}

/// What was seen of the socket, and whether it has been looked up before.
#[inline(always)]
pub(super) fn find(sk: Address, inode: u32) -> (u32, bool) {
    if let Some(settled) = settled::find(sk)
        && settled.inode == inode
    {
        return (settled.seen, true);
    }
    // SAFETY: as in `seen_of`.
    match unsafe { SOCKETS.get(sk) } {
        Some(known) => (known.seen, known.peer != NOT_ASKED && known.inode == inode),
        None => (0, false),
    }
}

/// What was seen of a socket, with what is seen now; announces it by name once it is wanted. `name`: what the call says of it.
#[inline(always)]
pub(super) fn look_up(looked: &Looked, name: &Name, now: u32) -> u32 {
    let Looked { sk, socket: Socket { inode, socket_type }, peer } = *looked;
    if !name.is_given()
        && let Some(settled) = settled::find(sk.address())
        && settled.inode == inode
        && settled.peer == peer
        && is_answer(settled.seen, now)
    {
        return settled.seen;
    }
    let socket = u64::from(inode) | u64::from(socket_type) << 32 | u64::from(now) << 48;
    let [name_at, name_len] = name.words();
    unix_look_up(sk.address(), socket, peer, name_at, name_len) as u32
}

/// [`look_up`] of the sender of a stream that has sent before: its socket stays connected with the same one. With where its data
/// goes.
#[inline(always)]
pub(super) fn find_sender(sk: Address, inode: u32, now: u32) -> Option<(u32, Address)> {
    let settled = settled::find(sk)?;
    let is_it = settled.inode == inode && settled.peer != 0 && is_answer(settled.seen, now);
    is_it.then_some((settled.seen, settled.peer))
}

/// Whether nothing is to be found out beyond what was seen, where `now` is seen.
#[inline(always)]
fn is_answer(seen: u32, now: u32) -> bool {
    now & BY_PROCESS & !seen == 0 && (now & ANNOUNCE == 0 || seen & ANNOUNCED != 0)
}

/// [`look_up`] in the table. The verifier looks at it once for each program, however often it is called, as it has numbers for
/// arguments and a name of its own (`BTF_FUNC_GLOBAL`); it would take seconds otherwise. `socket`: inode, type above it, and above
/// that what is seen now.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn unix_look_up(sk: u64, socket: u64, peer: u64, name_at: u64, name_len: u64) -> u64 {
    let (inode, socket_type, now) = (socket as u32, (socket >> 32) as u16, (socket >> 48) as u32);
    let (sk, name) = (Raw(sk), Name::of_words([name_at, name_len]));
    let changes = settled::changes();
    let mut before = Known { inode, seen: 0, peer: NOT_ASKED };
    // SAFETY: as in `seen_of`.
    if let Some(known) = unsafe { SOCKETS.get(sk.address()) } {
        // Without a branch, which the verifier would follow.
        let is_it = mask_if_zero(u64::from(known.inode ^ inode));
        before.seen = known.seen & is_it as u32;
        before.peer = known.peer | !is_it;
        // It may be another socket in the memory of one that was closed.
        settled::change_if(!is_it);
    }
    let mut seen = before.seen | now & BY_PROCESS;
    // Who uses a socket uses both directions.
    if filter::needed_of_unix() & BY_PROCESS != 0 && peer != 0 {
        seen |= process_of(peer);
    }
    let is_other = before.peer != peer || name.is_given();
    if is_other && (name.is_given() || socket_type == DATAGRAM) {
        // What it was called does not hold for this receiver.
        seen &= !(BY_NAME | ANNOUNCED);
    }
    let asks_name = filter::needed_of_unix() & BY_NAME != 0 && seen & BY_NAME == 0 && is_other;
    let is_due = seen & ANNOUNCED == 0 && (is_wanted(seen) || now & ANNOUNCE != 0);
    if asks_name || is_due {
        // Its own name, or that of the socket that it is connected to; if only some are wanted, a wanted one.
        let (own, other) = (Name::bound(sk), Name::bound(Raw(peer)));
        let mut shown = name.or(own).or(other);
        if filter::needed_of_unix() & BY_NAME != 0 {
            // One after the other: the stack has no room for a list of them.
            let mut consider = |candidate: Name| {
                if seen & BY_NAME == 0 && candidate.is_given() && candidate.is_wanted() {
                    seen |= BY_NAME;
                    shown = candidate;
                }
            };
            consider(name);
            consider(own);
            consider(other);
        }
        if (is_wanted(seen) || now & ANNOUNCE != 0) && seen & ANNOUNCED == 0 && shown.announce(sk, inode) {
            seen |= ANNOUNCED;
        }
    }
    if before.seen != seen || before.peer != peer {
        let _ = SOCKETS.insert(sk.address(), Known { inode, seen, peer }, 0);
    }
    settled::change_if(!mask_if_zero(u64::from((before.seen ^ seen) & !ANNOUNCED)));
    // What holds of a datagram's sender depends on the receiver, who may be another one each time.
    if socket_type != DATAGRAM && !name.is_given() && (seen & ANNOUNCED != 0 || !is_wanted(seen)) {
        settled::keep(sk.address(), Settled { inode, seen, peer }, changes);
    }
    seen.into()
}

/// A socket is wanted because of what it is connected with, or was sent to: `name`.
#[inline(always)]
pub(super) fn adopt(sk: Raw, peer: Address, name: &Name, seen: u32) {
    let [name_at, name_len] = name.words();
    unix_adopt(sk.address(), peer, name_at, name_len, seen.into());
}

/// [`adopt`], as `unix_look_up`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn unix_adopt(sk: u64, peer: u64, name_at: u64, name_len: u64, seen: u64) -> u64 {
    let sk = Raw(sk);
    let inode = inode(sk);
    let announced = if Name::of_words([name_at, name_len]).announce(sk, inode) { ANNOUNCED } else { 0 };
    let _ = SOCKETS.insert(sk.address(), Known { inode, seen: seen as u32 | announced, peer }, 0);
    settled::change_if(u64::MAX);
    0
}

/// A wanted process uses a socket.
#[inline(never)]
pub(super) fn mark(sk: Raw, now: u32) {
    let inode = inode(sk);
    if let Some(known) = SOCKETS.get_ptr_mut(sk.address()) {
        // SAFETY: a live element of the map; an update that is lost is made by the next message.
        unsafe {
            // One that its process has closed has no inode any more.
            if (*known).inode == inode || inode == 0 {
                (*known).seen |= now;
                settled::change_if(u64::MAX);
                return;
            }
        }
    }
    // It is announced when it first sends.
    let _ = SOCKETS.insert(sk.address(), Known { inode, seen: now, peer: NOT_ASKED }, 0);
    settled::change_if(u64::MAX);
}

/// `BY_PROCESS` if a wanted process was seen to use a socket.
#[inline(always)]
fn process_of(sk: Address) -> u32 {
    // SAFETY: as in `seen_of`.
    match unsafe { SOCKETS.get(sk) } {
        Some(known) if known.seen & BY_PROCESS != 0 && known.inode == inode(Raw(sk)) => BY_PROCESS,
        _ => 0,
    }
}
