//! Which CPUs a comparison runs on.

use std::io;

use crate::{cli::CpuChoice, commands::Failure, comparison::Cpus, workload::allowed_cpus};

/// The CPUs for this choice. pathtrace keeps off the CPUs of the two processes, if there are others.
pub(super) fn choose(choice: CpuChoice) -> Result<Cpus, Failure> {
    let allowed =
        allowed_cpus().map_err(|source| Failure::System { what: "ask which CPUs may be used", source })?;
    of(choice, &allowed).map_err(|why| Failure::Value { option: "--cpus", value: shown(choice), why })
}

fn shown(choice: CpuChoice) -> String {
    match choice {
        CpuChoice::Same => "same".to_owned(),
        CpuChoice::Split => "split".to_owned(),
        CpuChoice::These(client, server) => format!("{client},{server}"),
    }
}

/// The last CPUs: the first one has more interrupts than others.
fn of(choice: CpuChoice, allowed: &[usize]) -> Result<Cpus, String> {
    let mut last = allowed.iter().rev().copied();
    let (client, server) = match choice {
        CpuChoice::Same => last.next().map(|cpu| (cpu, cpu)).ok_or("there is no CPU")?,
        CpuChoice::Split => last.next().zip(last.next()).ok_or("there is only one CPU")?,
        CpuChoice::These(client, server) => {
            if let Some(cpu) = [client, server].into_iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(format!("CPU {cpu} may not be used; these may: {allowed:?}"));
            }
            (client, server)
        }
    };
    let tracer = allowed.iter().copied().find(|cpu| ![client, server].contains(cpu));
    Ok(Cpus { client: Some(client), server: Some(server), tracer })
}

/// Keeps pathtrace off the CPUs of the two processes.
pub(super) fn stay_away(cpus: Cpus) -> io::Result<()> {
    cpus.tracer.map_or(Ok(()), crate::workload::pin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(client: usize, server: usize, tracer: Option<usize>) -> Cpus {
        Cpus { client: Some(client), server: Some(server), tracer }
    }

    #[test]
    fn the_tracer_has_another_cpu_if_there_is_one() {
        assert_eq!(of(CpuChoice::Same, &[0, 1]), Ok(cpus(1, 1, Some(0))));
        assert_eq!(of(CpuChoice::Same, &[5]), Ok(cpus(5, 5, None)));
        assert_eq!(of(CpuChoice::Split, &[0, 1]), Ok(cpus(1, 0, None)));
        assert_eq!(of(CpuChoice::Split, &[0, 2, 4]), Ok(cpus(4, 2, Some(0))));
        assert_eq!(of(CpuChoice::These(0, 2), &[0, 1, 2]), Ok(cpus(0, 2, Some(1))));
    }

    #[test]
    fn cpus_that_may_not_be_used_are_refused() {
        assert!(of(CpuChoice::Split, &[3]).is_err());
        assert!(of(CpuChoice::These(0, 7), &[0, 1]).unwrap_err().contains("CPU 7"));
    }
}
