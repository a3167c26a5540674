//! The arguments of `compare`.
#![allow(clippy::doc_markdown, reason = "doc comments are help texts here, and backticks would be seen")]

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use super::{EngineArgs, parse_duration};
use crate::{comparison::Condition, filter::UnixName, workload::Link};

const COMPARE_HELP: &str = "\
Examples:
  sudo pathtrace compare
      TCP and UNIX; messages of 100 bytes, 1 KB, 100 KB
  sudo pathtrace compare --sizes 64 --with sockmap,udp,socketpair,pipe
  sudo pathtrace compare --cpus split --duration 5s
      each process on a CPU of its own
  sudo pathtrace compare --tcp 6379 --unix /run/redis.sock -- ./load.sh
      what your own programs send
  sudo pathtrace compare --html gap.html
      a page with pictures; --svg: one picture
  sudo pathtrace compare --json > today.json
  sudo pathtrace compare --json --baseline yesterday.json --fail-if 'p99>+20%'

Two processes send messages to and fro, first while nothing is traced: these are the true times. Then the same again, \
traced: where the time goes, stage by stage. Tracing makes the kernel slower; how much is said.

P50 is the median of each stage by itself. Shares of the gap are of the means of the middle half of the traced messages, \
which add up. The last stage ends in the program: over UNIX sockets its hop is where copying begins, over TCP where it ends, \
so no hop divides it. Of your own traffic that moment is not known: there messages are followed until their reader can read. \
Of a message in several packets the stages are those of the first one; what is left of the others is in the last stage.

Exit status: 0 done; 1 a --fail-if condition holds; 2 an error, a figure that only the baseline has, or nothing of your own \
was seen over one of the two; 128 + signal if one ended it. With a command, its own exit status.";

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(after_help = COMPARE_HELP)]
pub struct CompareArgs {
    /// Bytes of a message, one table each: 100, 4K, 1M
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "100,1K,100K",
        value_parser = parse_message_size, conflicts_with = "tcp", help_heading = "Work")]
    pub sizes: Vec<u32>,
    /// Also over these, after TCP and UNIX
    #[arg(long, value_name = "LINK", value_delimiter = ',', conflicts_with = "tcp", help_heading = "Work")]
    pub with: Vec<Link>,
    /// Where the two processes run: both on one CPU, on two, or on these two, such as 2,3
    #[arg(
        long,
        value_name = "same|split|A,B",
        default_value = "same",
        conflicts_with = "tcp",
        help_heading = "Work"
    )]
    pub cpus: CpuChoice,
    /// How many round trips are measured over each link with each size, instead of as many as fit into --duration
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "tcp"], help_heading = "Work",
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub count: Option<u32>,
    /// How long round trips are measured over each link with each size, 1s unless told otherwise: 500ms, 10s; a bare number
    /// is seconds. Of your own traffic: when to end
    #[arg(long, value_name = "TIME", help_heading = "Work", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Compare your own traffic: what is sent over TCP with this port ...
    #[arg(long, value_name = "PORT", requires = "unix", help_heading = "Your own traffic")]
    pub tcp: Option<String>,
    /// ... with what is sent over UNIX sockets of this name
    #[arg(long, value_name = "PATH", requires = "tcp", help_heading = "Your own traffic")]
    pub unix: Option<UnixName>,
    /// Create this file as soon as your own traffic is traced and CMD, if any, has started
    #[arg(long, value_name = "PATH", requires = "tcp", help_heading = "Your own traffic")]
    pub ready_file: Option<PathBuf>,
    /// Compare what is sent while this command runs
    #[arg(last = true, value_name = "CMD", requires = "tcp")]
    pub exec: Vec<OsString>,

    /// One JSON object for each size and link, and the summary
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Draw it to this file as well
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// Write it to this file as a page of its own as well
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Compare with the output of an earlier run with --json
    #[arg(long, value_name = "FILE", requires = "fail_if", help_heading = "Output")]
    pub baseline: Option<PathBuf>,
    /// Exit with 1 if this holds against the baseline: 'p99>+20%', 'unix.p50>+10%', 'tcp.bytes_per_second<-25%'
    #[arg(long, value_name = "CONDITION", requires = "baseline", help_heading = "Output")]
    pub fail_if: Vec<Condition>,
    /// By which means.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Where the two processes of a comparison run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuChoice {
    /// Both on one CPU: what is measured is the kernel's path, not what it takes to wake another CPU.
    Same,
    /// On two CPUs.
    Split,
    /// On these: the client's, the server's.
    These(usize, usize),
}

impl FromStr for CpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "same" => Ok(Self::Same),
            "split" => Ok(Self::Split),
            _ => text
                .split_once(',')
                .and_then(|(client, server)| Some(Self::These(client.parse().ok()?, server.parse().ok()?)))
                .ok_or_else(|| "`same`, `split`, or two CPUs' numbers such as 2,3".to_owned()),
        }
    }
}

/// The largest message: both processes hold one.
const MOST_BYTES: u32 = 64 << 20;

fn parse_message_size(text: &str) -> Result<u32, String> {
    let wrong = || "a size is 1 to 64M bytes: 100, 4K (4000), 4KiB (4096)".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KB" | "k" | "kB" => 1_000,
        "KiB" => 1 << 10,
        "M" | "MB" => 1_000_000,
        "MiB" => 1 << 20,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| (1..=MOST_BYTES).contains(bytes)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_and_bounded() {
        for (text, bytes) in
            [("1", 1), ("1K", 1_000), ("4KiB", 4_096), ("64MiB", 64 << 20), ("2MB", 2_000_000)]
        {
            assert_eq!(parse_message_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "65MiB", "1G", "-1", "K", "99999999999"] {
            assert!(parse_message_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_a_rule_or_two_numbers() {
        assert_eq!("same".parse(), Ok(CpuChoice::Same));
        assert_eq!("split".parse(), Ok(CpuChoice::Split));
        assert_eq!("3,0".parse(), Ok(CpuChoice::These(3, 0)));
        for text in ["", "3", "1,2,3", "a,b", "-1,0"] {
            assert!(text.parse::<CpuChoice>().is_err(), "{text}");
        }
    }
}
