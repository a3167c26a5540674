use super::*;

fn resolve(text: &str, wanted: &str) -> Option<Symbol> {
    Symbols::resolve(text.as_bytes(), &[wanted]).ok()?.get(wanted).cloned()
}

fn taken(text: &str, wanted: &str) -> Option<(String, bool)> {
    resolve(text, wanted).map(|symbol| (symbol.taken, symbol.exact))
}

#[test]
fn an_exact_name_is_taken_wherever_it_stands() {
    let text =
        "ffffffff81000010 t ip_rcv.isra.0\nffffffff81000020 T ip_rcv\nffffffff81000030 t ip_rcv.part.0\n";
    assert_eq!(taken(text, "ip_rcv"), Some(("ip_rcv".to_owned(), true)));
}

#[test]
fn variants_are_taken_in_the_order_of_what_they_lose() {
    let list = |suffixes: &[&str]| -> String {
        suffixes.iter().flat_map(|suffix| ["0000000000000000 t ip_rcv", suffix, "\n"]).collect()
    };
    let inexact = |name: &str| Some((name.to_owned(), false));
    assert_eq!(taken(&list(&[".part.0", ".constprop.0", ".isra.3"]), "ip_rcv"), inexact("ip_rcv.isra.3"));
    assert_eq!(taken(&list(&[".part.0", ".constprop.0"]), "ip_rcv"), inexact("ip_rcv.constprop.0"));
    assert_eq!(
        taken(&list(&[".part.0.isra.0", ".constprop.0.isra.0"]), "ip_rcv"),
        inexact("ip_rcv.constprop.0.isra.0")
    );
    assert_eq!(taken(&list(&[".part.12"]), "ip_rcv"), inexact("ip_rcv.part.12"));
    assert_eq!(taken(&list(&[".isra.0", ".llvm.123"]), "ip_rcv"), Some(("ip_rcv.llvm.123".to_owned(), true)));
}

#[test]
fn what_is_not_the_function_is_not_taken() {
    for line in [
        "0000000000000000 t ip_rcv.cold\n",
        "0000000000000000 t ip_rcv.isra.0.cold\n",
        "0000000000000000 t ip_rcv.cold.7\n",
        "0000000000000000 t ip_rcv.part\n",
        "0000000000000000 t ip_rcv.part.x\n",
        "0000000000000000 t ip_rcv.\n",
        "0000000000000000 t __ip_rcv\n",
        "0000000000000000 t ip_rcv_finish\n",
        "0000000000000000 D ip_rcv\n",
        "0000000000000000 tt ip_rcv\n",
        "0000000000000000\n",
        " \n",
        "\n",
        "",
    ] {
        assert_eq!(taken(line, "ip_rcv"), None, "{line:?}");
    }
}

#[test]
fn modules_are_named_and_come_second() {
    let module = "ffffffffc0000000 t veth_xmit\t[veth]\n";
    assert_eq!(resolve(module, "veth_xmit").and_then(|symbol| symbol.module), Some("veth".to_owned()));
    let both = format!("{module}ffffffff81000000 t veth_xmit\n");
    assert_eq!(resolve(&both, "veth_xmit").map(|symbol| symbol.module), Some(None));
}

#[test]
fn several_names_are_found_in_one_pass_and_a_last_line_may_lack_its_end() {
    let text = "0 T a\n0 W b.isra.1\n0 t a\n0 t c";
    let symbols = Symbols::resolve(text.as_bytes(), &["a", "b", "c", "d", "a"]).unwrap_or_default();
    let found = |name| symbols.get(name).map(|symbol| symbol.taken.as_str());
    assert_eq!(
        [found("a"), found("b"), found("c"), found("d")],
        [Some("a"), Some("b.isra.1"), Some("c"), None]
    );
}

#[test]
fn reading_ends_when_all_is_found() {
    let rest = b"0 t b\n";
    let text = [b"0 t a\n".as_slice(), rest].concat();
    let mut reader = text.as_slice();
    assert!(Symbols::resolve(&mut reader, &["a"]).is_ok());
    assert_eq!(reader, rest);
}

#[test]
fn a_missing_file_is_named() {
    let error =
        Symbols::from_file(Path::new("/nowhere/kallsyms"), &["a"]).map(|_| ()).map_err(|e| e.to_string());
    assert!(error.is_err_and(|text| text.contains("/nowhere/kallsyms")));
}

#[test]
fn the_running_kernel_has_its_functions() {
    let Ok(symbols) = Symbols::running(&["ip_rcv", "no_such_function"]) else { return };
    // A container may hide the list, which is then empty.
    if let Some(symbol) = symbols.get("ip_rcv") {
        assert_eq!((symbol.taken.as_str(), symbol.exact), ("ip_rcv", true));
    }
    assert_eq!(symbols.get("no_such_function"), None);
}
