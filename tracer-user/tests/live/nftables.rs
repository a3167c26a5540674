//! A rule of nftables by netlink, as no tool for them is everywhere.

use std::io;

use crate::netlink::{self, Request};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// `NFT_MSG_NEWTABLE`, `NFT_MSG_NEWCHAIN`, `NFT_MSG_NEWRULE`.
const NEW_TABLE: u8 = 0;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;

/// `NFNL_SUBSYS_NFTABLES`, `NFPROTO_IPV4`.
const NFTABLES: u8 = 10;
const IPV4: u8 = 2;

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`, `NFTA_DATA_VALUE`.
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// The table's name, and that of its chain.
const NAME: &str = "test";

/// Redirects what is sent in this thread's namespace by IPv4 to one port to another one: `nft add rule test test th dport FROM redirect
/// to :TO`, with the table and the chain that it stands in.
pub(super) fn redirect(from: u16, to: u16) -> io::Result<()> {
    let table = request(NEW_TABLE, 0).text(1, NAME);
    let chain = request(NEW_CHAIN, 0)
        // `NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`, `NFTA_CHAIN_TYPE`.
        .text(1, NAME)
        .text(3, NAME)
        .text(7, "nat")
        // `NFTA_CHAIN_HOOK`: its number and priority.
        .nested(4, |hook| {
            let priority = libc::NF_IP_PRI_NAT_DST.cast_unsigned();
            hook.number(1, libc::NF_INET_LOCAL_OUT.cast_unsigned()).number(2, priority)
        });
    let register = libc::NFT_REG_1.cast_unsigned();
    // `NFTA_RULE_TABLE`, `NFTA_RULE_CHAIN`, `NFTA_RULE_EXPRESSIONS`.
    let rule = request(NEW_RULE, libc::NLM_F_ACK).text(1, NAME).text(2, NAME).nested(4, |rule| {
        rule.expression("payload", |load| {
            // Register, header, offset, and bytes: TCP and UDP have the port at the same place.
            let header = libc::NFT_PAYLOAD_TRANSPORT_HEADER.cast_unsigned();
            load.number(1, register).number(2, header).number(3, 2).number(4, 2)
        })
        .expression("cmp", |compare| {
            let operation = libc::NFT_CMP_EQ.cast_unsigned();
            compare.number(1, register).number(2, operation).value(3, from)
        })
        .expression("immediate", |load| load.number(1, register).value(2, to))
        .expression("redir", |redirect| redirect.number(1, register))
    });
    let requests = [batch(BATCH_BEGIN), table, chain, rule, batch(BATCH_END)];
    netlink::ask(libc::NETLINK_NETFILTER, &requests.map(Request::finish).concat())
}

/// A request of which a batch consists, with its `struct nfgenmsg`.
fn request(kind: u8, flags: i32) -> Request {
    let kind = u16::from_be_bytes([NFTABLES, kind]);
    Request::unanswered(kind, libc::NLM_F_CREATE | flags).bytes(&[IPV4, 0, 0, 0])
}

/// Its begin or end.
fn batch(kind: u16) -> Request {
    Request::unanswered(kind, 0).bytes(&[0, 0, 0, NFTABLES])
}

/// As nftables has them, in the network's byte order.
impl Request {
    fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    fn value(self, kind: u16, port: u16) -> Self {
        self.nested(kind, |data| data.attribute(DATA_VALUE, &port.to_be_bytes()))
    }

    /// A step of a rule.
    fn expression(self, name: &str, data: impl FnOnce(Self) -> Self) -> Self {
        self.nested(LIST_ELEM, |step| step.text(EXPR_NAME, name).nested(EXPR_DATA, data))
    }
}
