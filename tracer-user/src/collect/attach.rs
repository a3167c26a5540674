//! Attaches each probe point by the first backend that really takes it.
//!
//! What a kernel says it supports is no proof (a kernel without kprobes says it has the program type), so each attempt
//! is a real load and a real attach.

use std::{collections::HashMap, time::Instant};

use aya::{
    Btf as LoaderBtf, Ebpf, Endianness,
    programs::{BtfTracePoint, FEntry, KProbe, Program, ProgramError},
};
use tracer_common::probes::{Arg, Backend, PROBES, ProbePoint, Tracepoint};

use super::{
    CollectError, Plan,
    error::{chain, refusal},
};
use crate::{
    kernel::{
        btf::{Btf, check_args},
        symbols::Symbols,
    },
    model::{Attached, Coverage, Refusal, State},
};

/// Tries every point that the plan needs.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    plan: &Plan,
    btf: &Btf,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Coverage, CollectError> {
    let needed: Vec<&ProbePoint> = PROBES.iter().filter(|point| plan.filter.needs(point)).collect();
    let functions: Vec<&str> = needed
        .iter()
        .filter_map(|point| point.functions().ok())
        .flat_map(|of| of.names.iter().copied())
        .collect();
    // Without symbols there are no kprobes; the others go on.
    let symbols = if plan.backends.contains(&Backend::Kprobe) {
        Symbols::running(&functions).map_err(|error| error.to_string())
    } else {
        Ok(Symbols::default())
    };
    let kernel = Kernel {
        btf,
        loader_btf: match &plan.btf_file {
            Some(file) => LoaderBtf::parse_file(file, Endianness::default()),
            None => LoaderBtf::from_sys_fs(),
        }
        .map_err(|error| CollectError::LoaderBtf(chain(&error)))?,
        symbols,
    };
    let mut coverage = Coverage::default();
    let mut attached = HashMap::new();
    for (done, point) in needed.iter().enumerate() {
        coverage.set(point.point, attach_point(ebpf, point, &plan.backends, &kernel, &mut attached));
        progress(done + 1, needed.len());
    }
    Ok(coverage)
}

/// What became of each program: several points may share one.
type Programs = HashMap<String, Result<(), String>>;

/// What is known of the kernel that the programs go into.
struct Kernel<'a> {
    btf: &'a Btf,
    loader_btf: LoaderBtf,
    /// For kprobes; or why there are none.
    symbols: Result<Symbols, String>,
}

fn attach_point(
    ebpf: &mut Ebpf,
    point: &ProbePoint,
    backends: &[Backend],
    kernel: &Kernel<'_>,
    programs: &mut Programs,
) -> State {
    let mut refusals = Vec::new();
    // What is no function anywhere is a tracepoint, whichever backend was asked for.
    let is_function = point.functions().is_ok();
    let backends = if is_function { backends } else { &[Backend::Tracepoint] };
    for backend in backends.iter().copied() {
        let start = Instant::now();
        match try_backend(ebpf, point, backend, kernel, programs) {
            Ok(function) => {
                // Most of it is the kernel's verifier.
                log::debug!("{}: {} {function}, in {:.1?}", point.hop, backend.name(), start.elapsed());
                return State::Attached(Attached { backend, function });
            }
            Err(reason) => {
                log::debug!("{}: {}: {reason}", point.hop, backend.name());
                refusals.push(Refusal { backend, reason });
            }
        }
    }
    State::Refused(refusals)
}

fn try_backend(
    ebpf: &mut Ebpf,
    point: &ProbePoint,
    backend: Backend,
    kernel: &Kernel<'_>,
    programs: &mut Programs,
) -> Result<String, String> {
    // What to attach to, and how people call it.
    let (target, shown) = match backend {
        Backend::Fentry => kernel.fentry_target(point).map(|name| (name.clone(), name)),
        Backend::Kprobe => kernel.kprobe_target(point).map(|name| (name.clone(), name)),
        Backend::Tracepoint => {
            kernel.tracepoint_target(point).map(|it| (it.name().to_owned(), it.full_name.to_owned()))
        }
    }?;
    let name = format!("{}_{}", backend.name(), point.program_of(backend).row().hop);
    if let Some(before) = programs.get(&name) {
        return before.clone().map(|()| shown);
    }
    let program = ebpf.program_mut(&name).ok_or_else(|| format!("the object has no program {name}"))?;
    let attached = load_and_attach(program, &target, kernel).map_err(|error| {
        unload(program);
        refusal(&error)
    });
    programs.insert(name, attached.clone());
    attached.map(|()| shown)
}

fn load_and_attach(program: &mut Program, target: &str, kernel: &Kernel<'_>) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => {
            program.load(target, &kernel.loader_btf)?;
            program.attach()?;
        }
        Program::KProbe(program) => {
            program.load()?;
            program.attach(target, 0)?;
        }
        Program::BtfTracePoint(program) => {
            program.load(target, &kernel.loader_btf)?;
            program.attach()?;
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
}

/// A program that is not attached has no business in the kernel. It may not have got there: then there is nothing to do.
fn unload(program: &mut Program) {
    let _ = match program {
        Program::FEntry(program) => FEntry::unload(program),
        Program::KProbe(program) => KProbe::unload(program),
        Program::BtfTracePoint(program) => BtfTracePoint::unload(program),
        _ => Ok(()),
    };
}

impl Kernel<'_> {
    /// fentry needs the function by its own name, with its types.
    fn fentry_target(&self, point: &ProbePoint) -> Result<String, String> {
        let functions = point.functions()?;
        let mut reason = String::from("no such function in this kernel's type information");
        for function in functions.names {
            let Some(args) = self.btf.function_args(function) else { continue };
            match check_args(function, functions.args, &args) {
                Ok(()) => return Ok((*function).to_owned()),
                Err(differs) => reason = differs,
            }
        }
        Err(reason)
    }

    /// A kprobe takes any symbol. A variant that the compiler made may have its arguments elsewhere, so it only serves
    /// points that take none.
    fn kprobe_target(&self, point: &ProbePoint) -> Result<String, String> {
        let symbols = self.symbols.as_ref().map_err(String::clone)?;
        let functions = point.functions()?;
        let mut reason = format!("no symbol {} in this kernel", functions.names.join(" or "));
        for function in functions.names {
            let Some(symbol) = symbols.get(function) else { continue };
            if !symbol.exact && !functions.args.iter().all(takes_nothing) {
                reason = format!("only {} is left of it, whose arguments may lie elsewhere", symbol.taken);
                continue;
            }
            match self.btf.function_args(function).map(|args| check_args(function, functions.args, &args)) {
                Some(Err(differs)) => reason = differs,
                _ => return Ok(symbol.taken.clone()),
            }
        }
        Err(reason)
    }

    fn tracepoint_target(&self, point: &ProbePoint) -> Result<Tracepoint, String> {
        let tracepoint = point.tracepoint()?;
        let args = self
            .btf
            .tracepoint_args(tracepoint.name())
            .ok_or_else(|| format!("this kernel has no tracepoint {}", tracepoint.full_name))?;
        check_args(tracepoint.full_name, tracepoint.args, &args)?;
        Ok(tracepoint)
    }
}

/// Whether a reader ignores this argument.
fn takes_nothing(arg: &Arg) -> bool {
    arg.name == "napi"
}
