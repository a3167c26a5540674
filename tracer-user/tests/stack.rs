//! How much stack the programs need, whatever the options are.
//!
//! The kernel lets a chain of calls have 512 bytes (`MAX_BPF_STACK`), each frame rounded up to 32 (`check_max_stack_depth_subprog()`).
//! It looks only at what it can reach with the options given, so a chain that is too long would show with some options only, as a
//! probe point that is not attached.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pathtrace-bpf.o"));

const LIMIT: u32 = 512;
const ROUNDED_TO: u32 = 32;
/// `MAX_CALL_FRAMES`.
const FRAMES: usize = 8;

/// `BPF_JMP | BPF_CALL`; of a function of the program where the source register is `BPF_PSEUDO_CALL`.
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
/// `BPF_ALU64 | BPF_MOV | BPF_X` and `BPF_ALU64 | BPF_ADD | BPF_K`.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
/// The frame pointer.
const R10: u8 = 10;

/// A function's section and the offset of its first byte there.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    stack: u32,
    calls: Vec<Place>,
}

/// One instruction of `struct bpf_insn`, little endian.
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    fn of(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            to: bytes[1] & 15,
            from: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            value: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// Loads and stores: the register that holds the address.
    fn address(&self) -> Option<u8> {
        match self.code & 7 {
            1 => Some(self.from),
            2 | 3 => Some(self.to),
            _ => None,
        }
    }
}

fn functions() -> BTreeMap<Place, Function> {
    let file = object::File::parse(OBJECT).unwrap();
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        let relocations: BTreeMap<u64, RelocationTarget> =
            section.relocations().map(|(at, relocation)| (at, relocation.target())).collect();
        let (begin, end) = (symbol.address(), symbol.address() + symbol.size());
        let code = &section.data().unwrap()[usize::try_from(begin).unwrap()..usize::try_from(end).unwrap()];
        let mut function = Function { name: symbol.name().unwrap().into(), ..Function::default() };
        // Registers that point to the frame's top.
        let mut tops = [false; 16];
        for (at, bytes) in (begin..).step_by(8).zip(code.chunks_exact(8)) {
            let instruction = Instruction::of(bytes);
            let mut uses = |below: i32| function.stack = function.stack.max(below.unsigned_abs());
            if instruction.address() == Some(R10) {
                uses(instruction.offset.min(0).into());
            }
            match instruction.code {
                MOVE => {
                    let is_top = instruction.from == R10 || tops[usize::from(instruction.from)];
                    tops[usize::from(instruction.to)] = is_top;
                }
                ADD if tops[usize::from(instruction.to)] => {
                    uses(instruction.value.min(0));
                    tops[usize::from(instruction.to)] = false;
                }
                CALL if instruction.from == PSEUDO_CALL => {
                    // In bytes, from the place that the relocation names, or from the next instruction.
                    let ahead = (i64::from(instruction.value) + 1) * 8;
                    let place = match relocations.get(&at) {
                        Some(RelocationTarget::Symbol(index)) => {
                            let target = file.symbol_by_index(*index).unwrap();
                            let section = target.section_index().unwrap();
                            if target.kind() == SymbolKind::Section
                                && section != symbol.section_index().unwrap()
                            {
                                (section.0, u64::try_from(ahead).unwrap())
                            } else if target.kind() == SymbolKind::Section {
                                (section.0, at.checked_add_signed(ahead).unwrap())
                            } else {
                                (section.0, target.address())
                            }
                        }
                        _ => (section.index().0, at.checked_add_signed(ahead).unwrap()),
                    };
                    function.calls.push(place);
                }
                _ => {}
            }
        }
        functions.insert((section.index().0, begin), function);
    }
    functions
}

/// The longest chain of calls from a function on, and its bytes.
fn deepest(functions: &BTreeMap<Place, Function>, at: Place) -> (u32, Vec<String>) {
    let function = functions.get(&at).unwrap_or_else(|| panic!("nothing begins at {at:?}"));
    let called = function.calls.iter().map(|&call| deepest(functions, call)).max().unwrap_or_default();
    let frame = function.stack.max(1).next_multiple_of(ROUNDED_TO);
    let mut chain = vec![format!("{} {}", function.name, function.stack)];
    chain.extend(called.1);
    (frame + called.0, chain)
}

#[test]
fn no_chain_of_calls_needs_more_stack_than_there_is() {
    let functions = functions();
    let (bytes, chain) = functions.keys().map(|&at| deepest(&functions, at)).max().unwrap();
    println!("{bytes} bytes: {chain:#?}");
    // A reader that found no calls, or no stack, would always be content.
    assert!(chain.len() > 2 && bytes > 256, "{bytes} bytes: {chain:#?}");
    assert!(bytes <= LIMIT, "{bytes} bytes: {chain:#?}");
    let frames = functions.keys().map(|&at| deepest(&functions, at).1.len()).max().unwrap();
    assert!(frames <= FRAMES, "the longest chain has {frames} frames");
}
