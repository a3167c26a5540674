pub(in crate::kernel) mod builder;
mod hostile;
mod running;

use builder::{Builder, Member};
use tracer_common::probes::Arg;

use super::*;

/// A miniature of the kernel's types, with what makes member lookup hard.
fn sample() -> Btf {
    let mut b = Builder::default();
    b.forward("packet");
    let int = b.int("unsigned int");
    let packet = b.next_id() + 5;
    let pointer = b.pointer(packet);
    let array = b.array(int);
    let innermost = b.structure("", 4, false, &[Member("low", int, 0), Member("high", int, 16)]);
    let union = b.union("", 8, &[Member("whole", pointer, 0), Member("", innermost, 32)]);
    let ports = b.structure("ports", 8, false, &[Member("sport", int, 0), Member("dport", int, 32)]);
    assert_eq!(packet, b.next_id());
    let constant = b.modifier(Kind::CONST, "", packet + 2);
    // One bit wide: BTF_MEMBER_BITFIELD_SIZE.
    let bit_field = 1 << 24;
    let members = [
        Member("head", pointer, 0),
        Member("", union, 64),
        Member("ports", constant, 128),
        Member("name", array, 192),
        Member("flag", int, bit_field | 0x140),
        Member("second_flag", int, bit_field | 0x141),
        Member("after", int, 352),
    ];
    // The order of definitions is free: `packet` is the modifier's successor.
    let packet = b.structure("packet", 48, true, &members);
    let typedef = b.modifier(Kind::TYPEDEF, "ports_t", ports);
    assert_eq!((constant + 1, constant + 2), (packet, typedef));
    b.structure("empty", 0, false, &[]);
    functions(&mut b, packet, int);
    enumerations(&mut b);
    Btf::from_bytes(b.build()).unwrap()
}

fn functions(b: &mut Builder, packet: u32, int: u32) {
    let to_packet = b.pointer(packet);
    let constant = b.modifier(Kind::CONST, "", packet);
    let to_constant = b.pointer(constant);
    let to_void = b.pointer(0);
    let missing = b.forward("elsewhere");
    let to_missing = b.pointer(missing);
    let args = [to_packet, to_constant, to_void, to_missing, int, packet];
    let prototype = b.prototype(&args);
    b.function("consume", prototype);
    let context_first = b.prototype(&[to_void, int, to_packet]);
    let pointer = b.pointer(context_first);
    b.modifier(Kind::TYPEDEF, "btf_trace_packet_seen", pointer);
    let no_context = b.prototype(&[int]);
    let pointer = b.pointer(no_context);
    b.modifier(Kind::TYPEDEF, "btf_trace_odd", pointer);
    b.modifier(Kind::TYPEDEF, "btf_trace_no_pointer", int);
}

fn enumerations(b: &mut Builder) {
    b.enumeration("colour", false, &[]);
    b.enumeration("colour", false, &[("RED", 7), ("GREEN", 7), ("LAST", u32::MAX)]);
    b.enumeration("balance", true, &[("DEBT", u32::MAX), ("CREDIT", 1)]);
    b.wide_enumeration("size", false, &[("SMALL", 1 << 32 | 5), ("HUGE", u64::MAX)]);
    b.wide_enumeration("offset", true, &[("BACK", u64::MAX)]);
    b.enumeration("nameless_value", false, &[("A", 1), ("", 2)]);
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BtfError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_skeleton_keeps_identifiers_and_nothing_else() {
    let whole = sample();
    let skeleton = Btf::from_bytes(whole.skeleton(&["consume", "gone"], &["packet_seen"])).unwrap();
    assert_eq!(skeleton.types.len(), whole.types.len());
    for (name, kind) in [("consume", Kind::FUNC), ("btf_trace_packet_seen", Kind::TYPEDEF)] {
        let id = |btf: &Btf| btf.find_id(name, |found| found == kind).map(|(id, _)| id);
        assert!(id(&whole).is_some());
        assert_eq!(id(&skeleton), id(&whole), "{name}");
    }
    assert_eq!(skeleton.names.len(), 2);
}

#[test]
fn members_are_found_through_anonymous_structs_and_modifiers() {
    let btf = sample();
    let offset = |path| btf.field_offset("packet", path).unwrap();
    assert_eq!(offset("head"), 0);
    assert_eq!(offset("whole"), 8);
    assert_eq!(offset("low"), 12);
    assert_eq!(offset("high"), 14);
    assert_eq!(offset("ports"), 16);
    assert_eq!(offset("ports.dport"), 20);
    assert_eq!(offset("name"), 24);
    assert_eq!(offset("after"), 44);
}

#[test]
fn what_has_no_offset_is_named() {
    let btf = sample();
    let refused = |path| refusal(btf.field_offset("packet", path));
    assert_eq!(refused("x"), "struct packet has no member x in this kernel");
    assert_eq!(refused("ports.x"), "struct packet has no member ports.x in this kernel");
    assert_eq!(refused(""), "struct packet has no member  in this kernel");
    assert!(refused("head.next").starts_with("member head of struct packet is a pointer in this kernel"));
    assert!(refused("name.first").starts_with("member name of struct packet is an array in this kernel"));
    assert!(
        refused("ports.dport.x")
            .starts_with("member ports.dport of struct packet is no struct in this kernel")
    );
    assert!(refused("flag").starts_with("member flag of struct packet is a bit field"));
    assert!(refused("second_flag").starts_with("member second_flag of struct packet is a bit field"));
    assert_eq!(refusal(btf.field_offset("elsewhere", "x")), "this kernel has no struct elsewhere");
    assert_eq!(refusal(btf.field_offset("empty", "x")), "this kernel has no struct empty");
    assert_eq!(refusal(btf.field_offset("", "x")), "this kernel has no struct ");
}

#[test]
fn missing_fields_are_reported_together() {
    let BtfError::Fields(missing) = sample().offsets().unwrap_err() else { panic!("another error") };
    assert_eq!(missing.len(), tracer_common::fields::FIELDS.len());
    assert!(BtfError::Fields(missing).to_string().starts_with("this kernel has no struct sk_buff; "));
}

#[test]
fn function_arguments_are_classified() {
    let btf = sample();
    let packet = ArgType::Pointer(Some("packet"));
    let elsewhere = ArgType::Pointer(Some("elsewhere"));
    let expected = [packet, packet, ArgType::Pointer(None), elsewhere, ArgType::Integer, ArgType::Other];
    assert_eq!(btf.function_args("consume").unwrap(), expected);
    assert_eq!(btf.function_args("packet"), None);
    assert_eq!(btf.function_args("btf_trace_packet_seen"), None);
}

#[test]
fn the_context_of_a_tracepoint_is_no_argument() {
    let btf = sample();
    let expected = [ArgType::Integer, ArgType::Pointer(Some("packet"))];
    assert_eq!(btf.tracepoint_args("packet_seen").unwrap(), expected);
    assert_eq!(btf.tracepoint_args("odd"), None);
    assert_eq!(btf.tracepoint_args("no_pointer"), None);
    assert_eq!(btf.tracepoint_args("absent"), None);
}

#[test]
fn enumerations_of_every_width_and_sign_are_read() {
    let btf = sample();
    let values = |name| btf.enum_values(name);
    assert_eq!(values("colour").unwrap(), [(7, "RED"), (7, "GREEN"), (u32::MAX.into(), "LAST")]);
    assert_eq!(values("balance").unwrap(), [(-1, "DEBT"), (1, "CREDIT")]);
    assert_eq!(values("size").unwrap(), [(0x1_0000_0005, "SMALL"), (u64::MAX.into(), "HUGE")]);
    assert_eq!(values("offset").unwrap(), [(-1, "BACK")]);
}

#[test]
fn what_is_no_enumeration_has_no_values() {
    let btf = sample();
    for name in ["absent", "", "packet", "consume", "nameless_value"] {
        assert_eq!(btf.enum_values(name), None, "{name}");
    }
}

#[test]
fn arguments_are_checked_against_what_a_reader_takes() {
    let skb = ArgType::Pointer(Some("sk_buff"));
    let wanted = [Arg { name: "cpu", index: 0 }, Arg { name: "skb", index: 1 }];
    assert_eq!(check_args("f", &wanted, &[ArgType::Integer, skb]), Ok(()));
    assert_eq!(
        check_args("f", &wanted, &[ArgType::Integer, ArgType::Pointer(Some("sock"))]).unwrap_err(),
        "argument 1 of f is a pointer to struct sock, expected a pointer to struct sk_buff"
    );
    assert_eq!(
        check_args("f", &wanted, &[skb]).unwrap_err(),
        "f takes 1 arguments: there is no argument 1 (skb)"
    );
}

#[test]
fn kinds_that_the_data_describes_are_skipped() {
    let mut b = Builder::default();
    let int = b.int("int");
    // Kind 20, two elements: 4 bytes once and 8 each.
    b.raw("", 20 << 24 | 2, 0, &[0; 5]);
    b.structure("last", 8, false, &[Member("a", int, 0), Member("b", int, 32)]);
    assert_eq!(
        refusal(Btf::from_bytes(b.build())),
        "type 2 in BTF is of kind 20, which is not known and whose length the data does not tell"
    );
    let mut layout = vec![0; 20 * 4];
    layout.extend([4, 8, 0, 0]);
    let btf = Btf::from_bytes(b.build_with_layout(&layout)).unwrap();
    assert_eq!(btf.field_offset("last", "b").unwrap(), 4);
}
