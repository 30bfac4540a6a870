//! Lists of address prefixes, as a few ranges.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses, given as prefixes. Whether it has an address is found in logarithmic time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// First and last address of each range, IPv4 in its IPv6 form; sorted, and apart.
    ranges: Box<[(u128, u128)]>,
}

impl Prefixes {
    /// Puts prefixes together.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let range = |net: IpNet| (bits(net.network()), bits(net.broadcast()));
        let mut sorted: Vec<_> = prefixes.into_iter().map(range).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self {
            ranges: ranges.into(),
        }
    }

    /// Whether an address is in one of the prefixes.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        let behind = self.ranges.partition_point(|&(first, _)| first <= address);
        let range = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|&(_, last)| address <= last)
    }

    /// Whether no prefix was given.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_in_the_set_if_it_is_in_a_prefix(
            nets in proptest::collection::vec((any::<bool>(), any::<[u8; 16]>(), 0_u8..=16), 0..12),
            picks in proptest::collection::vec((any::<bool>(), any::<[u8; 16]>()), 20),
        ) {
            // Few bits, so that prefixes overlap and hold what is looked for.
            let address = |v4: bool, mut raw: [u8; 16]| -> IpAddr {
                raw.iter_mut().for_each(|byte| *byte &= 0x81);
                match v4 {
                    true => Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3]).into(),
                    false => Ipv6Addr::from(raw).into(),
                }
            };
            let nets: Vec<IpNet> = nets
                .into_iter()
                .map(|(v4, raw, len)| IpNet::new(address(v4, raw), len).unwrap().trunc())
                .collect();
            let set = Prefixes::new(nets.iter().copied());
            for (v4, raw) in picks {
                let address = address(v4, raw);
                // The mapped form of IPv4 is the same address, which IpNet does not know.
                let mapped = IpAddr::V6(match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                });
                let expected = nets.iter().any(|net| net.contains(&address) || net.contains(&mapped));
                prop_assert_eq!(set.contains(address), expected);
            }
        }
    }
}
