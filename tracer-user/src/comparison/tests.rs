use proptest::prelude::*;
use tracer_common::probes::Point;

use super::{samples as comparisons, *};
use crate::{analyze::samples, model::Path};

fn stamp(sent_ns: u64, received_ns: u64) -> Stamp {
    Stamp { sent_ns, received_ns }
}

/// A message of 100 bytes with 200 ns before its first hop and 300 ns after its last.
fn alone(path: &Path) -> Messages {
    let end = path.start_ns() + path.total_ns();
    Messages::of_stamps(&[stamp(path.start_ns() - 200, end + 300)], path.len, [path])
}

#[test]
fn the_stages_of_a_message_add_up_to_its_time() {
    for path in [samples::tcp_woken(), samples::unix(), samples::udp()] {
        let messages = alone(&path);
        assert_eq!(messages.followed(), 1, "{path:?}");
        let sum: f64 = messages.means().into_iter().flatten().sum();
        assert!((sum - (path.total_ns() + 500) as f64).abs() < 0.1, "{sum}");
        assert_eq!(messages.one_way().max(), Some(path.total_ns() + 500));
    }
}

#[test]
fn tcp_passes_every_stage_and_unix_few() {
    let passed = |path: &Path| {
        let messages = alone(path);
        Stage::ALL.into_iter().filter(|stage| messages.p50(*stage).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(passed(&samples::tcp_woken()), Stage::ALL);
    assert_eq!(passed(&samples::unix()), [Stage::Entry, Stage::Send, Stage::Wake, Stage::Read]);
}

#[test]
fn steps_belong_to_the_stage_that_their_first_hop_begins() {
    let messages = alone(&samples::tcp_woken());
    let times = [
        (Stage::Entry, 200),
        (Stage::Send, 3_120),
        (Stage::Route, 520),
        (Stage::Device, 540),
        (Stage::Backlog, 880),
        (Stage::Receive, 1_240),
        (Stage::Wake, 18_600),
        (Stage::Read, 3_700),
    ];
    for (stage, ns) in times {
        assert_eq!(messages.p50(stage), Some(ns), "{stage:?}");
    }
}

#[test]
fn a_message_in_segments_has_the_stages_of_the_first_and_is_there_with_the_last() {
    let first = samples::tcp_woken();
    let mut second = first.clone();
    second.len = 60;
    for hop in second.hops.iter_mut().skip(1) {
        hop.time_ns += 5_000;
    }
    let (start, end) = (first.start_ns(), second.start_ns() + second.total_ns());
    let bytes = first.len + second.len;
    for paths in [[&first, &second], [&second, &first]] {
        let messages = Messages::of_stamps(&[stamp(start, end)], bytes, paths);
        assert!(messages.in_parts());
        assert_eq!(messages.one_way().max(), Some(end - start));
        let whole = alone(&first);
        for stage in [Stage::Send, Stage::Route, Stage::Device, Stage::Backlog, Stage::Receive, Stage::Wake] {
            assert_eq!(messages.p50(stage), whole.p50(stage), "{stage:?}");
        }
        // What is left of the second one.
        assert_eq!(messages.p50(Stage::Read), Some(3_400 + 5_000));
        let in_one_call = Messages::of_calls(paths);
        assert_eq!((in_one_call.sent(), in_one_call.p50(Stage::Read)), (1, None));
        assert_eq!(in_one_call.one_way().max(), Some(24_900));
    }
}

#[test]
fn what_was_not_wholly_seen_is_sent_but_not_followed() {
    let whole = samples::tcp_woken();
    let (start, end) = (whole.start_ns(), whole.start_ns() + whole.total_ns());
    let incomplete = Path { incomplete: samples::incomplete().incomplete, ..whole.clone() };
    let again = Path { retransmitted: true, ..whole.clone() };
    let cases = [
        ("a byte is missing", stamp(start, end), whole.len + 1, &whole),
        ("it ends after it was received", stamp(start, end - 1), whole.len, &whole),
        ("it begins before it was sent", stamp(start + 1, end), whole.len, &whole),
        ("its end was not seen", stamp(start, end), whole.len, &incomplete),
        ("it was sent again", stamp(start, end), whole.len, &again),
    ];
    for (why, stamp, bytes, path) in cases {
        let messages = Messages::of_stamps(&[stamp], bytes, [path]);
        assert_eq!((messages.sent(), messages.followed()), (1, 0), "{why}");
        assert_eq!(messages.way(), None);
    }
    let calls = Messages::of_calls([&incomplete]);
    assert_eq!((calls.sent(), calls.followed()), (1, 0));
}

#[test]
fn acknowledgements_are_no_messages() {
    let path = samples::tcp_woken();
    let syn = samples::syn();
    let stamp = stamp(path.start_ns(), path.start_ns() + path.total_ns());
    assert_eq!(Messages::of_stamps(&[stamp], path.len, [&syn, &path]).followed(), 1);
    assert_eq!(Messages::of_calls([&syn, &path]).sent(), 1);
}

#[test]
fn the_way_is_that_of_most() {
    // The fourth was read by somebody who was awake.
    let paths: Vec<Path> = (0..4)
        .map(|at| {
            let mut path = samples::tcp_woken();
            path.hops.iter_mut().for_each(|hop| hop.time_ns += at * 1_000_000);
            path.hops.retain(|hop| at < 3 || !matches!(hop.point, Point::SchedWaking | Point::SchedSwitch));
            path
        })
        .collect();
    let way = Messages::of_calls(&paths).way().unwrap();
    assert!((way.share - 0.75).abs() < 1e-9, "{way:?}");
    assert_eq!(way.steps.len(), 12);
    assert_eq!(way.steps[..2], [(Point::TcpSendmsg, 0), (Point::IpQueueXmit, 3_120)]);
}

#[test]
fn tcp_explains_its_gap_with_what_unix_has_not() {
    let gap = comparisons::at_100_bytes().gap(Link::Unix).unwrap();
    let device = gap.rows.iter().find(|row| row.stage == Stage::Device).unwrap();
    assert!(device.first.is_some() && device.second.is_none(), "{device:?}");
    let shares: f64 = gap.rows.iter().filter_map(|row| row.share).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{gap:?}");
}

#[test]
fn without_a_gap_nothing_has_a_share_of_it() {
    let path = samples::unix();
    let gap = Gap::between(&alone(&path), &alone(&path)).unwrap();
    assert!(gap.rows.iter().all(|row| row.share.is_none()), "{gap:?}");
    assert_eq!(Gap::between(&alone(&path), &Messages::default()), None);
}

proptest! {
    /// Whatever paths and stamps come: shares are all of the gap, and no message is followed twice or invented.
    #[test]
    fn shares_are_all_of_any_gap(
        paths in prop::collection::vec(crate::analyze::arbitrary::path(), 0..20),
        moments in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
        bytes in 0..200u32,
    ) {
        let stamps: Vec<_> = moments.iter().map(|(sent, received)| stamp(*sent, *received)).collect();
        let first = Messages::of_stamps(&stamps, bytes, &paths);
        prop_assert!(first.followed() <= first.sent() && first.sent() == stamps.len() as u64);
        let second = Messages::of_calls(&paths);
        prop_assert!(second.followed() <= second.sent() && second.sent() <= paths.len() as u64);
        let _ = second.way();
        if let Some(gap) = Gap::between(&second, &alone(&samples::unix())) {
            let shares: Vec<_> = gap.rows.iter().filter_map(|row| row.share).collect();
            prop_assert!(shares.is_empty() || (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{:?}", gap);
        }
    }
}
