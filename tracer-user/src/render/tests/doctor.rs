use std::io;

use tracer_common::probes::Point;

use super::*;
use crate::{
    diagnosis::{Diagnosis, samples},
    workload::{ExchangeError, Family},
};

fn diagnosis(diagnosis: &Diagnosis, style: Style) -> String {
    let mut out = Vec::new();
    write_diagnosis(diagnosis, style, &mut out).unwrap();
    text(out)
}

/// Two points silent, IPv6 not there.
fn with_problems() -> Diagnosis {
    let mut diagnosis = samples::functions();
    let self_test = &mut diagnosis.trial.as_mut().unwrap().self_test;
    for point in [Point::DevQueueXmit, Point::TcpRecvmsg, Point::Ip6Xmit] {
        self_test.hops.remove(&point);
    }
    for (exchange, result) in &mut self_test.exchanges {
        use crate::workload::Exchange::{Tcp, Udp, UdpRefused, UnixDatagram};
        match exchange {
            Tcp(Family::V6) | Udp(Family::V6) | UdpRefused(Family::V6) => {
                *result = Err(ExchangeError::Unavailable(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)));
            }
            UnixDatagram => *result = Err(ExchangeError::Failed(io::ErrorKind::TimedOut.into())),
            _ => {}
        }
    }
    diagnosis
}

#[test]
fn tracepoints_only() {
    insta::assert_snapshot!(diagnosis(&samples::tracepoints_only(), style()));
}

#[test]
fn all_backends_with_a_renamed_function_and_a_module() {
    insta::assert_snapshot!(diagnosis(&samples::functions(), style()));
}

#[test]
fn problems_and_what_to_do() {
    insta::assert_snapshot!(diagnosis(&with_problems(), style()));
}

#[test]
fn without_privilege_what_is_known_is_said() {
    insta::assert_snapshot!(diagnosis(&samples::unprivileged(), style()));
}

#[test]
fn colours() {
    let style = Style { color: true, ..style() };
    insta::assert_snapshot!(diagnosis(&with_problems(), style).replace('\x1b', "␛"));
}

#[test]
fn what_the_kernel_says_steers_no_terminal() {
    let mut hostile = samples::tracepoints_only();
    hostile.features.release = "6\x1b[2J".to_owned();
    hostile.types.bytes = Err("a\x1b]0;b\x07".to_owned());
    let trial = hostile.trial.as_mut().unwrap();
    trial.taken = samples::refused(tracer_common::probes::Backend::Fentry, "\x1b[31m");
    trial.alone[0].1 = trial.taken.clone();
    trial.symbols = Err("\u{202e}".to_owned());
    let text = diagnosis(&hostile, style());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
}
