use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, TableAttribute, TableFlags,
};

use super::{rules::ACCEPT, *};

/// What somebody does to the table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tampering {
    /// It is switched off.
    Dormant,
    /// What no rule decides about passes.
    OpenPolicy,
    /// A rule at the end lets everything in.
    Rule,
    /// There is another chain.
    Chain,
    /// It is gone.
    Gone,
}

pub(crate) const TAMPERING: [Tampering; 5] = [
    Tampering::Dormant,
    Tampering::OpenPolicy,
    Tampering::Rule,
    Tampering::Chain,
    Tampering::Gone,
];

impl Nftables {
    pub(crate) fn tamper(&mut self, how: Tampering) -> Result<(), NetlinkError> {
        let (change, flags) = match how {
            Tampering::Dormant => {
                let mut table = rules::table();
                let flags = TableAttribute::Flags(TableFlags::Dormant);
                table.attributes.push(flags);
                (NfTablesMessage::NewTable(table), 0)
            }
            Tampering::OpenPolicy => {
                let input = rules::chains().pop().unwrap();
                let open = Chain {
                    policy: ACCEPT,
                    ..input
                };
                (NfTablesMessage::NewChain(open.write()), 0)
            }
            Tampering::Rule => {
                let rule = rules::write_rule(rules::INPUT, rules::accept());
                (NfTablesMessage::NewRule(rule), NLM_F_CREATE | NLM_F_APPEND)
            }
            Tampering::Chain => {
                let attributes = vec![
                    ChainAttribute::Table(rules::TABLE.to_owned()),
                    ChainAttribute::Name("theirs".to_owned()),
                ];
                let chain = ChainMessage { attributes };
                (NfTablesMessage::NewChain(chain), NLM_F_CREATE)
            }
            Tampering::Gone => (NfTablesMessage::DeleteTable(rules::table()), 0),
        };
        let batch = rules::atomic(vec![(change, flags)]);
        self.0.batch(batch.messages, batch.acknowledged)
    }
}

fn among_peers() -> Firewall {
    Firewall {
        peer_to_peer: true,
        tcp_ports: std::collections::BTreeSet::new(),
    }
}

fn in_a_namespace() -> Nftables {
    let netns = engine_sys::netns::Netns::create().expect("needs CAP_SYS_ADMIN");
    let family = crate::linux::socket::Family::Netfilter;
    let [socket] = Socket::open(&netns, [family]).unwrap();
    Nftables::new(socket)
}

#[test]
fn a_table_is_read_back_as_what_was_written_and_only_as_that() {
    let mut nftables = in_a_namespace();
    assert_eq!(nftables.read("wg1").unwrap(), FirewallState::Absent);
    for (peer_to_peer, ports) in [
        (true, &[][..]),
        (false, &[80, 5432]),
        (true, &[80]),
        (true, &[]),
    ] {
        let firewall = Firewall {
            peer_to_peer,
            tcp_ports: ports.iter().copied().collect(),
        };
        nftables.write("wg1", &firewall).unwrap();
        assert_eq!(nftables.read("wg1").unwrap(), FirewallState::Is(firewall));
        assert_eq!(nftables.read("wg2").unwrap(), FirewallState::Differs);
    }
}

#[test]
fn a_batch_that_is_refused_changes_nothing() {
    let mut nftables = in_a_namespace();
    let firewall = among_peers();
    nftables.write("wg1", &firewall).unwrap();
    let rule = rules::write_rule("nowhere", rules::accept());
    let batch = rules::atomic(vec![
        (NfTablesMessage::DeleteTable(rules::table()), 0),
        (NfTablesMessage::NewTable(rules::table()), NLM_F_CREATE),
        (NfTablesMessage::NewRule(rule), NLM_F_CREATE | NLM_F_APPEND),
    ]);
    let refused = nftables.0.batch(batch.messages, batch.acknowledged);
    assert_eq!(refused.unwrap_err().errno(), Some(Errno::ENOENT));
    assert_eq!(nftables.read("wg1").unwrap(), FirewallState::Is(firewall));
}

#[test]
fn the_messages_of_a_batch_are_numbered_by_who_sends_them_and_the_last_change_is_acknowledged() {
    let batch = rules::batch("wg51820", &among_peers());
    // Begin, three for the table, two chains, five rules, end.
    assert_eq!(batch.messages.len(), 12);
    assert_eq!(batch.acknowledged, 10);
    let field = |at: usize, bytes: std::ops::Range<usize>| -> u16 {
        let bytes = batch.messages[at][bytes].try_into().unwrap();
        u16::from_ne_bytes(bytes)
    };
    // NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END of linux/netfilter/nfnetlink.h, for subsystem 10
    // in network byte order, whatever the machine's.
    assert_eq!((field(0, 4..6), field(11, 4..6)), (0x10, 0x11));
    for control in [0, 11] {
        assert_eq!(batch.messages[control][18..20], [0, 10]);
    }
    // NFT_MSG_NEWTABLE, DELTABLE, NEWTABLE, NEWCHAIN and NEWRULE, in the family inet.
    let kinds: Vec<u16> = (1..11).map(|at| field(at, 4..6) & 0xff).collect();
    assert_eq!(kinds, [0, 2, 0, 3, 3, 6, 6, 6, 6, 6]);
    for at in 1..11 {
        assert_eq!(batch.messages[at][16], 1);
        let acknowledged = field(at, 6..8) & netlink_packet_core::NLM_F_ACK != 0;
        assert_eq!(acknowledged, at == 10);
    }
}
