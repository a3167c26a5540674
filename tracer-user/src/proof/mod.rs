//! Does traffic to an address of this host stay on the loopback device? What was found out of each address, and what that
//! proves. Plain data and judgement; finding it out is the work of `commands::prove`.

mod packets;
#[cfg(test)]
pub(crate) mod samples;
mod target;
mod verdict;

use std::net::IpAddr;

use tracer_common::probes::Point;

pub use self::{
    packets::{Ends, Lookup, OnDevice, Packets, packets_between},
    target::{Asked, Target, is_link_local},
    verdict::{Doubt, Verdict, judge},
};
use crate::{
    kernel::network::{TABLE_LOCAL, TYPE_LOCAL, Usability},
    model::{Coverage, Device, Trust},
    workload::Conversation,
};

/// All that was found out.
#[derive(Debug)]
pub struct Proof {
    /// One for each address.
    pub cases: Vec<Case>,
    /// Who is asked first for a route.
    pub order: Order,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// What the trace could see. Nothing, if nothing was sent.
    pub coverage: Coverage,
    /// How far the trace can be believed.
    pub trust: Trust,
}

/// What was found out of one address.
#[derive(Debug)]
pub struct Case {
    /// The address.
    pub address: IpAddr,
    /// The device that it lies on, for a link-local address.
    pub scope: Option<String>,
    /// The device that it is set on, if it is set on one.
    pub holder: Option<Holder>,
    /// Where the kernel says that packets to it go, or why nowhere.
    pub route: Result<Route, String>,
    /// What became of a connection to it. Only local addresses are connected to.
    pub traffic: Option<Traffic>,
}

/// A device that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub device: String,
    /// Its index in its namespace.
    pub index: u32,
    /// Whether it is switched on.
    pub is_up: bool,
    /// How far it can use the address.
    pub usability: Usability,
}

/// What the kernel answers when it is asked for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `RTN_*`.
    pub kind: u8,
    /// The number of the table in which it stands.
    pub table: u32,
    /// The device that packets are handed to.
    pub device: Option<String>,
    /// The next host on the way.
    pub gateway: Option<IpAddr>,
    /// The device that the entry in the table names: of a local address, the one that it is set on.
    pub entry_device: Option<String>,
}

/// A connection and what was seen of it.
#[derive(Debug)]
pub struct Traffic {
    /// How it went, or why it did not come to its end.
    pub conversation: Result<Conversation, String>,
    /// What its packets passed.
    pub packets: Packets,
    /// What each device of the namespace has counted meanwhile, whoever's packets that were.
    pub counters: Vec<Counter>,
}

/// What a device has counted between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The device's name.
    pub device: String,
    /// The device's index in its namespace.
    pub index: u32,
    /// Packets sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
}

/// Which table is asked first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first rule that holds for all packets is to look into `local`; its priority.
    LocalFirst(u32),
    /// This kernel has no rules: it always asks `local` first.
    Fixed,
    /// Something else comes before.
    Changed,
    /// The kernel does not say; why.
    Unknown(String),
}

/// All verdicts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Each address is proven local.
    Yes,
    /// At least one is not local, or its packets were seen elsewhere.
    No,
    /// None is known not to be local, but not all are proven.
    Unknown,
}

impl Proof {
    /// The verdict on each address.
    pub fn verdicts(&self) -> impl Iterator<Item = (&Case, Verdict)> {
        self.cases.iter().map(|case| (case, judge(case, &self.coverage, &self.trust)))
    }

    /// All verdicts together.
    pub fn answer(&self) -> Answer {
        let mut answer = Answer::Yes;
        for (_, verdict) in self.verdicts() {
            match verdict {
                Verdict::NotLocal | Verdict::Elsewhere(_) => return Answer::No,
                Verdict::Unproven(_) => answer = Answer::Unknown,
                Verdict::Proven(_) => {}
            }
        }
        answer
    }
}

impl Route {
    /// Whether packets to the address end on this host.
    pub fn is_local(&self) -> bool {
        self.kind == TYPE_LOCAL
    }

    /// Whether it stands in the table `local`, and the kernel's tracepoint calls that table otherwise.
    pub fn is_reported_as(&self, table: u32) -> bool {
        self.table == TABLE_LOCAL && table != TABLE_LOCAL
    }
}

impl Case {
    /// Whether the kernel says that packets to it end on this host.
    pub fn is_local(&self) -> bool {
        self.route.as_ref().is_ok_and(Route::is_local)
    }

    /// The probe point where routing tables are asked for it.
    pub fn lookup(&self) -> Point {
        if self.address.is_ipv4() { Point::FibLookup } else { Point::Fib6Lookup }
    }

    /// The device that has the address, unless that is the loopback device: the network card that is asked about.
    pub fn card(&self) -> Option<&Holder> {
        self.holder.as_ref().filter(|holder| holder.index != Device::LOOPBACK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cases: Vec<Case>) -> Answer {
        Proof { cases, ..samples::proof() }.answer()
    }

    #[test]
    fn one_no_is_a_no_and_all_must_be_proven() {
        assert_eq!(answer(vec![samples::card(), samples::loopback()]), Answer::Yes);
        assert_eq!(answer(vec![samples::card(), samples::tentative()]), Answer::Unknown);
        assert_eq!(answer(vec![samples::tentative(), samples::neighbour()]), Answer::No);
        assert_eq!(answer(vec![samples::vrf()]), Answer::No);
    }
}
