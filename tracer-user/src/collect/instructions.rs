//! Instructions that not every kernel knows, as this one knows them.
//!
//! **Loads from any memory.** A helper's call for each field is most of what a program costs. `bpf_rdonly_cast()` to `void` makes of a
//! number a pointer to memory that can only be read (`PTR_TO_MEM | MEM_RDONLY | PTR_UNTRUSTED`, kernel 6.17): programs load from it, and
//! the kernel catches faults, as it does where it knows the struct. The call names the function by its number in the kernel's BTF, which
//! neither the compiler knows nor aya puts there (0.14), so it is written into the object before that is loaded.
//!
//! **Adding and fetching at once** (`BPF_FETCH`, kernel 5.12). An older verifier refuses it even where it is never reached.

use std::fs;

use tracer_common::settings::{ADD, CAST, FETCH_ADD, NO_CAST};

use crate::kernel::btf::Btf;

/// The oldest kernel on which loads were tried.
const LOADS_SINCE: (u32, u32) = (6, 18);

/// The number of the function by which programs may load from anywhere.
pub(super) fn cast(kernel: (u32, u32), btf: &Btf) -> Option<u32> {
    // An interpreter knows no such calls. Where it cannot be told (in another network namespace there is no such file), helpers will do.
    let compiles = || {
        let setting = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
        setting.trim().parse::<u32>().is_ok_and(|level| level > 0)
    };
    (kernel >= LOADS_SINCE && compiles()).then(|| btf.function_id("bpf_rdonly_cast")).flatten()
}

/// The object for a kernel that has this function to cast or none, and that fetches or does not. In words, as those who read it want
/// it aligned.
pub(super) fn with(object: &[u8], cast: Option<u32>, fetches: bool) -> Vec<u64> {
    let instruction = cast.map_or(NO_CAST, |id| u64::from(id) << 32 | CAST & u64::from(u32::MAX));
    let words = object.chunks(size_of::<u64>()).map(|chunk| {
        let mut bytes = [0; size_of::<u64>()];
        bytes.iter_mut().zip(chunk).for_each(|(byte, of)| *byte = *of);
        match u64::from_le_bytes(bytes) {
            CAST => u64::from_ne_bytes(instruction.to_le_bytes()),
            FETCH_ADD if !fetches => u64::from_ne_bytes(ADD.to_le_bytes()),
            _ => u64::from_ne_bytes(bytes),
        }
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn only_the_calls_are_replaced() {
        let object: Vec<u8> =
            [7, CAST, CAST + 1, u64::MAX].iter().flat_map(|word| word.to_le_bytes()).collect();
        let with_call = bytes(&with(&object, Some(0x1234), true));
        assert_eq!(with_call[8..16], [0x85, 0x20, 0, 0, 0x34, 0x12, 0, 0]);
        let without = bytes(&with(&object, None, true));
        assert_eq!(without[8..16], [0xbf, 0x10, 0, 0, 0, 0, 0, 0]);
        for changed in [with_call, without] {
            assert_eq!((&changed[..8], &changed[16..]), (&object[..8], &object[16..]));
        }
    }

    #[test]
    fn an_end_that_is_no_whole_word_is_kept() {
        let words = with(&[1, 2, 3, 4, 5, 6, 7, 8, 9], None, true);
        assert_eq!(bytes(&words)[..9], [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn only_an_old_kernel_is_not_asked_to_fetch() {
        let object: Vec<u8> = [FETCH_ADD, 7].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes(&with(&object, None, true)), object);
        assert_eq!(bytes(&with(&object, None, false))[..8], [0xdb, 0x21, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_programs_have_such_instructions() {
        let count = |instruction: u64| {
            let all = super::super::loader::OBJECT.chunks_exact(8);
            all.filter(|chunk| *chunk == instruction.to_le_bytes()).count()
        };
        assert!(count(CAST) > 10 && count(FETCH_ADD) > 10, "{} {}", count(CAST), count(FETCH_ADD));
    }
}
