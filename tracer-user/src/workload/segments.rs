//! What a TCP socket has counted.

use std::{
    mem::{offset_of, size_of, zeroed},
    net::TcpStream,
    os::fd::AsRawFd as _,
};

/// Segments that the socket has sent and received; `None` where the kernel does not count them.
pub(super) fn segments(stream: &TcpStream) -> Option<u32> {
    // SAFETY: `tcp_info` is plain data, and zeroes are a value of it.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the pointers describe variables that live through the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    // The structure has grown; older kernels fill in less of it.
    let is_there = len as usize >= offset_of!(libc::tcp_info, tcpi_segs_in) + size_of::<u32>();
    (result == 0 && is_there).then(|| info.tcpi_segs_out.saturating_add(info.tcpi_segs_in))
}
