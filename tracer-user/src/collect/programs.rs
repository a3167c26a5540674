//! The programs of the object, and what became of each: several points may share one, and several threads load them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, KProbe, Program, ProgramError},
};

use super::error::refusal;

/// All programs, by name.
pub(super) struct Programs<'a>(HashMap<&'a str, Mutex<Slot<'a>>>);

struct Slot<'a> {
    program: &'a mut Program,
    /// `None` until somebody tries it.
    became: Option<Result<(), String>>,
}

impl<'a> Programs<'a> {
    pub(super) fn of(ebpf: &'a mut Ebpf) -> Self {
        let slots = ebpf.programs_mut().map(|(name, program)| {
            let slot = Slot { program, became: None };
            (name, Mutex::new(slot))
        });
        Self(slots.collect())
    }

    /// Loads and attaches a program, unless that was tried before; says why it is not attached. Whoever comes while
    /// another thread tries it waits for the answer.
    pub(super) fn attach(&self, name: &str, target: &str, btf: &Btf) -> Result<(), String> {
        let slot = self.0.get(name).ok_or_else(|| format!("the object has no program {name}"))?;
        // A thread that panicked takes all others with it, so a poisoned lock is never seen.
        let mut slot: MutexGuard<'_, Slot<'_>> = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot { program, became } = &mut *slot;
        became
            .get_or_insert_with(|| {
                load_and_attach(program, target, btf).map_err(|error| {
                    unload(program);
                    refusal(&error)
                })
            })
            .clone()
    }
}

fn load_and_attach(program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(program) => {
            program.load(target, btf)?;
            program.attach()?;
        }
        Program::KProbe(program) => {
            program.load()?;
            program.attach(target, 0)?;
        }
        Program::BtfTracePoint(program) => {
            program.load(target, btf)?;
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
