//! `pathtrace doctor`: what this kernel allows, found out by doing it.

mod self_test;
mod tally;

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use tracer_common::probes::{Backend, PROBES};

use super::{Failure, Outcome, output, prepare::start_log, trace::progress_bar};
use crate::{
    cli::DoctorArgs,
    collect::{CollectError, Collector, Plan},
    diagnosis::{Diagnosis, NotTried, Trial, TypesFile},
    export::json,
    filter::Filter,
    kernel::{
        btf::{self, Btf},
        features::Features,
        symbols::Symbols,
    },
    render::{Style, write_diagnosis},
};

/// Far more than the self-test writes, and room for the rest of the machine's traffic meanwhile.
const BUFFER_BYTES: u32 = 16 << 20;

/// Finds out and says what this kernel allows. What stands in the way is an answer, no failure.
pub(super) fn doctor(args: &DoctorArgs) -> Result<Outcome, Failure> {
    start_log(args.verbose);
    let diagnosis = examine(args)?;
    show(&diagnosis, args.json).map_err(Failure::Output)?;
    Ok(if diagnosis.is_healthy() { Outcome::Done } else { Outcome::Negative })
}

fn show(diagnosis: &Diagnosis, as_json: bool) -> io::Result<()> {
    let mut text = Vec::new();
    if as_json {
        json::write_diagnosis(diagnosis, &mut text)?;
    } else {
        let color = output::is_colored(io::stdout().is_terminal());
        write_diagnosis(diagnosis, Style { color, ..Style::default() }, &mut text)?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush())
}

fn examine(args: &DoctorArgs) -> Result<Diagnosis, Failure> {
    let features = Features::running()?;
    let (types, btf) = match &args.btf {
        Some(file) => {
            // A file that the user named and that is none is a mistake, and says nothing of the kernel.
            let btf = Btf::from_file(file)?;
            (TypesFile { path: file.clone(), bytes: size(file) }, Some(btf))
        }
        None => match Btf::running() {
            Ok(btf) => (TypesFile { path: running_types(), bytes: size(&running_types()) }, Some(btf)),
            Err(error) => (TypesFile { path: running_types(), bytes: Err(error.to_string()) }, None),
        },
    };
    let trial = match btf {
        _ if !features.privileges.missing().is_empty() => Err(NotTried::Privilege),
        None => Err(NotTried::Types),
        Some(btf) => try_all(args, &features, &btf).map_err(|error| NotTried::Load(error.to_string())),
    };
    Ok(Diagnosis { features, types, trial })
}

fn running_types() -> PathBuf {
    PathBuf::from(btf::RUNNING_KERNEL)
}

fn size(file: &Path) -> Result<u64, String> {
    fs::metadata(file).map(|metadata| metadata.len()).map_err(|error| error.to_string())
}

/// Attaches each backend alone, then as a run would, and sends traffic past it. Nothing stays attached.
fn try_all(args: &DoctorArgs, features: &Features, btf: &Btf) -> Result<Trial, CollectError> {
    let backends = args.backend.backends();
    let plan = |backends: Vec<Backend>| Plan {
        filter: Filter::default(),
        backends,
        buffer_bytes: BUFFER_BYTES,
        debug_log: args.verbose >= 2,
        measures_cost: false,
        audit: false,
        sample: 0,
        kernel: features.version(),
    };
    let progress = progress_bar(args.json);
    progress.set_length(((backends.len() + 1) * PROBES.len()) as u64);
    let attach = |backends| Collector::attach(&plan(backends), btf, &mut |_, _| progress.inc(1));

    let mut alone = Vec::with_capacity(backends.len());
    for backend in &backends {
        alone.push((*backend, attach(vec![*backend])?.coverage().clone()));
    }
    let mut collector = attach(backends)?;
    progress.finish_and_clear();
    let taken = collector.coverage().clone();
    let self_test = self_test::run(&mut collector)?;
    drop(collector);

    let functions: Vec<&str> = PROBES
        .iter()
        .filter_map(|point| point.functions().ok())
        .flat_map(|it| it.names.iter().copied())
        .collect();
    let symbols = Symbols::running(&functions).map_err(|error| error.to_string());
    Ok(Trial { alone, taken, symbols, self_test })
}
