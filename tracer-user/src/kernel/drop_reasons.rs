//! Why the kernel dropped a packet: what the numbers that `skb:kfree_skb` carries are called.
//!
//! The numbers change with every kernel, so the names come from the kernel that traces and travel with a recording.
//! Kernels before 5.17 give no reason at all.
//!
//! Since 6.4 the upper 16 bits name a subsystem, 0 being the network core (`SKB_DROP_REASON_SUBSYS_SHIFT`); the lower
//! ones count within it. A subsystem's own names are known if it is built into the kernel. In a module, whose types are
//! described elsewhere, its reasons are counted: `SUBSYS_OPENVSWITCH+3`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::btf::Btf;

/// The reasons of the core.
const CORE: &str = "skb_drop_reason";
/// The subsystems.
const SUBSYSTEMS: &str = "skb_drop_reason_subsys";
/// The reasons of subsystems: net/mac80211/drop.h, net/openvswitch/drop.h, include/net/dropreason-qdisc.h (7.x).
const OF_SUBSYSTEMS: [&str; 3] = ["mac80211_drop_reason", "ovs_drop_reason", "qdisc_drop_reason"];

const PREFIX: &str = "SKB_DROP_REASON_";
const SUBSYSTEM_PREFIX: &str = "SKB_DROP_REASON_SUBSYS_";

/// `SKB_DROP_REASON_SUBSYS_SHIFT`.
const SUBSYSTEM_SHIFT: u32 = 16;
/// What numbers a reason within its subsystem.
const WITHIN: u32 = (1 << SUBSYSTEM_SHIFT) - 1;

/// The names of one kernel's reasons; as JSON an object from number to name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "BTreeMap<u32, String>", into = "BTreeMap<u32, String>")]
pub struct DropReasons {
    /// Number 0 of a subsystem other than the core is the subsystem itself: `SUBSYS_QDISC`.
    names: BTreeMap<u32, String>,
}

impl DropReasons {
    /// The reasons that a kernel's types tell; none if it knows none.
    pub fn of(btf: &Btf) -> Self {
        let core = reasons(btf, CORE).filter(|(number, _)| *number <= WITHIN).map(|(number, name)| {
            (number, name.strip_prefix(PREFIX).or(name.strip_prefix("SKB_")).unwrap_or(name))
        });
        let mut names: BTreeMap<u32, String> = BTreeMap::new();
        // Of two names with one number the first counts, as the kernel says it.
        let mut add = |number, name: String| {
            names.entry(number).or_insert(name);
        };
        core.for_each(|(number, name)| add(number, name.to_owned()));
        for (number, name) in reasons(btf, SUBSYSTEMS) {
            if let Some(name) = name.strip_prefix(SUBSYSTEM_PREFIX)
                && (1..=WITHIN).contains(&number)
            {
                add(number << SUBSYSTEM_SHIFT, format!("SUBSYS_{name}"));
            }
        }
        for own in OF_SUBSYSTEMS {
            // They repeat some of the core's numbers for their own use, and mark where theirs begin.
            let own = reasons(btf, own).filter(|(number, _)| *number > WITHIN && *number & WITHIN != 0);
            own.for_each(|(number, name)| add(number, name.to_owned()));
        }
        Self { names }
    }

    /// What a reason is called: `NO_SOCKET`, `OVS_DROP_METER`, `SUBSYS_OPENVSWITCH+3`; `None` if nothing is known of it.
    pub fn name(&self, reason: u32) -> Option<Cow<'_, str>> {
        if let Some(name) = self.names.get(&reason) {
            return Some(Cow::Borrowed(name));
        }
        let within = reason & WITHIN;
        // The core has no entry that stands for all of it, so that its unknown reasons stay unknown.
        let subsystem = if reason > WITHIN { self.names.get(&(reason - within)) } else { None }?;
        Some(Cow::Owned(format!("{subsystem}+{within}")))
    }

    /// Whether no reason is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// From a recording, which may be made to do harm: what is no identifier is no name.
impl From<BTreeMap<u32, String>> for DropReasons {
    fn from(mut names: BTreeMap<u32, String>) -> Self {
        names.retain(|_, name| is_identifier(name));
        Self { names }
    }
}

impl From<DropReasons> for BTreeMap<u32, String> {
    fn from(reasons: DropReasons) -> Self {
        reasons.names
    }
}

/// The numbers and names of an enumeration that can be the reason of a drop.
fn reasons<'a>(btf: &'a Btf, enumeration: &str) -> impl Iterator<Item = (u32, &'a str)> {
    // How many there are, which is no reason.
    let is_end = |name: &str| name.ends_with("_MAX") || name == "SKB_DROP_REASON_SUBSYS_NUM";
    btf.enum_values(enumeration)
        .unwrap_or_default()
        .into_iter()
        .filter(move |(_, name)| is_identifier(name) && !is_end(name))
        .filter_map(|(value, name)| Some((u32::try_from(value).ok()?, name)))
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
