//! What a diagnosis means, and what to do about it.

use tracer_common::probes::Point;

use super::{Diagnosis, NotTried, Outcome, SelfTest, Trial, exercise::is_important};
use crate::{kernel::features::Lockdown, workload::ExchangeError};

/// Something that stands in the way of tracing, or of believing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Problem {
    fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// Everything that is wrong; nothing if this kernel can be traced and all that is attached works.
pub fn problems(diagnosis: &Diagnosis) -> Vec<Problem> {
    let mut problems = Vec::new();
    let missing = diagnosis.features.privileges.missing();
    if !missing.is_empty() {
        problems.push(Problem::new(
            format!("this process lacks {}", missing.join(" and ")),
            "run it as root (sudo pathtrace doctor), or once: sudo setcap cap_bpf,cap_perfmon=ep on the program",
        ));
    }
    if let Err(why) = &diagnosis.types.bytes {
        problems.push(Problem::new(
            why,
            "a kernel with CONFIG_DEBUG_INFO_BTF=y is needed, or --btf FILE with the types of this very kernel",
        ));
    }
    if diagnosis.features.lockdown == Some(Lockdown::Confidentiality) {
        problems.push(Problem::new(
            "the kernel is locked down (confidentiality), which forbids reading it, to root as well",
            "boot without lockdown=confidentiality",
        ));
    }
    match &diagnosis.trial {
        Ok(trial) => of_trial(trial, &mut problems),
        Err(NotTried::Load(why)) => {
            problems.push(Problem::new(why, "if it is no limit of memory, report it with this output"));
        }
        Err(NotTried::Privilege | NotTried::Types) => {}
    }
    problems
}

fn of_trial(trial: &Trial, problems: &mut Vec<Problem>) {
    if !trial.taken.sees_traffic() {
        problems.push(Problem::new(
            format!(
                "nothing that makes a path could be attached, so there is nothing to see{}",
                what_is_left(trial)
            ),
            if trial.alone.len() == 1 {
                "the reasons stand below the table; with --backend auto others are tried"
            } else {
                "the reasons stand below the table"
            },
        ));
        return;
    }
    let names = |points: &[Point]| points.iter().map(|point| point.row().hop).collect::<Vec<_>>().join(", ");
    let points = |wanted: &dyn Fn(Point) -> bool| {
        Point::ALL.iter().copied().filter(|point| wanted(*point)).collect::<Vec<Point>>()
    };
    let absent = points(&|point| is_important(point) && !trial.taken.sees(point));
    if !absent.is_empty() {
        problems.push(Problem::new(
            format!("without {} paths say little", names(&absent)),
            "the reasons stand below the table; with --backend auto all backends are tried",
        ));
    }
    let silent = points(&|point| trial.outcome(point) == Outcome::Silent);
    if !silent.is_empty() {
        let attached = silent.iter().filter_map(|point| {
            let (backend, target) = trial.taken(*point)?;
            Some(format!("{} ({} {})", point.row().hop, backend.name(), target.function))
        });
        problems.push(of_silence(&attached.collect::<Vec<_>>().join(", "), &trial.self_test));
    }
    let is_failure = |_, error: &ExchangeError| match error {
        ExchangeError::Failed(_) | ExchangeError::TimeUp => true,
        ExchangeError::Unavailable(_) => false,
    };
    for failure in trial.self_test.failures(is_failure) {
        problems.push(Problem::new(
            format!("self-test, {failure}"),
            "see that the loopback device is up (ip link set lo up), and that no firewall or security module is in the way",
        ));
    }
}

/// What did attach and makes no path alone.
fn what_is_left(trial: &Trial) -> String {
    let names: Vec<&str> =
        Point::ALL.iter().filter(|point| trial.taken.sees(**point)).map(|point| point.row().hop).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; what did attach only adds to paths: {}", names.join(", "))
    }
}

fn of_silence(points: &str, self_test: &SelfTest) -> Problem {
    match self_test.losses.lost() {
        0 => Problem::new(
            format!(
                "attached but silent: {points}; traffic that passes there was sent, and nothing was reported"
            ),
            "paths will lack it without saying so: try another --backend, and report it with this output",
        ),
        lost => Problem::new(
            format!("nothing was seen of {points}, but {lost} records were lost, which may be why"),
            "try again while the machine is less busy",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{
        diagnosis::samples,
        workload::{Exchange, Family},
    };

    fn whats(diagnosis: &Diagnosis) -> String {
        let whats: Vec<String> = problems(diagnosis).into_iter().map(|problem| problem.what + "\n").collect();
        whats.concat()
    }

    fn trial(diagnosis: &mut Diagnosis) -> &mut Trial {
        diagnosis.trial.as_mut().unwrap()
    }

    #[test]
    fn a_kernel_on_which_everything_fires_has_no_problem() {
        assert_eq!(problems(&samples::tracepoints_only()), []);
        assert!(samples::functions().is_healthy());
    }

    #[test]
    fn silence_is_a_problem_and_a_loss_may_explain_it() {
        let mut diagnosis = samples::functions();
        trial(&mut diagnosis).self_test.hops.remove(&Point::DevQueueXmit);
        assert!(
            whats(&diagnosis).starts_with("attached but silent: dev_queue_xmit (fentry __dev_queue_xmit);"),
            "{diagnosis:?}"
        );
        trial(&mut diagnosis).self_test.losses.hops = 3;
        assert!(whats(&diagnosis).contains("3 records were lost"), "{}", whats(&diagnosis));
    }

    #[test]
    fn what_no_traffic_could_reach_is_not_called_silent() {
        let mut diagnosis = samples::functions();
        let trial = trial(&mut diagnosis);
        trial.self_test.hops.remove(&Point::Ip6Xmit);
        for (exchange, result) in &mut trial.self_test.exchanges {
            if matches!(exchange, Exchange::Tcp(Family::V6)) {
                let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
                *result = Err(ExchangeError::Unavailable(error));
            }
        }
        let Outcome::NotExercised(why) = trial.outcome(Point::Ip6Xmit) else { panic!("{trial:?}") };
        assert!(why.starts_with("TCP over ::1: not available here"), "{why}");
        assert!(diagnosis.is_healthy());
    }

    #[test]
    fn traffic_that_fails_is_a_problem() {
        let mut diagnosis = samples::functions();
        let (_, result) = &mut trial(&mut diagnosis).self_test.exchanges[0];
        *result = Err(ExchangeError::Failed(io::ErrorKind::TimedOut.into()));
        assert_eq!(whats(&diagnosis), "self-test, TCP over 127.0.0.1: timed out\n");
    }

    #[test]
    fn the_skeleton_of_a_path_must_be_there() {
        let mut diagnosis = samples::tracepoints_only();
        let mut coverage = samples::refused(tracer_common::probes::Backend::Tracepoint, "no");
        let point = Point::EnqueueToBacklog;
        coverage.set(point, trial(&mut diagnosis).taken.state(point).clone());
        trial(&mut diagnosis).taken = coverage;
        assert_eq!(
            whats(&diagnosis),
            "without dev_queue_xmit, netif_receive_skb, tcp_v4_rcv, tcp_recvmsg paths say little\n"
        );
        trial(&mut diagnosis).taken = samples::refused(tracer_common::probes::Backend::Tracepoint, "no");
        assert_eq!(
            whats(&diagnosis),
            "nothing that makes a path could be attached, so there is nothing to see\n"
        );
    }

    #[test]
    fn what_only_adds_to_paths_makes_none_and_is_not_called_silent() {
        let mut diagnosis = samples::tracepoints_only();
        let trial = trial(&mut diagnosis);
        let attached = trial.taken.state(Point::FibLookup).clone();
        trial.taken = samples::refused(tracer_common::probes::Backend::Kprobe, "no");
        for point in [Point::FibLookup, Point::SchedWaking] {
            trial.taken.set(point, attached.clone());
        }
        let Outcome::NotExercised(why) = trial.outcome(Point::SchedWaking) else { panic!("{trial:?}") };
        assert!(why.contains("sock_def_readable"), "{why}");
        assert!(
            whats(&diagnosis).ends_with("only adds to paths: fib_lookup, sched_waking\n"),
            "{}",
            whats(&diagnosis)
        );
    }

    #[test]
    fn each_thing_that_prevents_a_trial_is_named() {
        let said = whats(&samples::unprivileged());
        assert_eq!(said, "this process lacks CAP_BPF and CAP_PERFMON\n");
        let mut diagnosis = samples::unprivileged();
        diagnosis.types.bytes = Err("no types".into());
        diagnosis.features.lockdown = Some(Lockdown::Confidentiality);
        diagnosis.trial = Err(NotTried::Load("no room".into()));
        assert_eq!(whats(&diagnosis).lines().count(), 4, "{}", whats(&diagnosis));
    }
}
