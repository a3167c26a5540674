//! What UNIX sockets are called.

use tracer_common::{
    event::{KIND_UNIX_NAME, UNIX_PATH_LEN, UnixNameRecord},
    settings::UNIX_WORDS,
};

use crate::{
    filter,
    kread::{self, Address, Fields as _, Pointer, Raw, offset},
    record,
};

/// Where a name is read from.
#[derive(Clone, Copy)]
pub(in crate::readers) struct Name {
    /// `sun_path`; 0 if there is no name.
    at: Address,
    /// Bytes of it.
    len: u32,
    /// 1 if it is in the memory of the process on the CPU, 0 if in the kernel's: no padding, which LLVM zeroes by bytes.
    is_user: u32,
}

impl Name {
    pub(in crate::readers) const NONE: Self = Self { at: 0, len: 0, is_user: 0 };

    /// That of a `struct sockaddr_un` in the kernel, of `len` bytes.
    #[inline(always)]
    pub(in crate::readers) fn kernel(address: Address, len: u32) -> Self {
        Self::of(address, len, 0)
    }

    /// That of a `struct sockaddr_un` of the process on the CPU.
    #[inline(always)]
    pub(in crate::readers) fn user(address: Address, len: u32) -> Self {
        Self::of(address, len, 1)
    }

    #[inline(always)]
    fn of(address: Address, len: u32, is_user: u32) -> Self {
        // Two bytes are the family. (Field by field: LLVM zeroes a whole one by bytes.)
        let is_none = address == 0 || len == 0;
        let len = len.wrapping_sub(2);
        Self {
            at: if is_none { 0 } else { address.wrapping_add(2) },
            len: if is_none || len > UNIX_PATH_LEN as u32 { 0 } else { len },
            is_user,
        }
    }

    /// The name that a socket is bound to.
    #[inline(always)]
    pub(super) fn bound(sk: Raw) -> Self {
        let address = if sk.is_null() { sk } else { sk.pointer(&offset::UNIX_SOCK_ADDR) };
        let len = address.field(&offset::UNIX_ADDRESS_LEN);
        let name = address.inner(&offset::UNIX_ADDRESS_NAME).address();
        Self::kernel(if address.is_null() { 0 } else { name }, len)
    }

    /// Whether somebody gave one, be it valid or not.
    #[inline(always)]
    pub(super) fn is_given(&self) -> bool {
        self.at != 0
    }

    /// This one, if it counts.
    #[inline(always)]
    pub(super) fn only_if(self, counts: bool) -> Self {
        Self { at: if counts { self.at } else { 0 }, ..self }
    }

    /// This one, or the other if this is none.
    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        if self.is_given() { self } else { other }
    }

    /// Reads it to zeroed memory, and says how long it is. What lies behind it in the same memory does not belong to it, so
    /// just as many bytes are read.
    #[inline(always)]
    fn read(&self, words: &mut [u64; UNIX_WORDS]) -> u32 {
        if self.at == 0 {
            return 0;
        }
        let is_read = if self.is_user != 0 {
            kread::read_user_bytes(self.at, words, self.len)
        } else {
            kread::read_bytes(self.at, words, self.len)
        };
        if is_read { self.len } else { 0 }
    }

    /// Whether it is a wanted one.
    #[inline(always)]
    pub(super) fn is_wanted(&self) -> bool {
        let [at, len] = self.words();
        unix_name_is_wanted(at, len) != 0
    }

    /// As numbers: where it is; its length, and above that whose memory it is in.
    #[inline(always)]
    pub(super) fn words(&self) -> [u64; 2] {
        [self.at, u64::from(self.is_user) << 32 | u64::from(self.len)]
    }

    /// The opposite of [`words`](Self::words).
    #[inline(always)]
    pub(super) fn of_words([at, len]: [u64; 2]) -> Self {
        Self { at, len: len as u32, is_user: (len >> 32) as u32 }
    }

    /// Says that a socket is called so; whether there was room to.
    #[inline(never)]
    #[allow(clippy::cast_ptr_alignment, reason = "the path is aligned by its place in the record")]
    pub(super) fn announce(&self, sk: Raw, inode: u32) -> bool {
        // Built where it will be read: the stack has no room for it.
        let Some(room) = record::reserve::<UnixNameRecord>(KIND_UNIX_NAME) else { return false };
        let record = room.as_mut_ptr();
        let socket_type = sk.field::<u16>(&offset::SOCK_TYPE) as u8;
        // SAFETY: `record` points to the room, which is aligned and as large as the record. The path and the
        // padding behind it are UNIX_WORDS aligned words.
        let words = unsafe {
            (&raw mut (*record).sk).write_volatile(sk.address());
            let words = (&raw mut (*record).path).cast::<[u64; UNIX_WORDS]>();
            for word in 0..UNIX_WORDS {
                words.cast::<u64>().add(word).write_volatile(0);
            }
            &mut *words
        };
        let len = self.read(words);
        room.publish(
            u64::from(KIND_UNIX_NAME)
                | u64::from(len as u8) << 8
                | u64::from(socket_type) << 16
                | u64::from(inode) << 32,
        );
        true
    }
}

/// [`Name::is_wanted`]: verified by itself, as `unix_look_up` in `known`. Word by word, as the stack has no room for all of it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn unix_name_is_wanted(at: u64, len: u64) -> u64 {
    let Name { at, len, is_user } = Name::of_words([at, len]);
    let is_wanted = filter::is_unix_name(len, |index| {
        let begin = index as u32 * 8;
        let len = len.saturating_sub(begin).min(8);
        let from = at.wrapping_add(begin.into());
        let mut word = 0u64;
        if is_user != 0 {
            kread::read_user_bytes(from, &mut word, len);
        } else {
            kread::read_bytes(from, &mut word, len);
        }
        word
    });
    is_wanted.into()
}
