//! Data made to harm: every answer is allowed but a panic, a hang or a full memory.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::kernel::drop_reasons::DropReasons;

/// Asks everything that can be asked.
fn ask(data: Vec<u8>) {
    let Ok(btf) = Btf::from_bytes(data) else { return };
    for path in ["head", "low", "ports.dport", "flag", "absent", "name.x"] {
        let _ = btf.field_offset("packet", path);
    }
    let _ = btf.offsets();
    let _ = btf.function_args("consume");
    let _ = btf.tracepoint_args("packet_seen");
    for name in ["colour", "size", "packet"] {
        let _ = btf.enum_values(name);
    }
    let _ = DropReasons::of(&btf);
}

fn valid() -> Vec<u8> {
    sample().data.to_vec()
}

proptest! {
    #[test]
    fn random_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..256)) {
        ask(data);
    }

    #[test]
    fn random_bytes_behind_a_header_are_survived(body in proptest::collection::vec(any::<u8>(), 24..512)) {
        let mut data = valid();
        data.truncate(8);
        data.extend(body);
        ask(data);
    }

    #[test]
    fn random_types_in_true_sections_are_survived(
        // Small numbers: mostly kinds, lengths and identifiers that exist.
        words in proptest::collection::vec((0u32..40, 0u32..24, 0u32..6, 0u32..40), 1..60)
    ) {
        let mut builder = Builder::default();
        let names = ["packet", "consume", "btf_trace_packet_seen", "head", "ports", "", "colour", "skb_drop_reason"];
        for (index, (_, kind, vlen, id)) in words.iter().enumerate() {
            let members: Vec<_> = words.iter().take(*vlen as usize).flat_map(|word| [0, word.0, word.2]).collect();
            builder.raw(names[index % names.len()], kind << 24 | vlen, *id, &members);
        }
        ask(builder.build());
    }

    #[test]
    fn changed_bytes_are_survived(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut data = valid();
        for (at, byte) in changes {
            let at = at.index(data.len());
            data[at] = byte;
        }
        ask(data);
    }

    #[test]
    fn cut_off_data_is_survived(length in any::<prop::sample::Index>()) {
        let mut data = valid();
        data.truncate(length.index(data.len()));
        ask(data);
    }
}

#[test]
fn what_is_no_btf_is_named() {
    assert!(refusal(Btf::from_bytes(Vec::new())).starts_with("no BTF: "));
    assert!(refusal(Btf::from_bytes(b"\x7fELF\x02\x01\x01".to_vec())).starts_with("no BTF: "));
    let mut data = valid();
    data.swap(0, 1);
    assert!(refusal(Btf::from_bytes(data)).starts_with("BTF of the other byte order"));
    let mut data = valid();
    data[2] = 2;
    assert!(refusal(Btf::from_bytes(data)).starts_with("BTF version 2 is not known"));
}

#[test]
fn files_are_read_and_errors_name_them() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&valid()).unwrap();
    assert_eq!(Btf::from_file(file.path()).unwrap().field_offset("packet", "after").unwrap(), 44);
    let error = refusal(Btf::from_file(Path::new("/nowhere/btf")));
    assert!(error.starts_with("cannot read kernel types from /nowhere/btf: "), "{error}");
}

#[test]
fn a_struct_within_itself_ends_the_search() {
    let mut b = Builder::default();
    let members: Vec<_> = (0..1000).map(|_| Member("", 1, 0)).collect();
    b.structure("loop", 8, false, &members);
    assert_eq!(
        refusal(Btf::from_bytes(b.build()).unwrap().field_offset("loop", "x")),
        "broken BTF: structs are nested too deeply"
    );

    // A tree of unions, 1000 wide and shallow enough: only the work bounds it.
    let mut b = Builder::default();
    for level in 1..6 {
        let members: Vec<_> = (0..1000).map(|_| Member("", level + 1, 0)).collect();
        b.structure("wide", 8, false, &members);
    }
    let int = b.int("int");
    assert_eq!(int, 6);
    assert_eq!(
        refusal(Btf::from_bytes(b.build()).unwrap().field_offset("wide", "x")),
        "broken BTF: a struct has members without end"
    );
}

#[test]
fn a_chain_of_modifiers_that_bites_its_tail_ends() {
    let mut b = Builder::default();
    b.modifier(Kind::CONST, "", 2);
    b.modifier(Kind::VOLATILE, "", 1);
    b.structure("s", 8, false, &[Member("", 1, 0)]);
    let prototype = b.prototype(&[1]);
    b.function("f", prototype);
    let btf = Btf::from_bytes(b.build()).unwrap();
    assert_eq!(refusal(btf.field_offset("s", "x")), "broken BTF: a chain of type modifiers has no end");
    assert_eq!(btf.function_args("f"), None);
}

#[test]
fn offsets_add_up_without_overflow() {
    let mut b = Builder::default();
    let int = b.int("int");
    let inner = b.structure("inner", 8, false, &[Member("x", int, u32::MAX - 7)]);
    b.structure("outer", 8, false, &[Member("inner", inner, u32::MAX - 7)]);
    assert_eq!(
        Btf::from_bytes(b.build()).unwrap().field_offset("outer", "inner.x").unwrap(),
        (u32::MAX - 7) / 4
    );
}

#[test]
fn an_enumeration_without_end_has_no_values() {
    let mut b = Builder::default();
    let values: Vec<_> = (0..=1 << 16).map(|value| ("A", value)).collect();
    b.enumeration("long", false, &values);
    b.enumeration("short", false, &values[1..]);
    let btf = Btf::from_bytes(b.build()).unwrap();
    assert_eq!(btf.enum_values("long"), None);
    assert_eq!(btf.enum_values("short").map(|values| values.len()), Some(1 << 16));
}
