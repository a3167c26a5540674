//! What the filters on the command line mean: names become numbers, or are refused by name.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{self, Path},
};

use super::{Failure, hosts::addresses_of, say};
use crate::{
    cli::FilterArgs,
    filter::{AddressRange, Side, UnixName, Wanted},
    kernel::{
        namespace,
        processes::{self, Number},
    },
};

/// Where services have their ports (services(5)).
const SERVICES: &str = "/etc/services";

/// What was asked for of the running kernel.
pub(super) fn wanted(args: &FilterArgs) -> Result<Wanted, Failure> {
    let wanted = read(args, namespace_inode)?;
    check_names(&wanted)?;
    Ok(wanted)
}

/// What was asked for of a recording. It may be from another machine, and what it names need not be there any more.
pub(super) fn wanted_of_recording(args: &FilterArgs) -> Result<Wanted, Failure> {
    read(args, recorded_namespace)
}

fn read(args: &FilterArgs, netns: impl Fn(&str) -> Result<u32, Failure>) -> Result<Wanted, Failure> {
    let ports = |option, texts: &[String]| -> Result<Vec<u16>, Failure> {
        texts.iter().map(|text| port(option, text)).collect()
    };
    let mut addresses = Vec::new();
    for (option, side, texts) in [
        ("--host", Side::Either, &args.hosts),
        ("--saddr", Side::Source, &args.source_addresses),
        ("--daddr", Side::Destination, &args.destination_addresses),
    ] {
        for text in texts {
            addresses.extend(ranges(option, text)?.into_iter().map(|range| (side, range)));
        }
    }
    Ok(Wanted {
        ports: ports("--port", &args.ports)?,
        source_ports: ports("--sport", &args.source_ports)?,
        destination_ports: ports("--dport", &args.destination_ports)?,
        addresses,
        transports: args.transports.clone(),
        pids: args.pids.clone(),
        comms: args.comms.clone(),
        namespaces: args.namespaces.iter().map(|text| netns(text)).collect::<Result<_, _>>()?,
        interfaces: args.interfaces.clone(),
        unix: args.unix.clone(),
    })
}

/// Processes and devices that are not there can match nothing; a socket's name may be bound later.
fn check_names(wanted: &Wanted) -> Result<(), Failure> {
    for pid in &wanted.pids {
        check_process(*pid).map_err(|why| refused("--pid", &pid.to_string(), why))?;
    }
    for name in &wanted.interfaces {
        // A name with a slash would leave the folder.
        let there = !name.contains('/') && Path::new("/sys/class/net").join(name).exists();
        // Devices of other namespaces are not listed here.
        if !there && wanted.namespaces.is_empty() {
            let known = fs::read_dir("/sys/class/net").map(|list| {
                let names =
                    list.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
                names.collect::<Vec<String>>().join(", ")
            });
            let why = format!(
                "no such device in this network namespace, which has {}; with --netns a device of another namespace \
                 can be given",
                known.unwrap_or_else(|error| error.to_string())
            );
            return Err(refused("--interface", name, why));
        }
    }
    Ok(())
}

/// What the kernel compares is the number of the process, as the first PID namespace has it.
fn check_process(pid: u32) -> Result<(), String> {
    // Without `/proc` nothing is known, and what follows says so.
    if matches!(processes::have_their_first_numbers(), Ok(false)) {
        return Err("pathtrace runs in a PID namespace of its own, and the kernel does not compare the numbers that \
                    processes have there; start it outside (docker run --pid=host, or nsenter -t 1 -p), or give --comm"
            .to_owned());
    }
    match processes::number(pid) {
        Number::Process => Ok(()),
        Number::Nobody => Err("there is no such process".to_owned()),
        Number::ThreadOf { process, name } => {
            let name: String =
                name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
            Err(format!("this is a thread ({name}) of process {process}; give --pid {process}"))
        }
    }
}

/// The path that is traced must be the one that the application has bound: `/var/run/x` is not `/run/x`.
pub(super) fn warn_of_unbound(names: &[UnixName]) {
    if names.is_empty() {
        return;
    }
    let Ok(list) = fs::read("/proc/net/unix") else { return };
    let bound: Vec<Vec<u8>> = list.split(|byte| *byte == b'\n').skip(1).filter_map(bound_name).collect();
    for name in names {
        if !bound.iter().any(|bound| name.matches(bound)) {
            let hint = name.path().map_or_else(|| WAITS.to_owned(), |path| hint(path, &bound));
            say(&format!("pathtrace: no UNIX socket in this network namespace is bound to {name}; {hint}\n"));
        }
    }
}

/// What becomes of a name that no socket has yet.
const WAITS: &str = "it will be traced when one is";

/// What to do about a path that nothing is bound to.
fn hint(path: &[u8], bound: &[Vec<u8>]) -> String {
    if let Some(alias) = alias_of(path, bound) {
        return format!("the same file is bound as {alias}: give that name");
    }
    let text = String::from_utf8_lossy(path);
    match path::absolute(&*text) {
        // The kernel compares the name as the application gave it, and few give a relative one.
        Ok(absolute) if !path.starts_with(b"/") => {
            format!(
                "{WAITS}, under this relative name; most applications bind an absolute one: {}",
                absolute.display()
            )
        }
        _ => WAITS.to_owned(),
    }
}

/// The name in a line of `/proc/net/unix`, as the kernel keeps it: it shows `@` for NUL in an abstract name.
fn bound_name(line: &[u8]) -> Option<Vec<u8>> {
    // Num RefCount Protocol Flags Type St Inode Path; the path may hold spaces, and inodes are padded.
    let mut rest = line;
    for _ in 0..7 {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        rest = &rest[start..];
        let end = rest.iter().position(|byte| *byte == b' ')?;
        rest = &rest[end..];
    }
    let name = rest.strip_prefix(b" ")?;
    Some(match name.split_first()? {
        (b'@', rest) => [&[0], rest].concat(),
        _ => name.to_vec(),
    })
}

/// Another name under which the file at `path` is bound.
fn alias_of(path: &[u8], bound: &[Vec<u8>]) -> Option<String> {
    let same_file = |other: &[u8]| {
        let identity = |path: &[u8]| {
            let meta = fs::metadata(String::from_utf8_lossy(path).as_ref()).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        identity(path).is_some_and(|it| identity(other) == Some(it))
    };
    let alias = bound.iter().find(|name| name.first() == Some(&b'/') && same_file(name))?;
    Some(String::from_utf8_lossy(alias).into_owned())
}

pub(super) fn port(option: &'static str, text: &str) -> Result<u16, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(refused(option, "\"\"", "a port is missing".to_owned()));
    }
    if let Ok(number) = text.parse::<u16>() {
        return match number {
            0 => Err(refused(option, text, "a port is a number from 1 to 65535".to_owned())),
            port => Ok(port),
        };
    }
    if text.chars().all(|c| c.is_ascii_digit()) {
        return Err(refused(option, text, "a port is a number from 1 to 65535".to_owned()));
    }
    let services = fs::read_to_string(SERVICES).unwrap_or_default();
    service(&services, text).ok_or_else(|| {
        refused(
            option,
            text,
            format!("a port is a number from 1 to 65535, or the name of a service in {SERVICES}"),
        )
    })
}

/// The port of a service, by its name or one of its others.
fn service(services: &str, wanted: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let port = words.next()?.split('/').next()?.parse().ok()?;
        (name == wanted || words.any(|alias| alias == wanted)).then_some(port)
    })
}

/// An address, a range, or all addresses of a host.
fn ranges(option: &'static str, text: &str) -> Result<Vec<AddressRange>, Failure> {
    if let Some((address, prefix)) = text.split_once('/') {
        let range = address
            .parse::<IpAddr>()
            .ok()
            .zip(prefix.parse().ok())
            .and_then(|(address, prefix)| AddressRange::new(address, prefix));
        return range.map(|range| vec![range]).ok_or_else(|| {
            refused(option, text, "a range is an address and a number of bits, such as 10.0.0.0/8".to_owned())
        });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![address.into()]);
    }
    Ok(addresses_of(option, text)?.into_iter().map(|address| address.ip().into()).collect())
}

/// The inode number of a network namespace.
fn namespace_inode(text: &str) -> Result<u32, Failure> {
    if let Ok(inode) = text.parse() {
        // The kernel gives it to none, and the programs take it for no filter.
        return match inode {
            0 => Err(refused("--netns", text, "no network namespace has the inode number 0".to_owned())),
            inode => Ok(inode),
        };
    }
    let path = namespace::file_of(text);
    namespace::inode_of(&path).map_err(|error| {
        let why = format!(
            "{}: {error}; give a name from `ip netns`, a path such as /proc/PID/ns/net, or its inode",
            path.display()
        );
        refused("--netns", text, why)
    })
}

/// The inode number of a network namespace of the machine that recorded.
fn recorded_namespace(text: &str) -> Result<u32, Failure> {
    text.parse().ok().filter(|inode| *inode != 0).ok_or_else(|| {
        let why = "a recording holds the inode numbers of network namespaces, not their names; report --json shows them \
                   as netns";
        refused("--netns", text, why.to_owned())
    })
}

fn refused(option: &'static str, value: &str, why: String) -> Failure {
    Failure::Value { option, value: value.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_ports() {
        let services = "# comment\nhttp\t\t80/tcp\t\twww\t# WorldWideWeb\nhttps 443/tcp\n";
        assert_eq!(service(services, "http"), Some(80));
        assert_eq!(service(services, "www"), Some(80));
        assert_eq!(service(services, "WorldWideWeb"), None);
        assert_eq!(port("--port", "443").ok(), Some(443));
        assert!(port("--port", "0").is_err() && port("--port", "65536").is_err());
    }

    #[test]
    fn addresses_are_read_or_refused_by_name() {
        assert_eq!(
            ranges("--host", "::1").ok(),
            Some(vec![AddressRange::from("::1".parse::<IpAddr>().unwrap())])
        );
        let refused = ranges("--host", "10.0.0.0/33").unwrap_err().to_string();
        assert!(refused.contains("--host") && refused.contains("10.0.0.0/33"), "{refused}");
        assert!(ranges("--host", "no-such-host.invalid").is_err());
    }

    #[test]
    fn names_are_read_as_the_kernel_writes_them() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/with space.sock";
        assert_eq!(bound_name(line).unwrap(), b"/run/with space.sock");
        let padded = b"0000000000000000: 00000002 00000000 00010000 0001 01   345 @abstract";
        assert_eq!(bound_name(padded).unwrap(), b"\0abstract");
        assert_eq!(bound_name(b"0000000000000000: 00000002 00000000 00000000 0001 03 12345"), None);
    }

    #[test]
    fn a_relative_path_is_told_the_absolute_one() {
        let here = std::env::current_dir().unwrap().join("app.sock");
        let said = hint(b"app.sock", &[]);
        assert!(said.starts_with(WAITS) && said.ends_with(here.to_str().unwrap()), "{said}");
        assert_eq!(hint(b"/run/app.sock", &[]), WAITS);
    }

    #[test]
    fn a_namespace_is_a_number_or_a_file() {
        assert_eq!(namespace_inode("4026531840").ok(), Some(4_026_531_840));
        assert!(namespace_inode("/proc/self/ns/net").is_ok());
        assert!(namespace_inode("0").is_err() && namespace_inode("/etc/hosts").is_err());
        assert_eq!(recorded_namespace("4026531840").ok(), Some(4_026_531_840));
        let refused = recorded_namespace("web").unwrap_err().to_string();
        assert!(refused.contains("inode numbers"), "{refused}");
        let refused = namespace_inode("no-such-namespace").unwrap_err().to_string();
        assert!(refused.contains("/run/netns/no-such-namespace"), "{refused}");
    }
}
