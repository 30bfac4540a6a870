//! What a state document says and whoever wrote it cannot have meant.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
};

use control_api::{
    Problem, Problems, Severity,
    place::NetworkKey,
    state::{Desired, Namespace, Network, PoolTarget, PrivateKey, WireGuard},
};
use ipnet::IpNet;

/// A warning for each mistake that is none of the document's form: what it says can be done, and
/// does nothing.
///
/// `only` names the networks to look at; absent means all.
pub fn doubts(desired: &Desired, only: Option<&BTreeSet<NetworkKey>>) -> Problems {
    let mut problems = Problems::default();
    let mut keys = BTreeMap::new();
    let has_device = |port: &NetworkKey| {
        let network = desired.networks.get(port);
        network.is_some_and(|network| network.wireguard.is_some())
    };
    // Most changes are about networks without a device, or about none.
    if only.is_some_and(|only| !only.iter().any(has_device)) {
        return problems;
    }
    for (port, network) in desired.networks.iter() {
        let Some(wireguard) = &network.wireguard else {
            continue;
        };
        let first = *keys.entry(bits(&wireguard.private_key)).or_insert(*port);
        if only.is_some_and(|only| !only.contains(port) && !only.contains(&first)) {
            continue;
        }
        let mut doubt = |place: &str, message: String, hint: &str| {
            problems.push(Problem {
                pointer: format!("/{port}{place}"),
                hint: Some(hint.to_owned()),
                ..Problem::whole(Severity::Warning, message)
            });
        };
        if first != *port {
            let message = format!("network {first} has the same private key");
            let hint = "give each network a key of its own: their accounts are one otherwise";
            doubt("/private_key", message, hint);
        }
        if only.is_none_or(|only| only.contains(port)) {
            of_device(network, wireguard, &mut doubt);
        }
    }
    problems
}

/// Whose place in the network, what is doubtful, and what to do.
type Doubt<'a> = dyn FnMut(&str, String, &str) + 'a;

fn of_device(network: &Network, wireguard: &WireGuard, doubt: &mut Doubt<'_>) {
    if wireguard.address.is_empty() {
        let message = "without an `address`, nothing can be dialed through the device".to_owned();
        doubt(
            "",
            message,
            "write the gateway's own address in the network",
        );
    }
    let own = wireguard.private_key.public_key();
    for (key, peer) in &wireguard.peers {
        let place = format!("/peers/{}", escape(&key.to_string()));
        if *key == own {
            let message = "this is the network's own key: the peer is left out".to_owned();
            doubt(&place, message, "write the public key of the other machine");
        }
        let is_own = |prefix: &IpNet| is_host(prefix) && has(wireguard, prefix.addr());
        for prefix in peer.allowed_ips.iter().filter(|prefix| is_own(prefix)) {
            let message = format!("{} is the gateway's own address", prefix.addr());
            doubt(
                &place,
                message,
                "give the peer another one: nothing reaches it there",
            );
        }
    }
    // In any other namespace, other devices may lead to a target.
    if network.namespace == Namespace::Own {
        of_targets(network, wireguard, doubt);
    }
}

fn of_targets(network: &Network, wireguard: &WireGuard, doubt: &mut Doubt<'_>) {
    let reach = Reach::of(wireguard);
    let mut unreached = |place: &str, targets: &mut dyn Iterator<Item = SocketAddr>| {
        let lost: BTreeSet<IpAddr> = targets
            .map(|target| target.ip())
            .filter(|target| !reach.has(*target))
            .collect();
        for target in lost {
            let message =
                format!("{target} is in no peer's `allowed_ips`, so it cannot be reached");
            doubt(place, message, "add it to the peer that has it");
        }
    };
    unreached("/dns", &mut network.dns.iter().copied());
    for (key, pool) in network.proxy.iter() {
        let place = format!("/proxy/{}", escape(&key.to_string()));
        unreached(&place, &mut pool.targets.iter().filter_map(addressed));
    }
    for (index, route) in network.routes.iter().enumerate() {
        let targets = route.to.iter().flat_map(|to| &to.targets);
        let place = format!("/routes/{index}/to");
        unreached(&place, &mut targets.filter_map(addressed));
    }
}

/// Where a name leads is not known here.
fn addressed(target: &PoolTarget) -> Option<SocketAddr> {
    target.endpoint.address()
}

/// The allowed prefixes of all peers, and the lengths that they have.
struct Reach {
    prefixes: HashSet<IpNet>,
    lengths: BTreeSet<(bool, u8)>,
}

impl Reach {
    fn of(wireguard: &WireGuard) -> Self {
        let peers = wireguard.peers.values();
        let allowed = peers.flat_map(|peer| peer.allowed_ips.iter().map(IpNet::trunc));
        let prefixes: HashSet<IpNet> = allowed.collect();
        let length = |prefix: &IpNet| (prefix.addr().is_ipv4(), prefix.prefix_len());
        #[allow(
            clippy::disallowed_methods,
            reason = "the order in which lengths are put into a set does not matter"
        )]
        let lengths = prefixes.iter().map(length).collect();
        Self { prefixes, lengths }
    }

    fn has(&self, address: IpAddr) -> bool {
        let fitting = self.lengths.iter();
        let mut fitting = fitting.filter(|(is_ipv4, _)| *is_ipv4 == address.is_ipv4());
        fitting.any(|(_, length)| {
            let prefix = IpNet::new(address, *length);
            prefix.is_ok_and(|prefix| self.prefixes.contains(&prefix.trunc()))
        })
    }
}

fn is_host(prefix: &IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

fn has(wireguard: &WireGuard, address: IpAddr) -> bool {
    wireguard.address.iter().any(|own| own.addr() == address)
}

/// What counts of a key: see RFC 7748, section 5.
fn bits(key: &PrivateKey) -> [u8; 32] {
    crate::plan::clamped(key)
}

/// A key of an object within a JSON pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use control_api::state;
    use serde_json::{Value, json};

    use super::*;

    fn found(document: &Value, only: Option<&[u16]>) -> Vec<String> {
        let desired = state::parse(&document.to_string()).unwrap().value;
        let port = |port: &u16| NetworkKey::new(*port).unwrap();
        let only = only.map(|only| only.iter().map(port).collect());
        let found = doubts(&desired, only.as_ref());
        let found = found.iter();
        found
            .map(|it| format!("{}: {}", it.pointer, it.message))
            .collect()
    }

    fn network(key: &str, peers: Value, proxy: Value) -> Value {
        json!({
            "private_key": key.repeat(32), "address": ["10.0.0.1/24"], "peers": peers, "proxy": proxy,
        })
    }

    #[test]
    fn a_sound_document_gives_no_doubt() {
        let peers = json!({ "0a".repeat(32): { "allowed_ips": ["10.0.0.2/32", "fd00::/64"] } });
        let proxy = json!({ "a.example": ["10.0.0.2:80", "[fd00::7]:80"] });
        let here = json!({ "netns": "a", "proxy": { "b.example": ["127.0.0.1:80"] } });
        let document = json!({ "1": network("0c", peers, proxy), "2": here });
        assert_eq!(found(&document, None), [""; 0]);
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        let own: PrivateKey = "0c".repeat(32).parse().unwrap();
        let own = own.public_key().to_string();
        let peers = json!({
            own.clone(): { "allowed_ips": ["10.0.0.3/32"] },
            "0a".repeat(32): { "allowed_ips": ["10.0.0.1/32", "10.0.0.0/24"] },
        });
        let proxy = json!({ "a.example": ["10.0.0.2:80", "10.9.0.2:80"] });
        let mut first = network("0c", peers, proxy);
        first["routes"] = json!([{ "host": "b.example", "to": ["10.8.0.1:80"] }]);
        let listed = json!({ "private_key": "0d".repeat(32), "peers": [], "proxy": {} });
        let document = json!({
            "1": first, "2": listed, "3": network("0c", json!({}), json!({})),
        });
        let mut all = found(&document, None);
        all.sort();
        let place = |text: &str| all.iter().any(|found| found.starts_with(text));
        for text in [
            &*format!("/1/peers/{}: this is the network's own key", escape(&own)),
            "/1/proxy/https:~1~1a.example: 10.9.0.2 is in no peer's",
            "/1/routes/0/to: 10.8.0.1 is in no peer's",
            "/2: without an `address`",
            "/3/private_key: network 1 has the same",
        ] {
            assert!(place(text), "{text} in {all:#?}");
        }
        assert!(
            all.iter()
                .any(|it| it.ends_with("10.0.0.1 is the gateway's own address"))
        );
        assert_eq!(found(&document, Some(&[2])).len(), 1);
    }
}
