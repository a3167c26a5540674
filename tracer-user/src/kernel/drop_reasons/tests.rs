use super::*;
use crate::kernel::btf::tests::builder::Builder;

/// As 6.18 has them, but fewer, with openvswitch built in and mac80211 in a module.
fn sample() -> DropReasons {
    let mut b = Builder::default();
    b.enumeration(
        "skb_drop_reason",
        false,
        &[
            ("SKB_NOT_DROPPED_YET", 0),
            ("SKB_CONSUMED", 1),
            ("SKB_DROP_REASON_NOT_SPECIFIED", 2),
            ("SKB_DROP_REASON_NO_SOCKET", 3),
            ("SKB_DROP_REASON_AGAIN", 3),
            ("SKB_DROP_REASON_MAX", 4),
            ("SKB_DROP_REASON_SUBSYS_MASK", 0xffff_0000),
        ],
    );
    b.enumeration(
        "skb_drop_reason_subsys",
        false,
        &[
            ("SKB_DROP_REASON_SUBSYS_CORE", 0),
            ("SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE", 1),
            ("SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 2),
            ("SKB_DROP_REASON_SUBSYS_NUM", 3),
        ],
    );
    b.enumeration(
        "ovs_drop_reason",
        false,
        &[
            ("OVS_CONTINUE", 1),
            ("__OVS_DROP_REASON", 0x2_0000),
            ("OVS_DROP_LAST_ACTION", 0x2_0001),
            ("OVS_DROP_MAX", 0x2_0002),
        ],
    );
    DropReasons::of(&Btf::from_bytes(b.build()).unwrap())
}

fn name(reasons: &DropReasons, reason: u32) -> Option<String> {
    reasons.name(reason).map(Cow::into_owned)
}

#[test]
fn reasons_of_the_core_lose_their_prefix() {
    let reasons = sample();
    let of = |reason| name(&reasons, reason);
    assert_eq!(of(0).as_deref(), Some("NOT_DROPPED_YET"));
    assert_eq!(of(1).as_deref(), Some("CONSUMED"));
    assert_eq!(of(2).as_deref(), Some("NOT_SPECIFIED"));
    assert_eq!(of(3).as_deref(), Some("NO_SOCKET"));
    assert_eq!(of(4), None, "the number of reasons is none of them");
}

#[test]
fn reasons_of_subsystems_are_named_or_counted() {
    let reasons = sample();
    let of = |reason| name(&reasons, reason);
    assert_eq!(of(0x2_0001).as_deref(), Some("OVS_DROP_LAST_ACTION"));
    assert_eq!(of(0x2_0002).as_deref(), Some("SUBSYS_OPENVSWITCH+2"));
    assert_eq!(of(0x2_0000).as_deref(), Some("SUBSYS_OPENVSWITCH"));
    assert_eq!(of(0x1_0003).as_deref(), Some("SUBSYS_MAC80211_UNUSABLE+3"));
    assert_eq!(of(0x3_0000), None, "the number of subsystems is none of them");
    assert_eq!(of(0xffff_0000), None, "the mask is no reason");
    assert_eq!(of(u32::MAX), None);
}

#[test]
fn a_kernel_without_reasons_has_no_names() {
    let reasons = DropReasons::of(&Btf::from_bytes(Builder::default().build()).unwrap());
    assert!(reasons.is_empty());
    assert_eq!(name(&reasons, 2), None);
}

#[test]
fn names_travel_as_an_object() {
    let reasons = sample();
    let json = serde_json::to_string(&reasons).unwrap();
    assert_eq!(
        json,
        r#"{"0":"NOT_DROPPED_YET","1":"CONSUMED","2":"NOT_SPECIFIED","3":"NO_SOCKET","65536":"SUBSYS_MAC80211_UNUSABLE","131072":"SUBSYS_OPENVSWITCH","131073":"OVS_DROP_LAST_ACTION"}"#
    );
    assert_eq!(serde_json::from_str::<DropReasons>(&json).unwrap(), reasons);
}

#[test]
fn names_that_steer_terminals_are_left_behind() {
    let read: DropReasons = serde_json::from_str(r#"{"1":"\u001b[2J","2":"","3":"GOOD"}"#).unwrap();
    assert_eq!([name(&read, 1), name(&read, 2), name(&read, 3)], [None, None, Some("GOOD".to_owned())]);
    for wrong in [r#"{"-1":"A"}"#, r#"{"4294967296":"A"}"#, r#"{"x":"A"}"#, "[]", r#"{"1":2}"#] {
        assert!(serde_json::from_str::<DropReasons>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_running_kernel_tells_its_reasons() {
    let Ok(btf) = Btf::running() else { return };
    let reasons = DropReasons::of(&btf);
    // Before 5.17 there are none; since then there were never fewer than these.
    if let Some(no_socket) =
        (0..WITHIN).find(|reason| name(&reasons, *reason).as_deref() == Some("NO_SOCKET"))
    {
        assert!(reasons.names.len() > 3);
        assert_eq!(name(&reasons, no_socket - 1).as_deref(), Some("NOT_SPECIFIED"));
    } else {
        assert!(reasons.is_empty());
    }
}
