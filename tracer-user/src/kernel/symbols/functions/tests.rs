use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Functions {
    Functions::read(text.as_bytes()).unwrap()
}

fn at(functions: &Functions, address: u64) -> Option<String> {
    functions.containing(address).map(|function| function.to_string())
}

/// Not in order, as modules and BPF programs come behind the kernel.
const SAMPLE: &str = "\
0000000000001000 A fixed_percpu_data
ffffffff81000000 T startup_64
ffffffff81000000 T _text
ffffffff810000f0 t __pfx_tcp_v4_rcv
ffffffff81000100 T tcp_v4_rcv
ffffffff81000200 t tcp_v4_rcv.cold
ffffffff81000300 W arch_weak
ffffffff81000400 T _etext
ffffffff82000000 D jiffies
ffffffff82000010 t rcu_state
ffffffff82000020 d local
ffffffff83000000 T _sinittext
ffffffff83000000 t start_kernel
ffffffff83000100 T _einittext
ffffffff83000200 t exit_something
ffffffffc0001000 t veth_xmit\t[veth]
ffffffffc0001800 d veth_ops\t[veth]
ffffffffc0000000 t br_forward\t[bridge]
";

#[test]
fn an_address_is_in_the_function_that_began_last() {
    let functions = read(SAMPLE);
    let found = |address| at(&functions, address);
    assert_eq!(found(0xffff_ffff_8100_0000).as_deref(), Some("startup_64"));
    assert_eq!(found(0xffff_ffff_8100_00ff).as_deref(), Some("startup_64"));
    assert_eq!(found(0xffff_ffff_8100_0100).as_deref(), Some("tcp_v4_rcv"));
    assert_eq!(found(0xffff_ffff_8100_01ff).as_deref(), Some("tcp_v4_rcv"));
    assert_eq!(found(0xffff_ffff_8100_02ff).as_deref(), Some("tcp_v4_rcv"), "its unlikely part");
    assert_eq!(found(0xffff_ffff_8100_03ff).as_deref(), Some("arch_weak"));
    assert_eq!(found(0xffff_ffff_8300_00ff).as_deref(), Some("start_kernel"));
}

#[test]
fn modules_are_named() {
    let functions = read(SAMPLE);
    let function = functions.containing(0xffff_ffff_c000_1234).unwrap();
    assert_eq!(function, Function { name: "veth_xmit", module: Some("veth") });
    assert_eq!(at(&functions, 0xffff_ffff_c000_0fff).as_deref(), Some("br_forward [bridge]"));
}

#[test]
fn what_is_in_no_function_has_no_name() {
    let functions = read(SAMPLE);
    for address in [
        0,
        0x1000,
        0xffff_ffff_80ff_ffff,
        // Behind the end of the code, in data, behind that of initialisation, in a module's data, behind everything.
        0xffff_ffff_8100_0400,
        0xffff_ffff_8200_0005,
        0xffff_ffff_8200_0015,
        0xffff_ffff_8300_0100,
        0xffff_ffff_8300_0200,
        0xffff_ffff_c000_1800,
        u64::MAX,
    ] {
        assert_eq!(at(&functions, address), None, "{address:#x}");
    }
    let alone = read("ffffffff81000000 T last\n");
    assert_eq!(at(&alone, 0xffff_ffff_8103_ffff).as_deref(), Some("last"));
    assert_eq!(at(&alone, 0xffff_ffff_8104_0000), None, "no function is so long");
}

#[test]
fn a_function_hides_a_mark_at_the_same_address() {
    let functions = read("ffffffff81000000 T __entry_text_end\nffffffff81000000 t first\n");
    assert_eq!(at(&functions, 0xffff_ffff_8100_0001).as_deref(), Some("first"));
}

#[test]
fn hidden_addresses_give_no_names() {
    let functions = read("0000000000000000 T tcp_v4_rcv\n0000000000000000 t veth_xmit\t[veth]\n");
    assert!(functions.is_empty());
    assert_eq!(at(&functions, 0), None);
    assert_eq!(at(&functions, 0xffff_ffff_8100_0000), None);
}

#[test]
fn lines_that_are_none_are_left_out() {
    let text = b"\n \nffffffff81000000\nffffffff81000000 T\nxyz T bad_digits\n+ffff T sign\n-1 T minus\n\
        ffffffffffffffff0 T too_long\nffffffff81000010 TT two\nffffffff81000020 T \xff\xfe\n T no_address\n\
        ffffffff81000030 T good";
    let functions = Functions::read(&text[..]).unwrap();
    assert_eq!(functions.rows.len(), 1);
    assert_eq!(at(&functions, 0xffff_ffff_8100_0031).as_deref(), Some("good"));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(text in proptest::collection::vec(any::<u8>(), 0..512), address: u64) {
        let _ = Functions::read(&*text).unwrap().containing(address);
    }

    #[test]
    fn any_lines_are_survived(
        lines in proptest::collection::vec(("[0-9a-f]{0,17}", "[tTwWdA ]", "[a-z_.]{0,9}", "(\t\\[[a-z]{0,2}\\])?"), 0..40),
        address: u64,
    ) {
        let mut text = String::new();
        for (start, kind, name, module) in &lines {
            writeln!(text, "{start} {kind} {name}{module}").unwrap();
        }
        let functions = read(&text);
        prop_assert!(functions.rows.is_sorted_by(|a, b| a.start < b.start));
        for row in &functions.rows {
            let _ = functions.containing(row.start.wrapping_add(address >> 40));
        }
    }
}

#[test]
fn the_running_kernel_finds_itself() {
    let Ok(functions) = Functions::running() else { return };
    let Ok(list) = std::fs::read(RUNNING_KERNEL) else { return };
    // Empty without the privilege to see addresses.
    let Some(start) = list
        .split(|byte| *byte == b'\n')
        .filter_map(Line::parse)
        .find(|line| line.name == b"ip_rcv")
        .and_then(|line| line.start())
    else {
        return;
    };
    assert_eq!(at(&functions, start).as_deref(), Some("ip_rcv"));
    assert_eq!(at(&functions, start + 16).as_deref(), Some("ip_rcv"));
    assert_ne!(at(&functions, start - 1).as_deref(), Some("ip_rcv"));
    assert_eq!(
        LazyFunctions::default().containing(start).map(|function| function.name.to_owned()).as_deref(),
        Some("ip_rcv")
    );
}
