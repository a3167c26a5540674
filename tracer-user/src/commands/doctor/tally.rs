//! Counts the records of our own traffic: others' would make a point look alive that our traffic does not reach.

use std::collections::{BTreeMap, HashSet};

use tracer_common::{
    event::{FlowRecord, HopRecord, NO_FLOW},
    probes::Point,
};

use crate::decode::{Record, decode};

/// Records of our own traffic, by point.
pub(super) struct Tally {
    ports: HashSet<u16>,
    /// Numbers of the flows that have one of the ports.
    flows: HashSet<u64>,
    /// The kernel's identifiers of this process, which differ from our own in a namespace of processes: learnt from the
    /// records of system calls on our flows.
    processes: HashSet<u32>,
    /// And of its threads.
    threads: HashSet<u32>,
    hops: BTreeMap<Point, u64>,
}

impl Tally {
    /// `process` is the process that sends, whose first thread has the same number.
    pub(super) fn new(ports: &[u16], process: u32) -> Self {
        Self {
            ports: ports.iter().copied().collect(),
            flows: HashSet::new(),
            processes: HashSet::from([process]),
            threads: HashSet::from([process]),
            hops: BTreeMap::new(),
        }
    }

    /// How many records each point has written; a point without any is not there.
    pub(super) fn hops(&self) -> &BTreeMap<Point, u64> {
        &self.hops
    }

    pub(super) fn into_hops(self) -> BTreeMap<Point, u64> {
        self.hops
    }

    /// Takes the bytes of one record.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        match decode(bytes) {
            Ok(Record::Flow(flow)) => self.flow(&flow),
            Ok(Record::Hop(hop)) => self.hop(&hop),
            Ok(Record::Route(route)) => self.fired(route.point, self.flows.contains(&route.flow)),
            // A wake-up runs in the sender's thread.
            Ok(Record::Unix(unix)) => {
                let is_ours = self.processes.contains(&unix.tgid) || self.threads.contains(&unix.tid);
                if is_ours && unix.tgid != 0 {
                    self.threads.insert(unix.tid);
                }
                self.fired(unix.point, is_ours);
            }
            _ => {}
        }
    }

    fn flow(&mut self, flow: &FlowRecord) {
        if self.ports.contains(&flow.sport) || self.ports.contains(&flow.dport) {
            self.flows.insert(flow.id);
        }
    }

    fn hop(&mut self, hop: &HopRecord) {
        if hop.flow != NO_FLOW && self.flows.contains(&hop.flow) && hop.tgid != 0 {
            self.processes.insert(hop.tgid);
            self.threads.insert(hop.tid);
        }
        self.fired(hop.point, self.is_ours(hop));
    }

    fn fired(&mut self, point: u8, is_ours: bool) {
        if let Some(point) = Point::from_wire(point).filter(|_| is_ours) {
            *self.hops.entry(point).or_insert(0) += 1;
        }
    }

    /// The flow says it best, then the process, then the thread (a UNIX socket's wake-up runs in the sender's). A record
    /// that names no packet and no socket (a poll of the backlog) names nobody that it could belong to.
    fn is_ours(&self, hop: &HopRecord) -> bool {
        if hop.flow != NO_FLOW {
            self.flows.contains(&hop.flow)
        } else if hop.tgid != 0 {
            self.processes.contains(&hop.tgid)
        } else {
            hop.skb == 0 && hop.sk == 0 || self.threads.contains(&hop.tid) || is_drop(hop)
        }
    }
}

/// A dropped packet whose flow cannot be told. Its record is written in a softirq, in the name of whoever was interrupted,
/// so it may as well be ours.
fn is_drop(hop: &HopRecord) -> bool {
    hop.point == Point::KfreeSkb as u8
}

#[cfg(test)]
mod tests {
    use tracer_common::event::{KIND_FLOW, KIND_HOP};

    use super::*;

    const US: u32 = 700;

    fn hop(point: Point) -> HopRecord {
        HopRecord {
            kind: KIND_HOP,
            point: point as u8,
            backend: 0,
            tcp_flags: 0,
            cpu: 0,
            marks: 0,
            time_ns: 1,
            skb: 0,
            sk: 0,
            flow: NO_FLOW,
            tgid: 0,
            tid: 1,
            seq: 0,
            ack: 0,
            len: 0,
            aux: 0,
        }
    }

    fn flow(id: u64, sport: u16, dport: u16) -> FlowRecord {
        FlowRecord {
            kind: KIND_FLOW,
            protocol: 6,
            family: 2,
            pad: 0,
            netns: 0,
            id,
            saddr: [0; 16],
            daddr: [0; 16],
            sport,
            dport,
            pad2: 0,
        }
    }

    fn count(tally: &Tally, point: Point) -> u64 {
        tally.hops().get(&point).copied().unwrap_or(0)
    }

    #[test]
    fn the_flow_says_whose_a_packet_is() {
        let mut tally = Tally::new(&[8888], US);
        tally.flow(&flow(1, 50_000, 8888));
        tally.flow(&flow(2, 8888, 50_000));
        tally.flow(&flow(3, 50_000, 9999));
        for flow in 1..=3 {
            tally.hop(&HopRecord { flow, skb: 1, ..hop(Point::DevQueueXmit) });
        }
        assert_eq!(count(&tally, Point::DevQueueXmit), 2);
        assert_eq!(count(&tally, Point::NetifReceiveSkb), 0);
    }

    #[test]
    fn without_a_flow_the_process_or_the_thread_says_it() {
        let mut tally = Tally::new(&[8888], US);
        for tgid in [US, 1] {
            tally.hop(&HopRecord { tgid, sk: 1, ..hop(Point::UnixStreamSendmsg) });
        }
        for tid in [US, 1] {
            tally.hop(&HopRecord { tid, sk: 1, ..hop(Point::SockDefReadable) });
        }
        assert_eq!(count(&tally, Point::UnixStreamSendmsg), 1);
        assert_eq!(count(&tally, Point::SockDefReadable), 1);
    }

    #[test]
    fn in_a_container_the_numbers_of_the_kernel_are_learnt() {
        let mut tally = Tally::new(&[8888], 7);
        tally.flow(&flow(1, 50_000, 8888));
        tally.hop(&HopRecord { tgid: US, sk: 1, ..hop(Point::UnixStreamSendmsg) });
        tally.hop(&HopRecord { flow: 1, tgid: US, tid: US + 1, sk: 1, ..hop(Point::TcpSendmsg) });
        tally.hop(&HopRecord { tgid: US, sk: 1, ..hop(Point::UnixStreamSendmsg) });
        tally.hop(&HopRecord { tid: US + 1, sk: 1, ..hop(Point::SockDefReadable) });
        assert_eq!(count(&tally, Point::UnixStreamSendmsg), 1);
        assert_eq!(count(&tally, Point::SockDefReadable), 1);
    }

    #[test]
    fn what_names_nobody_counts_and_nonsense_does_not() {
        let mut tally = Tally::new(&[], US);
        tally.hop(&hop(Point::ProcessBacklog));
        tally.hop(&HopRecord { point: 255, ..hop(Point::ProcessBacklog) });
        tally.take(&[]);
        tally.take(&[KIND_HOP; 3]);
        assert_eq!(tally.into_hops(), BTreeMap::from([(Point::ProcessBacklog, 1)]));
    }
}
