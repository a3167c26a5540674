//! From what was found out to a verdict. When in doubt nothing is proven.

use tracer_common::probes::Point;

use super::{Case, Lookup, OnDevice, Traffic};
use crate::{
    kernel::network::{TYPE_LOCAL, Usability},
    model::{Coverage, Device, Trust},
};

/// What is known of an address in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// So many packets of a connection to it passed the loopback device, and that is all there were and all they passed.
    Proven(u64),
    /// Its route does not end on this host.
    NotLocal,
    /// Its route ends on this host, but packets to it were seen on these devices.
    Elsewhere(Vec<OnDevice>),
    /// It cannot be told, for these reasons.
    Unproven(Vec<Doubt>),
}

/// A reason not to believe what was seen, or that nothing could be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The kernel is finding out whether another host has the address.
    Tentative,
    /// Another host has the address.
    Duplicate,
    /// The connection did not come to its end, so some packets may never have been sent.
    NotConnected(String),
    /// So many packets were dropped, for this reason.
    Dropped(String, u64),
    /// Too few packets were seen.
    Missing {
        /// Packets seen.
        seen: u64,
        /// Segments that the connection's sockets have counted.
        sent: u64,
    },
    /// The sockets did not count what they have sent, so nobody knows whether all was seen.
    NotCounted,
    /// So many packets were not seen on any device.
    Nowhere(u64),
    /// These points are not attached, without which a packet can pass a device unseen.
    Blind(Vec<Point>),
    /// So many records did not arrive; `None` if nobody knows how many.
    Lost(Option<u64>),
    /// The kernel skipped programs so many times.
    Skipped(u64),
    /// So many records made no sense.
    Malformed(u64),
    /// A lookup for one of the packets was seen to answer that its route ends elsewhere.
    OtherRoute(Lookup),
    /// The loopback device has counted less than was seen on it.
    Counter {
        /// Packets that were seen on it.
        seen: u64,
        /// Packets that it says it has sent.
        counted: u64,
    },
}

/// Judges an address. `coverage` and `trust` are those of the trace.
pub fn judge(case: &Case, coverage: &Coverage, trust: &Trust) -> Verdict {
    if !case.is_local() {
        // An address that is not in use yet has no route to itself.
        return match case.holder.as_ref().map(|holder| holder.usability) {
            Some(Usability::Tentative) => Verdict::Unproven(vec![Doubt::Tentative]),
            Some(Usability::Duplicate) => Verdict::Unproven(vec![Doubt::Duplicate]),
            Some(Usability::Usable | Usability::Deprecated) | None => Verdict::NotLocal,
        };
    }
    let Some(traffic) = &case.traffic else {
        return Verdict::Unproven(vec![Doubt::NotConnected("nothing was sent".to_owned())]);
    };
    // Where nothing was sent nothing could be seen.
    if let Err(why) = &traffic.conversation
        && traffic.packets.total == 0
    {
        return Verdict::Unproven(vec![Doubt::NotConnected(why.clone())]);
    }
    // Whatever was lost, what was seen was there.
    let elsewhere: Vec<OnDevice> = traffic.packets.elsewhere().cloned().collect();
    if !elsewhere.is_empty() {
        return Verdict::Elsewhere(elsewhere);
    }
    let mut doubts = Vec::new();
    of_trace(coverage, trust, &mut doubts);
    of_traffic(traffic, &mut doubts);
    if doubts.is_empty() { Verdict::Proven(traffic.packets.total) } else { Verdict::Unproven(doubts) }
}

/// Whether a packet could have passed a device unseen.
fn of_trace(coverage: &Coverage, trust: &Trust, doubts: &mut Vec<Doubt>) {
    // Every packet is handed to its device at the first of these, or else at one of the two others, which is the
    // loopback device's or is for the rest.
    let entry = Point::DevQueueXmit;
    let drivers = [Point::DevHardStartXmit, Point::LoopbackXmit];
    if !coverage.sees(entry) && !drivers.iter().all(|point| coverage.sees(*point)) {
        let all = [entry, drivers[0], drivers[1]];
        doubts.push(Doubt::Blind(all.into_iter().filter(|point| !coverage.sees(*point)).collect()));
    }
    match &trust.losses {
        None => doubts.push(Doubt::Lost(None)),
        Some(losses) => {
            if losses.lost() > 0 {
                doubts.push(Doubt::Lost(Some(losses.lost())));
            }
            if let Some(missed @ 1..) = losses.missed {
                doubts.push(Doubt::Skipped(missed));
            }
        }
    }
    if trust.malformed > 0 {
        doubts.push(Doubt::Malformed(trust.malformed));
    }
}

/// Whether all packets were seen, and nothing contradicts what was seen.
fn of_traffic(traffic: &Traffic, doubts: &mut Vec<Doubt>) {
    let Traffic { conversation, packets, counters } = traffic;
    match conversation {
        Err(why) => {
            doubts.push(Doubt::NotConnected(why.clone()));
            let dropped = packets.dropped.iter();
            doubts.extend(dropped.map(|(reason, count)| Doubt::Dropped(reason.clone(), *count)));
        }
        Ok(conversation) => match conversation.segments {
            None => doubts.push(Doubt::NotCounted),
            // A connection has more packets where some are sent again after the client has gone.
            Some(segments) if packets.total < segments.into() || packets.total == 0 => {
                doubts.push(Doubt::Missing { seen: packets.total, sent: segments.into() });
            }
            Some(_) => {}
        },
    }
    if packets.nowhere > 0 {
        doubts.push(Doubt::Nowhere(packets.nowhere));
    }
    // 0: this kernel's tracepoint does not say.
    let other = packets.lookups.iter().find(|lookup| lookup.kind != TYPE_LOCAL && lookup.kind != 0);
    doubts.extend(other.map(|lookup| Doubt::OtherRoute(lookup.clone())));
    // More than ours may pass. Of ours only those may be missing that were dropped on the way to it.
    let (seen, dropped) = (packets.on_lo(), packets.dropped.values().sum::<u64>());
    let lo = counters.iter().find(|counter| counter.index == Device::LOOPBACK);
    let too_few = lo.filter(|lo| lo.sent.saturating_add(dropped) < seen);
    doubts.extend(too_few.map(|lo| Doubt::Counter { seen, counted: lo.sent }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Losses, State},
        proof::samples,
    };

    fn judged(case: &Case) -> Verdict {
        judge(case, &samples::coverage(), &samples::trust())
    }

    /// What is doubted when the sample is changed like this.
    fn doubts(change: impl FnOnce(&mut Traffic)) -> Vec<Doubt> {
        let mut case = samples::card();
        change(case.traffic.as_mut().unwrap());
        match judged(&case) {
            Verdict::Unproven(doubts) => doubts,
            other => panic!("{other:?}"),
        }
    }

    fn doubts_of_trace(coverage: &Coverage, trust: &Trust) -> Vec<Doubt> {
        match judge(&samples::card(), coverage, trust) {
            Verdict::Unproven(doubts) => doubts,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_packets_on_lo_prove_it() {
        assert_eq!(judged(&samples::card()), Verdict::Proven(11));
        assert_eq!(judged(&samples::loopback()), Verdict::Proven(11));
    }

    #[test]
    fn others_traffic_on_the_card_proves_nothing() {
        let mut case = samples::card();
        let traffic = case.traffic.as_mut().unwrap();
        for counter in &mut traffic.counters {
            counter.sent += 1000;
            counter.received += 1000;
        }
        assert_eq!(judged(&case), Verdict::Proven(11));
    }

    #[test]
    fn a_route_to_elsewhere_is_enough() {
        assert_eq!(judged(&samples::neighbour()), Verdict::NotLocal);
        assert_eq!(judged(&samples::behind_a_gateway()), Verdict::NotLocal);
        assert_eq!(judged(&samples::no_route()), Verdict::NotLocal);
    }

    #[test]
    fn an_address_that_may_not_be_used_is_not_judged() {
        let mut case = samples::tentative();
        assert_eq!(judged(&case), Verdict::Unproven(vec![Doubt::Tentative]));
        case.holder.as_mut().unwrap().usability = Usability::Duplicate;
        assert_eq!(judged(&case), Verdict::Unproven(vec![Doubt::Duplicate]));
    }

    #[test]
    fn what_was_seen_elsewhere_was_there_whatever_was_lost() {
        let trust = Trust { losses: Some(Losses { hops: 7, ..Losses::default() }), ..samples::trust() };
        let Verdict::Elsewhere(on) = judge(&samples::vrf(), &samples::coverage(), &trust) else { panic!() };
        assert_eq!(
            on.iter().map(|on| (on.device.to_string(), on.packets)).collect::<Vec<_>>(),
            [("vrf0".to_owned(), 11)]
        );
    }

    #[test]
    fn every_packet_that_the_sockets_counted_must_be_seen() {
        assert_eq!(doubts(|traffic| traffic.packets.total = 10), [Doubt::Missing { seen: 10, sent: 11 }]);
        assert_eq!(
            doubts(|traffic| traffic.conversation.as_mut().unwrap().segments = None),
            [Doubt::NotCounted]
        );
        let nothing = doubts(|traffic| traffic.packets = super::super::Packets::default());
        assert_eq!(nothing, [Doubt::Missing { seen: 0, sent: 11 }]);
    }

    #[test]
    fn a_packet_on_no_device_is_not_on_lo() {
        let nowhere = doubts(|traffic| {
            traffic.packets.total += 1;
            traffic.packets.nowhere = 1;
        });
        assert_eq!(nowhere, [Doubt::Nowhere(1)]);
    }

    #[test]
    fn a_connection_that_failed_says_why() {
        let failed = doubts(|traffic| {
            traffic.conversation = Err("connection timed out".to_owned());
            traffic.packets.dropped.insert("NETFILTER_DROP".to_owned(), 1);
            traffic.counters[0].sent = 10;
        });
        assert_eq!(
            failed,
            [
                Doubt::NotConnected("connection timed out".to_owned()),
                Doubt::Dropped("NETFILTER_DROP".to_owned(), 1)
            ]
        );
    }

    #[test]
    fn without_a_connection_and_a_trace_only_the_connection_is_doubted() {
        let mut case = samples::card();
        let traffic = case.traffic.as_mut().unwrap();
        traffic.conversation = Err("cannot listen on it".to_owned());
        traffic.packets = super::super::Packets::default();
        assert_eq!(
            judge(&case, &Coverage::default(), &samples::trust()),
            Verdict::Unproven(vec![Doubt::NotConnected("cannot listen on it".to_owned())])
        );
    }

    #[test]
    fn what_was_lost_may_have_been_elsewhere() {
        let with = |losses| Trust { losses, ..samples::trust() };
        let coverage = samples::coverage();
        let lost = with(Some(Losses { hops: 2, others: 1, missed: Some(4) }));
        assert_eq!(doubts_of_trace(&coverage, &lost), [Doubt::Lost(Some(3)), Doubt::Skipped(4)]);
        assert_eq!(doubts_of_trace(&coverage, &with(None)), [Doubt::Lost(None)]);
        let malformed = Trust { malformed: 1, ..samples::trust() };
        assert_eq!(doubts_of_trace(&coverage, &malformed), [Doubt::Malformed(1)]);
        // Kernels that do not count what they skip are believed: all packets were seen.
        let uncounted = with(Some(Losses { missed: None, ..Losses::default() }));
        assert_eq!(judge(&samples::card(), &coverage, &uncounted), Verdict::Proven(11));
    }

    #[test]
    fn one_of_the_places_where_a_device_gets_a_packet_must_be_seen() {
        let without = |dark: &[Point]| {
            let mut coverage = samples::coverage();
            for point in dark {
                coverage.set(*point, State::Refused(Vec::new()));
            }
            coverage
        };
        let seen = |dark: &[Point]| judge(&samples::card(), &without(dark), &samples::trust());
        assert_eq!(seen(&[Point::DevHardStartXmit, Point::LoopbackXmit]), Verdict::Proven(11));
        assert_eq!(seen(&[Point::DevQueueXmit]), Verdict::Proven(11));
        let dark = [Point::DevQueueXmit, Point::DevHardStartXmit];
        assert_eq!(doubts_of_trace(&without(&dark), &samples::trust()), [Doubt::Blind(dark.to_vec())]);
    }

    #[test]
    fn contradictions_are_doubts() {
        let eth0 = Lookup { table: 254, kind: 1, device: Some("eth0".to_owned()), times: 1 };
        assert_eq!(doubts(|traffic| traffic.packets.lookups.push(eth0.clone())), [Doubt::OtherRoute(eth0)]);
        assert_eq!(doubts(|traffic| traffic.counters[0].sent = 3), [Doubt::Counter { seen: 11, counted: 3 }]);
    }

    #[test]
    fn a_lookup_that_was_not_seen_is_no_doubt() {
        let mut case = samples::card();
        case.traffic.as_mut().unwrap().packets.lookups.clear();
        assert_eq!(judged(&case), Verdict::Proven(11));
    }
}
