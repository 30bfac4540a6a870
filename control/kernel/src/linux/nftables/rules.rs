//! The table `inet ringway`, as messages (`include/uapi/linux/netfilter/nf_tables.h`). Nothing here
//! talks to the kernel. What it says, in nft(8)'s words, for the device `wg51820`:
//!
//! ```text
//! table inet ringway {
//!     chain input {
//!         type filter hook input priority filter; policy drop;
//!         ct state established,related accept
//!         iifname "lo" accept
//!         iifname "wg51820" icmp type echo-request accept
//!         iifname "wg51820" icmpv6 type echo-request accept
//!         tcp dport 5432 accept                           # for each listener of the network there
//!     }
//!     chain forward {
//!         type filter hook forward priority filter; policy drop;
//!         iifname "wg51820" oifname "wg51820" accept      # with peer to peer only
//!     }
//! }
//! ```
//!
//! What is sent from inside is not filtered: only sockets of the gateway are there, and the ports of its
//! listeners are open to whoever reaches the namespace. Errors about
//! its connections, such as "packet too big", are `related`. Neighbour discovery does not happen on
//! a tunnel.

use control_plan::actual::Firewall;
use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{
        Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, HookNumber,
        Immediate, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator,
        Payload, Register, RuleAttribute, RuleMessage, TableAttribute, TableMessage, Verdict,
        VerdictAttribute,
    },
    none::ControlMessage,
};

use super::found::Rule;
use crate::linux::socket::encode;

/// The name of the table. Tables of other names are never looked at.
pub(super) const TABLE: &str = "ringway";

/// `NFNL_SUBSYS_NFTABLES` in `linux/netfilter/nfnetlink.h`: what a batch is for.
const SUBSYSTEM: u16 = 10;

pub(super) const INPUT: &str = "input";
pub(super) const FORWARD: &str = "forward";

/// `NF_DROP` and `NF_ACCEPT` in `linux/netfilter.h`.
const DROP: u32 = 0;
pub(super) const ACCEPT: u32 = 1;

/// Where every value is loaded to before it is compared.
const REGISTER: Register = Register::Reg1;

/// `NFTA_CT_DREG` and `NFTA_CT_KEY`, and `NFT_CT_STATE`.
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATE: u32 = 0;

/// Bits of `ct state` (`NF_CT_STATE_BIT` in `nf_conntrack_common.h`): established and related.
const REPLIES: u32 = 1 << 1 | 1 << 2;

/// `NFT_PAYLOAD_TRANSPORT_HEADER`.
const TRANSPORT_HEADER: u32 = 2;

/// Protocol number and type of an echo request: RFC 792 and RFC 4443, 4.1.
const ECHO_V4: (u8, u8) = (1, 8);
const ECHO_V6: (u8, u8) = (58, 128);

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Bytes of a device's name in a register, padded with zeros (`IFNAMSIZ`).
const NAME_BYTES: usize = 16;

/// Messages that take effect together, and which of them is acknowledged.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) acknowledged: usize,
}

/// The whole table in place of whatever it was.
pub(super) fn batch(device: &str, firewall: &Firewall) -> Batch {
    let mut changes = vec![
        // So that there is one to delete.
        (NfTablesMessage::NewTable(table()), NLM_F_CREATE),
        (NfTablesMessage::DeleteTable(table()), 0),
        (NfTablesMessage::NewTable(table()), NLM_F_CREATE),
    ];
    let chains = chains().into_iter().map(Chain::write);
    changes.extend(chains.map(|chain| (NfTablesMessage::NewChain(chain), NLM_F_CREATE)));
    for (chain, expressions) in rules_of(device, firewall) {
        let rule = NfTablesMessage::NewRule(write_rule(chain, expressions));
        changes.push((rule, NLM_F_CREATE | NLM_F_APPEND));
    }
    atomic(changes)
}

/// Changes that happen together or not at all. The last one is acknowledged.
pub(super) fn atomic(changes: Vec<(NfTablesMessage, u16)>) -> Batch {
    let control = |message| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
        encode(NetfilterMessage::new(header, message), 0, 0)
    };
    let mut messages = vec![control(ControlMessage::BatchBegin)];
    let acknowledged = changes.len();
    for (at, (change, flags)) in changes.into_iter().enumerate() {
        let acknowledge = if at + 1 == acknowledged { NLM_F_ACK } else { 0 };
        messages.push(encode(tables(change), flags | acknowledge, 0));
    }
    messages.push(control(ControlMessage::BatchEnd));
    Batch {
        messages,
        acknowledged,
    }
}

pub(super) fn get_table() -> NetfilterMessage {
    tables(NfTablesMessage::GetTable(table()))
}

pub(super) fn list_chains() -> NetfilterMessage {
    let attributes = vec![ChainAttribute::Table(TABLE.to_owned())];
    tables(NfTablesMessage::GetChain(ChainMessage { attributes }))
}

pub(super) fn list_rules() -> NetfilterMessage {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    tables(NfTablesMessage::GetRule(RuleMessage { attributes }))
}

fn tables(message: NfTablesMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0);
    NetfilterMessage::new(header, message)
}

pub(super) fn table() -> TableMessage {
    TableMessage {
        attributes: vec![TableAttribute::Name(TABLE.to_owned())],
    }
}

/// A chain that packets pass through, with the fate of those that no rule decides about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) hook: u32,
    pub(super) priority: u32,
    pub(super) policy: u32,
}

/// The chains, by name.
pub(super) fn chains() -> Vec<Chain> {
    let chain = |name: &str, hook: InetHookNumber| Chain {
        name: name.to_owned(),
        kind: "filter".to_owned(),
        hook: hook.into(),
        priority: 0,
        policy: DROP,
    };
    vec![
        chain(FORWARD, InetHookNumber::Forward),
        chain(INPUT, InetHookNumber::LocalIn),
    ]
}

impl Chain {
    pub(super) fn write(self) -> ChainMessage {
        let hook = InetHookNumber::from(self.hook);
        ChainMessage {
            attributes: vec![
                ChainAttribute::Table(TABLE.to_owned()),
                ChainAttribute::Name(self.name),
                ChainAttribute::Hook(vec![
                    Hook::Number(HookNumber::Inet(hook)),
                    Hook::Priority(self.priority),
                ]),
                ChainAttribute::Type(self.kind),
                ChainAttribute::Policy(self.policy),
            ],
        }
    }
}

/// The rules as they are read back.
pub(super) fn rules(device: &str, firewall: &Firewall) -> Vec<Rule> {
    let rules = rules_of(device, firewall).into_iter();
    rules
        .filter_map(|(chain, expressions)| Rule::shape(&write_rule(chain, expressions)))
        .collect()
}

fn rules_of(device: &str, firewall: &Firewall) -> Vec<(&'static str, Vec<Expressions>)> {
    let from = |name| is_device(MetaKey::Iifname, name);
    let to = |name| is_device(MetaKey::Oifname, name);
    let mut rules = vec![
        (INPUT, [is_reply(), accept()].concat()),
        (INPUT, [from("lo"), accept()].concat()),
        (INPUT, [from(device), is_echo(ECHO_V4), accept()].concat()),
        (INPUT, [from(device), is_echo(ECHO_V6), accept()].concat()),
    ];
    for port in &firewall.tcp_ports {
        rules.push((INPUT, [is_port(*port), accept()].concat()));
    }
    if firewall.peer_to_peer {
        rules.push((FORWARD, [from(device), to(device), accept()].concat()));
    }
    rules
}

pub(super) fn write_rule(chain: &str, expressions: Vec<Expressions>) -> RuleMessage {
    let expressions = expressions.into_iter().map(ListAttribute::from).collect();
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ],
    }
}

fn is_reply() -> Vec<Expressions> {
    let number = |value: u32| value.to_be_bytes().to_vec();
    vec![
        Expressions::Other {
            expression_type: "ct".to_owned(),
            attributes: vec![
                DefaultNla::new(CT_REGISTER, number(REGISTER.into())),
                DefaultNla::new(CT_KEY, number(CT_STATE)),
            ],
        },
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(REGISTER),
            Bitwise::DestinationRegister(REGISTER),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(REPLIES.to_ne_bytes().to_vec())),
            Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
        ]),
        compare(Operator::NotEqual, vec![0; 4]),
    ]
}

fn is_device(side: MetaKey, name: &str) -> Vec<Expressions> {
    // All of the register is compared, so that the name is the whole name.
    let mut padded = name.as_bytes().to_vec();
    padded.resize(NAME_BYTES, 0);
    vec![load(side), compare(Operator::Equal, padded)]
}

/// A packet to a TCP port (RFC 9293 section 3.1: the port of destination is the second of the header).
fn is_port(port: u16) -> Vec<Expressions> {
    vec![
        load(MetaKey::L4Proto),
        compare(Operator::Equal, vec![TCP]),
        Expressions::Payload(vec![
            Payload::DestinationRegister(REGISTER),
            Payload::Base(TRANSPORT_HEADER),
            Payload::Offset(2),
            Payload::Len(2),
        ]),
        compare(Operator::Equal, port.to_be_bytes().to_vec()),
    ]
}

fn is_echo((protocol, kind): (u8, u8)) -> Vec<Expressions> {
    vec![
        load(MetaKey::L4Proto),
        compare(Operator::Equal, vec![protocol]),
        Expressions::Payload(vec![
            Payload::DestinationRegister(REGISTER),
            Payload::Base(TRANSPORT_HEADER),
            Payload::Offset(0),
            Payload::Len(1),
        ]),
        compare(Operator::Equal, vec![kind]),
    ]
}

fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(REGISTER), Meta::Key(key)])
}

fn compare(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(REGISTER),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

pub(super) fn accept() -> Vec<Expressions> {
    let verdict = VerdictAttribute::Code(Verdict::Other(ACCEPT));
    vec![Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![verdict])),
    ])]
}
