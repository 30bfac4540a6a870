//! What the kernel shows of the table, and whether it is what Ringway writes.

use std::collections::BTreeSet;

use netlink_packet_core::{Emitable as _, NlasIterator};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner,
    nftables::{
        ChainAttribute, ExpressionAttribute, Hook, ListAttribute, NfTablesMessage, RuleAttribute,
        RuleMessage, TableAttribute, TableFlags,
    },
};

use super::rules::{Chain, FORWARD, INPUT, TABLE};

/// Whether the rules of a table are in force: it is neither dormant nor gone with its owner.
pub(super) fn is_active(message: &NetfilterMessage) -> bool {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = &message.inner else {
        return false;
    };
    let is_plain = |attribute: &TableAttribute| {
        if let TableAttribute::Flags(flags) = attribute {
            *flags == TableFlags::empty()
        } else {
            true
        }
    };
    table.attributes.iter().all(is_plain)
}

impl Chain {
    /// Absent for another table's; `Some(None)` for one that no packet enters by itself.
    pub(super) fn read(message: &NetfilterMessage) -> Option<Option<Self>> {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = &message.inner
        else {
            return None;
        };
        let ours = ChainAttribute::Table(TABLE.to_owned());
        if !chain.attributes.contains(&ours) {
            return None;
        }
        let (mut name, mut kind, mut policy) = (None, None, None);
        let (mut hook, mut priority) = (None, None);
        for attribute in &chain.attributes {
            if let ChainAttribute::Name(text) = attribute {
                name = Some(text.clone());
            } else if let ChainAttribute::Type(text) = attribute {
                kind = Some(text.clone());
            } else if let ChainAttribute::Policy(verdict) = attribute {
                policy = Some(*verdict);
            } else if let ChainAttribute::Hook(parts) = attribute {
                for part in parts {
                    if let Hook::Number(number) = part {
                        hook = Some(u32::from(*number));
                    } else if let Hook::Priority(number) = part {
                        priority = Some(*number);
                    }
                }
            }
        }
        let read = || {
            Some(Self {
                name: name?,
                kind: kind?,
                hook: hook?,
                priority: priority?,
                policy: policy?,
            })
        };
        Some(read())
    }
}

/// A rule as far as packets notice it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    chain: String,
    expressions: Vec<Expression>,
}

/// One step of a rule: its name, and its attributes as the kernel writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expression {
    name: String,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Rule {
    /// Absent for another table's; `Some(None)` for one that makes no sense.
    pub(super) fn read(message: &NetfilterMessage) -> Option<Option<Self>> {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = &message.inner else {
            return None;
        };
        let ours = RuleAttribute::Table(TABLE.to_owned());
        rule.attributes.contains(&ours).then(|| Self::shape(rule))
    }

    pub(super) fn shape(rule: &RuleMessage) -> Option<Self> {
        let (mut chain, mut expressions) = (None, Vec::new());
        for attribute in &rule.attributes {
            if let RuleAttribute::Chain(name) = attribute {
                chain = Some(name.clone());
            } else if let RuleAttribute::Expressions(list) = attribute {
                for element in list {
                    expressions.push(Expression::shape(element)?);
                }
            }
        }
        let chain = chain?;
        Some(Self { chain, expressions })
    }

    /// Whether it does what `wanted` does. Attributes that Ringway does not write are ignored: later
    /// kernels show more of them.
    fn holds(&self, wanted: &Self) -> bool {
        let same = |(found, wanted): (&Expression, &Expression)| {
            let has = |attribute| found.attributes.contains(attribute);
            found.name == wanted.name && wanted.attributes.iter().all(has)
        };
        self.chain == wanted.chain
            && self.expressions.len() == wanted.expressions.len()
            && self.expressions.iter().zip(&wanted.expressions).all(same)
    }
}

impl Expression {
    fn shape(element: &ListAttribute<ExpressionAttribute>) -> Option<Self> {
        let ListAttribute::Element(parts) = element else {
            return None;
        };
        let mut shape = Self {
            name: String::new(),
            attributes: Vec::new(),
        };
        for part in parts {
            if let ExpressionAttribute::Name(name) = part {
                shape.name.clone_from(name);
            } else if let ExpressionAttribute::Data(data) = part {
                let mut bytes = vec![0; data.buffer_len()];
                data.emit(&mut bytes);
                for attribute in NlasIterator::new(&bytes) {
                    let attribute = attribute.ok()?;
                    let value = attribute.value().to_vec();
                    shape.attributes.push((attribute.kind(), value));
                }
            }
        }
        Some(shape)
    }
}

/// The ports that rules seem to let in: whether they do, a comparison with the rules for these says.
pub(super) fn ports(rules: &[Rule]) -> BTreeSet<u16> {
    let input = rules.iter().filter(|rule| rule.chain == INPUT);
    input.filter_map(Rule::port).collect()
}

/// `NFTA_CMP_DATA`.
const CMP_DATA: u16 = 3;

impl Rule {
    /// What its second comparison is with: the value is behind the header of its attribute (netlink(7)).
    fn port(&self) -> Option<u16> {
        let [_, _, _, compared, _] = self.expressions.as_slice() else {
            return None;
        };
        let mut attributes = compared.attributes.iter();
        let (_, data) = attributes.find(|(kind, _)| *kind == CMP_DATA)?;
        let value = data.get(4..6)?.try_into().ok()?;
        Some(u16::from_be_bytes(value))
    }
}

/// Whether the rules that were found, in the order of each chain, are those that are wanted.
pub(super) fn hold(found: &[Rule], wanted: &[Rule]) -> bool {
    found.len() == wanted.len()
        && [INPUT, FORWARD].into_iter().all(|chain| {
            let found = found.iter().filter(|rule| rule.chain == chain);
            let wanted = wanted.iter().filter(|rule| rule.chain == chain);
            found.clone().count() == wanted.clone().count()
                && found.zip(wanted).all(|(found, wanted)| found.holds(wanted))
        })
}
