//! State documents of many networks, the same for every run.

use std::ops::Range;

use serde_json::{Map, Value, json};

/// Public port of the first network.
const FIRST_PORT: u16 = 20_000;

/// The public port of network `network`.
pub(crate) fn port(network: u16) -> u16 {
    FIRST_PORT + network
}

/// Its private key, in hex.
pub(crate) fn private_key(network: u16) -> String {
    key(u64::from(network) << 32)
}

/// The public key of one of its peers, in hex. Nobody has the private key to it: these peers are
/// only ever known, never heard.
pub(crate) fn peer_key(network: u16, peer: u16) -> String {
    key((u64::from(network) << 32) + u64::from(peer) + 1)
}

/// Networks with so many peers each. All have the same addresses, as tenants may.
pub(crate) fn document(networks: Range<u16>, peers: u16) -> Map<String, Value> {
    let entry = |network: u16| {
        let declared: Map<String, Value> = (0..peers)
            .map(|peer| {
                let [high, low] = (peer + 2).to_be_bytes();
                let allowed = json!({ "allowed_ips": [format!("10.0.{high}.{low}/32")] });
                (peer_key(network, peer), allowed)
            })
            .collect();
        let mut proxy = Map::new();
        proxy.insert(
            format!("https://t{network}.bench.test"),
            json!(["10.0.0.2:443"]),
        );
        let state = json!({
            "private_key": private_key(network),
            "address": ["10.0.0.1/8"],
            "peers": declared,
            "proxy": proxy,
        });
        (port(network).to_string(), state)
    };
    networks.map(entry).collect()
}

/// The document of the first networks as it is sent.
pub(crate) fn text(networks: u16, peers: u16) -> String {
    Value::Object(document(0..networks, peers)).to_string()
}

/// 32 bytes in hex that no other number has (SplitMix64: Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
fn key(number: u64) -> String {
    let word = |n: u64| {
        let mut word = (number * 4 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    (0..4).map(|n| format!("{:016x}", word(n))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use control_api::state;

    use super::*;

    #[test]
    fn the_documents_are_accepted_as_they_are() {
        for (networks, peers) in [(500, 10), (1, 10_000)] {
            let text = text(networks, peers);
            let read = state::parse(&text).unwrap();
            assert_eq!(read.value.networks.len(), usize::from(networks));
            assert!(read.warnings.iter().next().is_none(), "{:?}", read.warnings);
        }
    }

    #[test]
    fn no_key_is_given_twice() {
        let mut keys = HashSet::new();
        for network in 0..50 {
            assert!(keys.insert(private_key(network)));
            assert!((0..100).all(|peer| keys.insert(peer_key(network, peer))));
        }
    }
}
