//! What functions and tracepoints take.

use std::fmt;

use tracer_common::probes::Arg;

use super::parse::TRACE_PREFIX;
use super::{Btf, Kind, Type};

/// The type of an argument, as far as a reader of it cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgType<'a> {
    /// A pointer to the struct or union of that name, or to something else.
    Pointer(Option<&'a str>),
    /// An integer of any size, a boolean or an enumeration.
    Integer,
    /// Passed by value and none of these.
    Other,
}

impl fmt::Display for ArgType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(Some(name)) => write!(f, "a pointer to struct {name}"),
            Self::Pointer(None) => f.write_str("a pointer to no struct"),
            Self::Integer => f.write_str("an integer"),
            Self::Other => f.write_str("no pointer"),
        }
    }
}

impl Btf {
    /// The number of a function, by which programs call it that are allowed to.
    pub fn function_id(&self, name: &str) -> Option<u32> {
        self.find_id(name, |kind| kind == Kind::FUNC).map(|(id, _)| id)
    }

    /// What a function takes, or `None` if the kernel does not describe it: pahole leaves out functions whose
    /// arguments the compiler moved, and functions of one name with different arguments.
    pub fn function_args(&self, name: &str) -> Option<Vec<ArgType<'_>>> {
        let function = self.find(name, |kind| kind == Kind::FUNC)?;
        self.parameters(self.by_id(function.size_or_id)?)
    }

    /// What a tracepoint takes, without the context pointer in front that the kernel passes to each of its probes:
    /// index 0 is what a BPF program finds at index 0. `None` if there is no such tracepoint.
    pub fn tracepoint_args(&self, name: &str) -> Option<Vec<ArgType<'_>>> {
        // `typedef void (*btf_trace_NAME)(void *__data, …)`, made by include/trace/bpf_probe.h.
        let typedef = self.find(&format!("{TRACE_PREFIX}{name}"), |kind| kind == Kind::TYPEDEF)?;
        let pointer = self.by_id(typedef.size_or_id).filter(|found| found.kind == Kind::PTR)?;
        let mut args = self.parameters(self.by_id(pointer.size_or_id)?)?;
        if args.first() != Some(&ArgType::Pointer(None)) {
            return None;
        }
        args.remove(0);
        Some(args)
    }

    fn parameters(&self, prototype: Type) -> Option<Vec<ArgType<'_>>> {
        if prototype.kind != Kind::FUNC_PROTO {
            return None;
        }
        // struct btf_param { name_off, type }
        (0..usize::try_from(prototype.vlen).ok()?)
            .map(|index| self.arg_type(self.word(prototype, index * 2 + 1).ok()?))
            .collect()
    }

    fn arg_type(&self, id: u32) -> Option<ArgType<'_>> {
        let found = self.unmodified(id).ok()?;
        Some(match found.kind {
            Kind::PTR => {
                let target = self.unmodified(found.size_or_id).ok()?;
                // A forward declaration names the struct as well as its definition does.
                let is_struct = matches!(target.kind, Kind::STRUCT | Kind::UNION | Kind::FWD);
                let name = std::str::from_utf8(self.name(target.name)).ok()?;
                ArgType::Pointer((is_struct && !name.is_empty()).then_some(name))
            }
            Kind::INT | Kind::ENUM | Kind::ENUM64 => ArgType::Integer,
            _ => ArgType::Other,
        })
    }
}

/// Whether the arguments that a reader takes are where it looks for them; otherwise what is wrong. `of` names the
/// function or tracepoint. Arguments are counted from 0.
pub fn check_args(of: &str, wanted: &[Arg], actual: &[ArgType<'_>]) -> Result<(), String> {
    for arg in wanted {
        let Some(found) = actual.get(usize::from(arg.index)) else {
            if arg.is_optional() {
                continue;
            }
            let Arg { name, index } = arg;
            return Err(format!(
                "{of} takes {} arguments: there is no argument {index} ({name})",
                actual.len()
            ));
        };
        if let Some(expected) = arg.expected_struct()
            && *found != ArgType::Pointer(Some(expected))
        {
            return Err(format!(
                "argument {} of {of} is {found}, expected a pointer to struct {expected}",
                arg.index
            ));
        }
    }
    Ok(())
}
