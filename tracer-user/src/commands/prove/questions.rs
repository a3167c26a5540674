//! What the kernel says of an address when it is asked, as `ip route get` and `ip rule` ask it.

use std::io;

use rtnetlink::IpVersion;

use super::targets::Chosen;
use crate::{
    kernel::network::{Interface, Network, TABLE_LOCAL},
    proof::{Case, Order, Route},
};

/// Who is asked.
pub(super) struct Questions<'a> {
    pub(super) network: &'a Network,
    pub(super) interfaces: &'a [Interface],
}

impl Questions<'_> {
    /// What is known of an address before anything is sent.
    pub(super) async fn case(&self, target: &Chosen) -> io::Result<Case> {
        let answer =
            self.network.route_to(target.address, target.scope.as_ref().map(|(index, _)| *index)).await;
        let route = match answer {
            Ok(answer) => {
                let entry = self.network.local_entry(target.address).await?;
                let mut route = Route {
                    kind: answer.kind,
                    table: answer.table,
                    device: self.name(answer.interface),
                    gateway: answer.gateway,
                    entry_device: None,
                };
                if let Some(entry) = entry.filter(|_| route.is_local()) {
                    (route.table, route.entry_device) = (entry.table, self.name(entry.interface));
                }
                Ok(route)
            }
            // The kernel answered: there is no way.
            Err(error) if error.raw_os_error().is_some() => Err(without_number(&error)),
            Err(error) => return Err(error),
        };
        Ok(Case {
            address: target.address,
            scope: target.scope.as_ref().map(|(_, name)| name.clone()),
            holder: target.holder.clone(),
            route,
            traffic: None,
        })
    }

    /// Which table is asked first.
    pub(super) async fn order(&self, only_v6: bool) -> Order {
        let version = if only_v6 { IpVersion::V6 } else { IpVersion::V4 };
        match self.network.rules(version).await {
            Ok(rules) => match rules.first() {
                Some(first) if first.is_for_all && first.table == Some(TABLE_LOCAL) => {
                    Order::LocalFirst(first.priority)
                }
                _ => Order::Changed,
            },
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Order::Fixed,
            Err(error) => Order::Unknown(without_number(&error)),
        }
    }

    fn name(&self, index: Option<u32>) -> Option<String> {
        let index = index?;
        let known = self.interfaces.iter().find(|interface| interface.index == index);
        Some(known.map_or_else(|| format!("if{index}"), |interface| interface.name.clone()))
    }
}

/// The words for an error: `(os error 101)` says nothing to people.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
