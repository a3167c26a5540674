//! The command line: what can be typed, and its checked meaning.
#![allow(clippy::doc_markdown, reason = "doc comments are help texts here, and backticks would be seen")]

mod compare;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory as _, Parser, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
    error::{ContextKind, ContextValue, ErrorKind},
};
use tracer_common::probes::Backend;

pub use self::compare::{CompareArgs, CpuChoice};
use self::values::{parse_count, parse_duration, parse_latency, parse_pid, parse_recording, parse_sample};
use crate::{
    filter::{Transport, UnixName},
    proof::Asked,
};

const EXAMPLES: &str = "\
Examples:
  sudo pathtrace --port 8888
      each packet of port 8888, as it passes
  sudo pathtrace -P 6379 --summary --duration 10s
      where the time goes, for ten seconds
  sudo pathtrace -P 8888 --format tree -c 5
      five packets, one hop a line
  sudo pathtrace --unix '/run/app*' --min-latency 50us
      slow messages on UNIX sockets of these names
  sudo pathtrace -P 8888 --json -- ./load.sh | jq '.total_ns // empty'
      for programs, while a command runs
  sudo pathtrace prove
      whether traffic to this host's own addresses stays on lo
  sudo pathtrace compare
      why a UNIX socket is faster than TCP over loopback
  sudo pathtrace doctor
      what this kernel allows, and what to do about the rest
  sudo pathtrace record -P 8888 -w run.ptr -- ./load.sh
  pathtrace report -r run.ptr
      now, and later without privilege

Data goes to standard output, everything else to standard error. While data goes to standard output, a command's own \
standard output goes to standard error.

Exit status: 0 done; 1 with --strict: anything was lost or incomplete; 2 an error (usage, privilege, kernel). With a \
command, its own exit status (128 + signal if a signal ended it), unless pathtrace itself has failed.

The first Ctrl-C, SIGTERM or SIGHUP ends tracing and prints the summary; a second one ends pathtrace at once, with \
status 128 + signal. A command is never killed when tracing ends (--count, --duration, a reader that went away): it is \
waited for, and a signal that asks pathtrace to stop is passed on to it.

Options follow the verb: pathtrace record -P 8888 -w run.ptr.

It needs root, or CAP_BPF and CAP_PERFMON, and a kernel with BTF (CONFIG_DEBUG_INFO_BTF), 5.10 or later.";

const PROVE_HELP: &str = "\
Examples:
  sudo pathtrace prove
      every address of this host
  sudo pathtrace prove 192.0.2.7 ::1 localhost
      these; of a host's name, all addresses
  sudo pathtrace prove --netns web
      every address of a network namespace
  sudo pathtrace prove fe80::1%eth0 --json
      for programs: one object an address, the summary last
  sudo pathtrace prove -q 192.0.2.7 && echo proven

The kernel is asked for the route to each address. To those that are local pathtrace opens a connection to a listener \
of its own, and traces each packet of it; it is proven if every packet that the sockets have counted was seen on lo, and \
none on another device. The devices' own counters are a cross-check only, as others use the devices as well. Nothing is \
sent to an address that is not local: its route alone says so.

Exit status: 0 proven for every address; 1 an address is not local, or its packets were seen on another device; 2 it \
could not be found out for every address (nothing speaks against it), or an error.";

const REPORT_HELP: &str = "\
Examples:
  pathtrace report -r run.ptr --format tree
  pathtrace report -r run.ptr --port 8888 --min-latency 1ms
  ssh host cat run.ptr | pathtrace report -r - --summary

Filters choose among the paths that were recorded; what the recording run was not to see, none brings back. They judge by \
what a path shows: --pid and --comm by the processes that were seen to send or to read, --unix by the one name of its two \
sockets, --interface by the devices that it passed, --netns by the inode number of a network namespace that it was in. A \
path whose flow was lost is always shown. Names of hosts are looked up now, and here.";

/// Shows the way of each local packet through the Linux kernel, hop by hop, with the time between hops.
#[derive(Debug, Parser)]
#[command(name = "pathtrace", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Without a subcommand: live.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Live tracing.
    #[command(flatten)]
    pub live: LiveArgs,
}

impl Cli {
    /// Parses the arguments, the program's name first.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let parsed = Self::try_parse_from(&args).map_err(|mut error| {
            if let Some(tip) = tip(&error) {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        })?;
        // Somebody's variable was empty, and a trace without a command has no end.
        if args.iter().position(|arg| arg == "--").is_some_and(|at| at + 1 == args.len()) {
            let error =
                Self::command().error(ErrorKind::MissingRequiredArgument, "there is no command behind --");
            return Err(error);
        }
        Ok(parsed)
    }
}

/// What to type instead, where clap does not know it.
fn tip(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing)) => {
            let is_missing = |option| missing.iter().any(|name| name.starts_with(option));
            if is_missing("--write") {
                Some("say where to: pathtrace record --port 8888 -w run.ptr".to_owned())
            } else if is_missing("--read") {
                Some("say which recording: pathtrace report -r run.ptr".to_owned())
            } else {
                None
            }
        }
        (_, ContextValue::String(arg)) if Cli::command().find_subcommand(arg).is_some() => {
            Some(format!("options follow the verb: pathtrace {arg} [OPTIONS]"))
        }
        _ => None,
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record a trace to a file, to look at it later or elsewhere
    Record(Box<RecordArgs>),
    /// Show a recorded trace (needs no privilege)
    Report(Box<ReportArgs>),
    /// Prove that traffic to this host's own addresses does not use the network card: connect to them and watch
    Prove(ProveArgs),
    /// Say why a UNIX socket is faster than TCP over loopback: send the same over both, and show what each stage costs
    Compare(Box<CompareArgs>),
    /// Say what this kernel allows: try every probe point with each backend, and send packets past those that attach
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Arguments of live tracing.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// How and what to trace.
    #[command(flatten)]
    pub trace: TraceArgs,
    /// What to show.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Arguments of `record`.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// File to write; it will be readable by its owner only
    #[arg(short, long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(parse_recording))]
    pub write: PathBuf,
    /// How and what to trace.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = REPORT_HELP)]
pub struct ReportArgs {
    /// File to read; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: PathBuf,
    /// Which of the recorded paths.
    #[command(flatten)]
    pub filters: FilterArgs,
    /// Show only the first N paths
    #[arg(short, long, value_name = "N", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,
    /// Exit with 1 if anything was lost or incomplete
    #[arg(long)]
    pub strict: bool,
    /// Say nothing but errors and data, which is all that report says anyhow: taken as by a live run, for scripts that do both
    #[arg(short, long)]
    pub quiet: bool,
    /// What to show.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Which traffic. Each option can be repeated: any of its values will do; of different options all must hold. Values that can
/// have no comma (all but those of `--comm`, `--unix` and the like) may be given with commas between.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters (repeat one: any of its values; different ones: all must hold)")]
pub struct FilterArgs {
    /// Only packets with this port at either end: a number, or a name such as http
    #[arg(short = 'P', long = "port", value_name = "PORT", value_delimiter = ',')]
    pub ports: Vec<String>,
    /// Only packets from this port
    #[arg(long = "sport", value_name = "PORT", value_delimiter = ',')]
    pub source_ports: Vec<String>,
    /// Only packets to this port
    #[arg(long = "dport", value_name = "PORT", value_delimiter = ',')]
    pub destination_ports: Vec<String>,
    /// Only packets with this address at either end: an address, a range such as 10.0.0.0/8, or a host's name
    #[arg(long = "host", value_name = "ADDR", value_delimiter = ',')]
    pub hosts: Vec<String>,
    /// Only packets from this address
    #[arg(long = "saddr", value_name = "ADDR", value_delimiter = ',')]
    pub source_addresses: Vec<String>,
    /// Only packets to this address
    #[arg(long = "daddr", value_name = "ADDR", value_delimiter = ',')]
    pub destination_addresses: Vec<String>,
    /// Only this kind of traffic
    #[arg(long = "proto", value_name = "NAME", value_delimiter = ',')]
    pub transports: Vec<Transport>,
    /// Only UNIX sockets of this name: a path, @name for an abstract one; a * at the end: all that begin so
    #[arg(long, value_name = "PATH")]
    pub unix: Vec<UnixName>,
    /// Only sockets that this process is seen to use
    #[arg(long = "pid", value_name = "PID", value_delimiter = ',', allow_hyphen_values = true, value_parser = parse_pid)]
    pub pids: Vec<u32>,
    /// Only sockets that a process of this name is seen to use
    #[arg(long = "comm", value_name = "NAME")]
    pub comms: Vec<String>,
    /// Only hops in this network namespace: a name (ip netns), a path, or its inode number
    #[arg(long = "netns", value_name = "NS")]
    pub namespaces: Vec<String>,
    /// Only flows whose packets pass this device
    #[arg(short, long = "interface", value_name = "DEV")]
    pub interfaces: Vec<String>,
}

/// Arguments of `prove`.
#[derive(Debug, Args)]
#[command(after_help = PROVE_HELP)]
pub struct ProveArgs {
    /// Addresses to prove it for, a link-local one with its device (fe80::1%eth0), or names of hosts; none: all of this
    /// host
    #[arg(value_name = "ADDR")]
    pub addresses: Vec<Asked>,
    /// In this network namespace: a name (ip netns), a path, or its inode number
    #[arg(long, value_name = "NS")]
    pub netns: Option<String>,
    /// One JSON object for each address, and the summary
    #[arg(long)]
    pub json: bool,
    /// By which means.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// By which means the verbs trace that make their own traffic.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// How to probe; auto takes, for each probe point, the cheapest that attaches: fentry, kprobe, tracepoint
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: BackendChoice,
    /// Size of the ring buffer, a power of two: 512K, 16M
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = parse_buffer_size)]
    pub buffer_size: u32,
    /// Kernel types from this file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Only the answer, and how far to believe it
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say why points are not attached, and what follows; twice: the debug log, that of the kernel programs included
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 every attached probe point works, and the important ones are attached; 1 not so: the last lines say why \
and what to do; 2 an error.")]
pub struct DoctorArgs {
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Try only this backend
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: BackendChoice,
    /// Kernel types from this file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
    /// Twice: the debug log, that of the kernel programs included
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to trace, until when, and by which means.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// What to trace.
    #[command(flatten)]
    pub filters: FilterArgs,

    /// End after N paths
    #[arg(short, long, value_name = "N", help_heading = "Bounds", allow_hyphen_values = true, value_parser = parse_count)]
    pub count: Option<u64>,
    /// End after this time: 500ms, 10s, 2m; a bare number is seconds
    #[arg(long, value_name = "TIME", help_heading = "Bounds", allow_hyphen_values = true, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Trace one of N messages, chosen at random when they are sent, and nothing of the others: costs less
    #[arg(long, value_name = "N", help_heading = "Bounds", allow_hyphen_values = true, value_parser = parse_sample)]
    pub sample: Option<u32>,
    /// Trace while this command runs, and what still comes right after its end
    #[arg(last = true, value_name = "CMD")]
    pub exec: Vec<OsString>,

    /// How to probe; auto takes, for each probe point, the cheapest that attaches: fentry, kprobe, tracepoint. Points that
    /// are no function are tracepoints with each of them
    #[arg(long, value_name = "NAME", help_heading = "Engine", default_value = "auto")]
    pub backend: BackendChoice,
    /// Size of the ring buffer, a power of two: 512K, 16M
    #[arg(long, value_name = "SIZE", help_heading = "Engine", default_value = "8M", value_parser = parse_buffer_size)]
    pub buffer_size: u32,
    /// Kernel types from this file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", help_heading = "Engine")]
    pub btf: Option<PathBuf>,
    /// Create this file as soon as tracing has begun and CMD, if any, has started
    #[arg(long, value_name = "PATH", help_heading = "Engine")]
    pub ready_file: Option<PathBuf>,
    /// Exit with 1 if anything was lost or incomplete
    #[arg(long, help_heading = "Engine")]
    pub strict: bool,
    /// Count in the kernel each record that a program wants to write, and check at the end that all of them came or are known
    /// to be lost: costs some ns an event
    #[arg(long, help_heading = "Engine")]
    pub audit: bool,
    /// Say nothing but errors and data
    #[arg(short, long, help_heading = "Engine", conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say why points are not attached, and what follows; twice: the debug log, that of the kernel programs included
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Engine")]
    pub verbose: u8,
}

/// How results are shown.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Form of the paths
    #[arg(long, value_name = "FORM", help_heading = "Output", default_value = "table")]
    pub format: Format,
    /// Short for --format json: one object a line, the summary last
    #[arg(long, help_heading = "Output", conflicts_with = "format")]
    pub json: bool,
    /// No paths, only the summary at the end
    #[arg(long, help_heading = "Output")]
    pub summary: bool,
    /// Show only paths that take at least this long, and incomplete ones: 50us, 2ms
    #[arg(long, value_name = "TIME", help_heading = "Output", allow_hyphen_values = true, value_parser = parse_latency)]
    pub min_latency: Option<Duration>,
    /// Times of the hops: since the hop before, since the first, or of the clock (UTC)
    #[arg(short, long, value_name = "KIND", help_heading = "Output", default_value = "delta")]
    pub time: Time,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", help_heading = "Output", default_value = "auto")]
    pub color: Color,
    /// Write to this file instead of standard output, which - stands for
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
}

/// Which backends to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    /// fentry, then kprobe, then tracepoint, for each point
    Auto,
    /// Only fentry
    Fentry,
    /// Only kprobes
    Kprobe,
    /// Only tracepoints
    Tracepoint,
}

impl BackendChoice {
    /// The backends, in the order in which they are tried.
    pub fn backends(self) -> Vec<Backend> {
        match self {
            Self::Auto => Backend::ALL.to_vec(),
            Self::Fentry => vec![Backend::Fentry],
            Self::Kprobe => vec![Backend::Kprobe],
            Self::Tracepoint => vec![Backend::Tracepoint],
        }
    }
}

/// Form of the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line a packet
    Table,
    /// One hop a line
    Tree,
    /// One JSON object a line
    Json,
}

/// Which times are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Time {
    /// Since the hop before
    Delta,
    /// Since the path's first hop
    Relative,
    /// Time of day, UTC
    Absolute,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl OutputArgs {
    /// The least time of paths that are shown, ns.
    pub fn min_ns(&self) -> u64 {
        self.min_latency.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The form, `--json` included.
    pub fn form(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

fn parse_buffer_size(text: &str) -> Result<u32, String> {
    // The kernel wants a power of two and whole pages; 1 GiB is more than any reader can fall behind.
    let wrong = || "a buffer size is a power of two from 4K to 1G, such as 512K or 16M".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u32 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
    if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) { Ok(bytes) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_simplest_call() {
        let cli = Cli::try_parse_from(["pathtrace", "--port", "8888"]).unwrap();
        assert_eq!(cli.live.trace.filters.ports, ["8888"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.live.output.form(), Format::Table);
    }

    #[test]
    fn values_may_be_given_with_commas_between() {
        let cli =
            Cli::try_parse_from(["pathtrace", "-P", "80,443", "--proto", "tcp,udp", "--pid", "1,2"]).unwrap();
        let FilterArgs { ports, transports, pids, .. } = &cli.live.trace.filters;
        assert_eq!(
            (ports.as_slice(), transports.len(), pids.as_slice()),
            (&["80".into(), "443".into()][..], 2, &[1, 2][..])
        );
        let cli = Cli::try_parse_from(["pathtrace", "--comm", "a,b", "--host", "::1,127.0.0.1"]).unwrap();
        assert_eq!((cli.live.trace.filters.comms.len(), cli.live.trace.filters.hosts.len()), (1, 2));
    }

    #[test]
    fn a_command_takes_the_rest() {
        let cli = Cli::try_parse_from(["pathtrace", "-P", "80", "--", "curl", "--port", "x"]).unwrap();
        assert_eq!(cli.live.trace.exec, ["curl", "--port", "x"]);
    }

    #[test]
    fn a_verb_behind_options_is_told_where_it_belongs() {
        let args = ["pathtrace", "-P", "1", "record", "-w", "x"].map(OsString::from);
        let error = Cli::from_args(args).unwrap_err().to_string();
        assert!(error.contains("options follow the verb: pathtrace record"), "{error}");
    }

    #[test]
    fn a_command_is_not_forgotten() {
        for args in [&["-P", "1", "--"][..], &["record", "-w", "x", "--"], &["compare", "--"]] {
            assert!(refused(args).contains("no command behind --"), "{args:?}");
        }
        let args = ["pathtrace", "--", "a-program", "--"].map(OsString::from);
        assert!(Cli::from_args(args).is_ok());
    }

    fn refused(args: &[&str]) -> String {
        let args = ["pathtrace"].iter().chain(args).map(OsString::from);
        Cli::from_args(args).unwrap_err().to_string()
    }

    #[test]
    fn a_recording_needs_a_file() {
        assert!(refused(&["record", "-P", "1"]).contains("record --port 8888 -w run.ptr"));
        assert!(refused(&["report"]).contains("report -r run.ptr"));
        let error = refused(&["record", "-w", "-"]);
        assert!(error.contains("not to standard output") && error.contains("./-"), "{error}");
        assert!(Cli::try_parse_from(["pathtrace", "record", "-w", "./-"]).is_ok());
    }

    #[test]
    fn wrong_values_say_what_is_valid() {
        for (args, says) in [
            (["--proto", "sctp"], "possible values"),
            (["--unix", ""], "@name"),
            (["--pid", "0"], "1 or more"),
            (["--pid", "nginx"], "--comm"),
            (["--min-latency", "5"], "5us"),
            (["--min-latency", "-5us"], "nothing or more"),
            (["--duration", "soon"], "soon is no unit of time"),
            (["--duration", "10y"], "500ms, 10s or 2m"),
            (["--duration", "0s"], "more than nothing"),
            (["--duration", "-1s"], "more than nothing"),
            (["--duration", "-1"], "more than nothing"),
            (["--buffer-size", "3M"], "power of two"),
            (["--buffer-size", "8G"], "power of two"),
            (["--count", "0"], "1 or more"),
            (["--count", "-1"], "1 or more"),
            (["--backend", "xdp"], "possible values"),
            (["prove", "10.0.0.0/8"], "fe80::1%eth0"),
            (["prove", "0.0.0.0"], "give none"),
        ] {
            let error = Cli::try_parse_from([&["pathtrace"][..], &args].concat()).unwrap_err().to_string();
            assert!(error.contains(says), "{args:?}: {error}");
        }
    }

    #[test]
    fn help_breaks_its_lines_once() {
        let mut command = Cli::command();
        let mut texts = vec![command.get_after_help().unwrap().to_string()];
        texts.extend(
            command.get_subcommands_mut().filter_map(|verb| Some(verb.get_after_help()?.to_string())),
        );
        assert!(texts.len() > 3);
        for line in texts.iter().flat_map(|text| text.split("\n\n")).flat_map(|paragraph| {
            let (examples, prose): (Vec<&str>, Vec<&str>) =
                paragraph.lines().partition(|line| line.starts_with("  ") || line.starts_with("Examples:"));
            // Prose is wrapped by clap, for the terminal that there is.
            assert!(prose.len() <= 1, "{prose:?}");
            examples
        }) {
            assert!(line.chars().count() < 80, "{line}");
        }
    }

    #[test]
    fn sizes_of_buffers() {
        assert_eq!(parse_buffer_size("16M"), Ok(16 << 20));
        assert_eq!(parse_buffer_size("4096"), Ok(4096));
    }
}
