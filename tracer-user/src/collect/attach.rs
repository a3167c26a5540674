//! Attaches each probe point by the first backend that really takes it.
//!
//! What a kernel says it supports is no proof (a kernel without kprobes says it has the program type), so each attempt
//! is a real load and a real attach. Most of the time is the kernel's verifier's, which works for several threads at once.

use std::{
    num::NonZero,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use aya::{Btf as LoaderBtf, Ebpf, Endianness};
use tracer_common::probes::{Arg, Backend, PROBES, Point, ProbePoint, Tracepoint};

use super::{
    CollectError, Plan,
    error::{NO_KPROBES, chain},
    programs::Programs,
};
use crate::{
    kernel::{
        btf::{Btf, check_args},
        symbols::Symbols,
    },
    model::{Attached, Coverage, Refusal, State},
};

/// More threads than this find nothing more to do: a few programs take most of the time.
const MOST_THREADS: usize = 8;

/// What `perf_event_open` wants to know to make a kprobe. It is there only where the kernel has them.
const KPROBE_TYPE: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Tries every point that the plan needs.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    plan: &Plan,
    btf: &Btf,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Coverage, CollectError> {
    let needed: Vec<&'static ProbePoint> = PROBES.iter().filter(|point| plan.filter.needs(point)).collect();
    let kernel = Kernel::new(btf, &needed)?;
    let programs = Programs::of(ebpf);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
    let next = AtomicUsize::new(0);
    let (say, said) = mpsc::channel();
    let mut coverage = Coverage::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            let say = say.clone();
            scope.spawn(|| {
                let say = say;
                while let Some(point) = needed.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver is there until all threads have ended.
                    let _ = say.send((point.point, attach_point(&programs, point, &plan.backends, &kernel)));
                }
            });
        }
        drop(say);
        for (done, (point, state)) in said.iter().enumerate() {
            coverage.set(point, state);
            progress(done + 1, needed.len());
        }
    });
    Ok(coverage)
}

/// What is known of the kernel that the programs go into.
struct Kernel<'a> {
    btf: &'a Btf,
    loader_btf: LoaderBtf,
    /// The points that are asked for.
    needed: &'a [&'static ProbePoint],
    /// All functions that may be probed.
    functions: Vec<&'static str>,
    /// Which of them there are, for kprobes; or why there are no kprobes. The list that says so is long, so it is not read
    /// before it is needed.
    symbols: OnceLock<Result<Symbols, String>>,
}

fn attach_point(
    programs: &Programs<'_>,
    point: &ProbePoint,
    backends: &[Backend],
    kernel: &Kernel<'_>,
) -> State {
    let mut refusals = Vec::new();
    // What is no function anywhere is a tracepoint, whichever backend was asked for.
    let is_function = point.functions().is_ok();
    let backends = if is_function { backends } else { &[Backend::Tracepoint] };
    for backend in backends.iter().copied() {
        let start = Instant::now();
        match try_backend(programs, point, backend, kernel) {
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
    programs: &Programs<'_>,
    point: &ProbePoint,
    backend: Backend,
    kernel: &Kernel<'_>,
) -> Result<String, String> {
    let attach = |owner: Point, target: &str, shown: &str| {
        let name = format!("{}_{}", backend.name(), owner.row().hop);
        programs.attach(&name, target, &kernel.loader_btf).map(|()| shown.to_owned())
    };
    let owner = point.program_of(backend);
    match backend {
        Backend::Fentry => kernel.fentry_target(point).and_then(|name| attach(owner, &name, &name)),
        Backend::Kprobe => kernel.kprobe_target(point).and_then(|name| attach(owner, &name, &name)),
        Backend::Tracepoint => {
            let mut reason = point.tracepoint().map(|_| String::new())?;
            for (owner, tracepoint) in kernel.tracepoints(point) {
                let tried = kernel.has(tracepoint);
                match tried.and_then(|()| attach(owner, tracepoint.name(), tracepoint.full_name)) {
                    Ok(shown) => return Ok(shown),
                    Err(refused) => reason = refused,
                }
            }
            Err(reason)
        }
    }
}

impl<'a> Kernel<'a> {
    fn new(btf: &'a Btf, needed: &'a [&'static ProbePoint]) -> Result<Self, CollectError> {
        let functions: Vec<&str> = needed
            .iter()
            .filter_map(|point| point.functions().ok())
            .flat_map(|of| of.names.iter().copied())
            .collect();
        let tracepoints: Vec<&str> = needed
            .iter()
            .flat_map(|point| point.tracepoint().ok().into_iter().chain(point.alone))
            .map(|tracepoint| tracepoint.name())
            .collect();
        // The loader looks names up from the first type to the last: where nothing else has a name, that is soon done.
        let skeleton = btf.skeleton(&functions, &tracepoints);
        let loader_btf = LoaderBtf::parse(&skeleton, Endianness::default())
            .map_err(|error| CollectError::LoaderBtf(chain(&error)))?;
        Ok(Self { btf, loader_btf, needed, functions, symbols: OnceLock::new() })
    }

    /// The symbols that kprobes can be set on. Without symbols there are no kprobes; the others go on.
    fn symbols(&self) -> Result<&Symbols, String> {
        let read = || {
            // The verifier would take each program, at some length, before the kernel says that it has no kprobes.
            if !Path::new(KPROBE_TYPE).exists() {
                return Err(NO_KPROBES.to_owned());
            }
            Symbols::running(&self.functions).map_err(|error| error.to_string())
        };
        self.symbols.get_or_init(read).as_ref().map_err(String::clone)
    }

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
        let symbols = self.symbols()?;
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

    /// Those that may mark the hop, best first.
    fn tracepoints(&self, point: &ProbePoint) -> impl Iterator<Item = (Point, Tracepoint)> {
        point.tracepoints(|row| self.needed.iter().any(|needed| needed.point == row.point))
    }

    /// Whether there is a tracepoint with what its reader takes.
    fn has(&self, tracepoint: Tracepoint) -> Result<(), String> {
        let args = self
            .btf
            .tracepoint_args(tracepoint.name())
            .ok_or_else(|| format!("this kernel has no tracepoint {}", tracepoint.full_name))?;
        check_args(tracepoint.full_name, tracepoint.args, &args)
    }
}

/// Whether a reader ignores this argument.
fn takes_nothing(arg: &Arg) -> bool {
    arg.name == "napi"
}
