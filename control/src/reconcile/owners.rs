//! Which peer is behind an address of a network, and who the network is to its peers.

use std::{collections::BTreeMap, net::IpAddr};

use control_api::{
    place::NetworkKey,
    state::{self, Desired, PublicKey},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use rpds::RedBlackTreeMapSync;

/// Every network with a device.
#[derive(Default)]
pub(crate) struct Owners {
    networks: BTreeMap<NetworkKey, Network>,
    public_keys: PublicKeys,
}

/// Who each network is to its peers. A clone shares everything.
pub(crate) type PublicKeys = RedBlackTreeMapSync<NetworkKey, PublicKey>;

/// The allowed prefixes of a network, each with the peer that it is sent to.
struct Network {
    v4: PrefixMap<Ipv4Net, PublicKey>,
    v6: PrefixMap<Ipv6Net, PublicKey>,
}

impl Owners {
    /// Those of a desired state.
    pub(crate) fn of(desired: &Desired) -> Self {
        let mut owners = Self::default();
        owners.take_up(desired, desired.networks.keys());
        owners
    }

    /// Takes up a new desired state that is another one in these networks only: deriving a key takes
    /// too long to do it for all of them.
    pub(crate) fn take_up<'n>(
        &mut self,
        desired: &Desired,
        changed: impl IntoIterator<Item = &'n NetworkKey>,
    ) {
        for key in changed {
            let network = desired.networks.get(key);
            let public_key = network.and_then(|network| network.public_key());
            match network.and_then(Network::of).zip(public_key) {
                Some((network, public_key)) => {
                    self.networks.insert(*key, network);
                    self.public_keys.insert_mut(*key, public_key);
                }
                None => {
                    self.networks.remove(key);
                    self.public_keys.remove_mut(key);
                }
            }
        }
    }

    /// Who a network is to its peers. Deriving a key takes too long to do it at every look.
    pub(crate) fn public_key(&self, network: NetworkKey) -> Option<PublicKey> {
        self.public_keys.get(&network).copied()
    }

    /// Who all networks are to their peers.
    pub(crate) fn public_keys(&self) -> &PublicKeys {
        &self.public_keys
    }

    /// The peer that packets to an address are sent to: the one with the longest prefix.
    pub(crate) fn peer(&self, network: NetworkKey, address: IpAddr) -> Option<PublicKey> {
        let prefixes = self.networks.get(&network)?;
        match address {
            IpAddr::V4(address) => {
                let found = prefixes.v4.get_lpm(&Ipv4Net::from(address));
                found.map(|(_, key)| *key)
            }
            IpAddr::V6(address) => {
                let found = prefixes.v6.get_lpm(&Ipv6Net::from(address));
                found.map(|(_, key)| *key)
            }
        }
    }
}

impl Network {
    /// Absent where there is no device.
    fn of(network: &state::Network) -> Option<Self> {
        let wireguard = network.wireguard.as_ref()?;
        let mut prefixes = Self {
            v4: PrefixMap::new(),
            v6: PrefixMap::new(),
        };
        for (key, peer) in &wireguard.peers {
            for prefix in &peer.allowed_ips {
                match prefix {
                    IpNet::V4(prefix) => drop(prefixes.v4.insert(prefix.trunc(), *key)),
                    IpNet::V6(prefix) => drop(prefixes.v6.insert(prefix.trunc(), *key)),
                }
            }
        }
        Some(prefixes)
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owners of {} networks", self.networks.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use control_api::state;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_prefix_names_the_peer() {
        let (wide, narrow) = ("0a".repeat(32), "0b".repeat(32));
        let peers = json!({
            wide.clone(): { "allowed_ips": ["10.0.0.0/8", "fd00::/8"] },
            narrow.clone(): { "allowed_ips": ["10.0.0.2/32"] },
        });
        let network = json!({
            "private_key": "0c".repeat(32), "address": ["10.0.0.1/24"], "peers": peers, "proxy": {},
        });
        let desired = state::parse(&json!({ "7": network }).to_string()).unwrap();
        let owners = Owners::of(&desired.value);
        let peer = |address: &str| {
            let network = NetworkKey::new(7).unwrap();
            owners.peer(network, address.parse().unwrap())
        };
        assert_eq!(peer("10.0.0.2"), narrow.parse().ok());
        assert_eq!(peer("10.0.0.3"), wide.parse().ok());
        assert_eq!(peer("fd00::1"), wide.parse().ok());
        assert_eq!(peer("192.0.2.1"), None);
    }
    #[test]
    fn a_change_is_taken_up_in_the_networks_that_it_is_about() {
        let state = |entries: &[(u16, &str)]| {
            let entries = entries.iter().map(|(port, key)| {
                let network = json!({
                    "private_key": key.repeat(32), "address": ["10.0.0.1/24"], "peers": {}, "proxy": {},
                });
                (port.to_string(), network)
            });
            let document: serde_json::Map<_, _> = entries.collect();
            let read = state::parse(&serde_json::Value::Object(document).to_string());
            read.unwrap().value
        };
        let ports = |numbers: &[u16]| -> BTreeSet<_> {
            numbers
                .iter()
                .filter_map(|port| NetworkKey::new(*port))
                .collect()
        };
        let before = state(&[(7, "0c"), (8, "0d"), (9, "0e")]);
        let after = state(&[(7, "0c"), (8, "0f"), (10, "1a")]);
        let mut owners = Owners::of(&before);
        owners.take_up(&after, &ports(&[8, 9, 10]));
        let fresh = Owners::of(&after);
        for port in ports(&[7, 8, 9, 10]) {
            assert_eq!(owners.public_key(port), fresh.public_key(port), "{port}");
        }
    }
}
