//! TCP over loopback past the network: a map of sockets, and the programs that send through it.

use std::path::Path;

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, MapError, SockHash},
    programs::{CgroupAttachMode, ProgramError, SkMsg, SockOps},
};
use tracer_common::settings;

use super::{
    error::{chain, refusal},
    loader::raise_memory_limit,
};
use crate::kernel::cgroup::{Cgroup, CgroupError};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockmap-bpf.o"));

/// The map's keys: two addresses, two ports.
type Key = [u32; 4];

/// TCP cannot be short-cut here.
#[derive(Debug, thiserror::Error)]
pub enum SockmapError {
    /// No cgroup of our own.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Not allowed to.
    #[error("the kernel refused the map of sockets: {} (it takes root, or CAP_BPF and CAP_NET_ADMIN)", chain(.0))]
    Privilege(#[source] EbpfError),
    /// The kernel does not have it.
    #[error(
        "the kernel refused the map of sockets: {} (before Linux 5.13 it needs CONFIG_BPF_STREAM_PARSER)",
        chain(.0)
    )]
    Map(#[source] EbpfError),
    /// A map cannot be used.
    #[error("cannot use the map of sockets: {}", chain(.0))]
    Use(#[from] MapError),
    /// A program was refused.
    #[error("the kernel refused the program {name}: {}", refusal(source))]
    Program {
        /// Which.
        name: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// The object is not this version's.
    #[error("the compiled kernel programs have no {0}: rebuild with `cargo xtask build`")]
    Missing(&'static str),
}

/// Short-cuts IPv4 connections over loopback with one port at either end, where both ends belong to processes in a cgroup
/// made for it: what is written at one end is in the other's queue at once, as if there were no IP and no device. Other
/// connections stay as they are.
///
/// Each end takes part from the moment on when its `connect` or `accept` returns; what is sent before the other end does
/// goes the usual way, so a conversation in which each end waits for the other's answer keeps its order. Closing still
/// sends segments. [`delivered_bytes`](Self::delivered_bytes) tells what was short-cut.
///
/// Dropping it makes live connections ordinary ones again, and removes everything, the cgroup included.
pub struct Sockmap {
    // Detached before the cgroup goes.
    ebpf: Ebpf,
    cgroup: Cgroup,
}

impl Sockmap {
    /// For connections with `port` at either end.
    pub fn attach(port: u16) -> Result<Self, SockmapError> {
        raise_memory_limit();
        let mut ebpf = EbpfLoader::new()
            .override_global(settings::SOCKMAP_PORT, &port, true)
            .load(OBJECT)
            .map_err(refused_map)?;
        let cgroup = Cgroup::make()?;
        attach_deliver(&mut ebpf)?;
        attach_join(&mut ebpf, &cgroup)?;
        Ok(Self { ebpf, cgroup })
    }

    /// The file into which a worker writes `0` to take part: before it makes its sockets, as these belong to the cgroup in
    /// which they were made.
    pub fn cgroup_procs(&self) -> &Path {
        self.cgroup.processes()
    }

    /// How many bytes were handed right to the other end so far.
    pub fn delivered_bytes(&self) -> Result<u64, SockmapError> {
        let map = self.ebpf.map(settings::DELIVERED).ok_or(SockmapError::Missing(settings::DELIVERED))?;
        Ok(Array::<_, u64>::try_from(map)?.get(&0, 0)?)
    }
}

/// The program that short-cuts, on the map: it runs for each message of a socket in it.
fn attach_deliver(ebpf: &mut Ebpf) -> Result<(), SockmapError> {
    const NAME: &str = "sockmap_deliver";
    let map = ebpf.map(settings::SOCKETS).ok_or(SockmapError::Missing(settings::SOCKETS))?;
    let map = SockHash::<_, Key>::try_from(map)?.fd().try_clone();
    let program = ebpf.program_mut(NAME).ok_or(SockmapError::Missing(NAME))?;
    let attached: Result<_, ProgramError> = <&mut SkMsg>::try_from(program).and_then(|program| {
        program.load()?;
        program.attach(&map?)
    });
    attached.map(drop).map_err(|source| SockmapError::Program { name: NAME, source })
}

/// The program that puts sockets into the map, on the cgroup. From then on connections take part.
fn attach_join(ebpf: &mut Ebpf, cgroup: &Cgroup) -> Result<(), SockmapError> {
    const NAME: &str = "sockmap_join";
    let program = ebpf.program_mut(NAME).ok_or(SockmapError::Missing(NAME))?;
    let attached: Result<_, ProgramError> = <&mut SockOps>::try_from(program).and_then(|program| {
        program.load()?;
        program.attach(cgroup.directory(), CgroupAttachMode::Single)
    });
    attached.map(drop).map_err(|source| SockmapError::Program { name: NAME, source })
}

/// Why the kernel does not want the maps.
fn refused_map(error: EbpfError) -> SockmapError {
    match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
            if io_error.raw_os_error() == Some(libc::EPERM) =>
        {
            SockmapError::Privilege(error)
        }
        _ => SockmapError::Map(error),
    }
}
