use super::*;
use crate::{
    model::State,
    proof::{Order, Proof, samples},
};

fn proof(proof: &Proof, only_verdicts: bool, style: Style) -> String {
    let mut out = Vec::new();
    write_proof(proof, only_verdicts, style, &mut out).unwrap();
    text(out)
}

#[test]
fn what_was_found_out_and_the_verdict() {
    insta::assert_snapshot!(proof(&samples::proof(), false, style()));
}

#[test]
fn only_the_verdicts() {
    insta::assert_snapshot!(proof(&samples::proof(), true, style()));
}

#[test]
fn what_a_verdict_rests_on_where_hops_are_not_seen() {
    use tracer_common::probes::Point;
    let mut dark = Proof { cases: vec![samples::card(), samples::loopback()], ..samples::proof() };
    for point in [Point::FibLookup, Point::LoopbackXmit] {
        dark.coverage.set(point, State::Refused(Vec::new()));
    }
    for case in &mut dark.cases {
        case.traffic.as_mut().unwrap().packets.lookups.clear();
    }
    dark.order = Order::Fixed;
    insta::assert_snapshot!(proof(&dark, false, style()));
    dark.coverage.set(Point::DevQueueXmit, State::Refused(Vec::new()));
    dark.order = Order::Changed;
    insta::assert_snapshot!(proof(&dark, false, style()));
}

#[test]
fn where_nothing_was_sent_nothing_is_said_of_what_was_seen() {
    let mut unheard =
        Proof { cases: vec![samples::card()], coverage: Coverage::default(), ..samples::proof() };
    let traffic = unheard.cases[0].traffic.as_mut().unwrap();
    traffic.conversation = Err("cannot listen on it: Address already in use".to_owned());
    traffic.packets = crate::proof::Packets::default();
    insta::assert_snapshot!(proof(&unheard, false, style()));
}

#[test]
fn verdicts_stand_out() {
    let colored = proof(&samples::proof(), true, Style { color: true, ..style() });
    insta::assert_snapshot!(colored.replace('\x1b', "␛"));
}

#[test]
fn names_of_devices_steer_no_terminal() {
    let mut hostile = samples::proof();
    for case in &mut hostile.cases {
        case.scope = Some("a\x1b[2J".to_owned());
        if let Some(holder) = &mut case.holder {
            holder.device = "b\x1b[2J".to_owned();
        }
        if let Ok(route) = &mut case.route {
            (route.device, route.entry_device) = (Some("c\x07".to_owned()), Some("d\r".to_owned()));
        }
        for lookup in case.traffic.iter_mut().flat_map(|traffic| &mut traffic.packets.lookups) {
            lookup.device = Some("e\u{202e}".to_owned());
        }
    }
    hostile.order = Order::Unknown("\x1b".to_owned());
    let text = proof(&hostile, false, style());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
}
