//! Which peer has which addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Prefixes and the slots of the peers that have them. One prefix has one peer; of nested ones the
/// longest counts.
#[derive(Debug, Default)]
pub(crate) struct AllowedIps {
    v4: PrefixMap<Ipv4Net, usize>,
    v6: PrefixMap<Ipv6Net, usize>,
}

impl AllowedIps {
    /// Gives a prefix to a peer and answers who had it.
    pub(crate) fn insert(&mut self, prefix: IpNet, slot: usize) -> Option<usize> {
        match prefix.trunc() {
            IpNet::V4(prefix) => self.v4.insert(prefix, slot),
            IpNet::V6(prefix) => self.v6.insert(prefix, slot),
        }
    }

    /// Takes a prefix from whoever has it.
    pub(crate) fn remove(&mut self, prefix: IpNet) {
        match prefix.trunc() {
            IpNet::V4(prefix) => self.v4.remove(&prefix),
            IpNet::V6(prefix) => self.v6.remove(&prefix),
        };
    }

    /// Whose an address is.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<usize> {
        let found = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, slot)| slot),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, slot)| slot),
        };
        found.copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few bits, so that prefixes nest and collide.
        let v4 = (0..8_u32, 0..=32_u8).prop_map(|(bits, len)| {
            let address = IpAddr::from(bits.rotate_right(3).to_be_bytes());
            IpNet::new(address, len).unwrap()
        });
        let v6 = (0..8_u128, 0..=128_u8).prop_map(|(bits, len)| {
            let address = IpAddr::from(bits.rotate_right(3).to_be_bytes());
            IpNet::new(address, len).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        /// Against a list in which the longest prefix that was given last is looked for.
        #[test]
        fn the_owner_is_that_of_the_longest_prefix(
            steps in prop::collection::vec((prefix(), 0..4_usize, any::<bool>()), 0..60),
            asked in prop::collection::vec(prefix(), 1..20),
        ) {
            let mut trie = AllowedIps::default();
            let mut list: Vec<(IpNet, usize)> = Vec::new();
            for (prefix, slot, given) in steps {
                let before = list.iter().position(|(other, _)| *other == prefix.trunc());
                let before = before.map(|at| list.swap_remove(at).1);
                if given {
                    prop_assert_eq!(trie.insert(prefix, slot), before);
                    list.push((prefix.trunc(), slot));
                } else {
                    trie.remove(prefix);
                }
            }
            for address in asked.iter().map(IpNet::addr) {
                let fitting = list.iter().filter(|(prefix, _)| prefix.contains(&address));
                let longest = fitting.max_by_key(|(prefix, _)| prefix.prefix_len());
                prop_assert_eq!(trie.owner(address), longest.map(|(_, slot)| *slot));
            }
        }
    }
}
