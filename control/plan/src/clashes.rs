//! What a listener of the boot file and one of a network cannot both have.

use std::net::SocketAddr;

use control_api::{
    Problem, Severity,
    boot::{Listener, ListenerName},
    overlap,
    place::NetworkKey,
    state::{Desired, Namespace, Network},
};

/// A listener of the boot file and one of a network that are in each other's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The position of the boot file's listener.
    index: usize,
    /// Its name.
    boots: ListenerName,
    /// The network.
    network: NetworkKey,
    /// The name of its listener.
    own: ListenerName,
    /// The address that they have connections in common of; `None` where they have one name.
    address: Option<SocketAddr>,
}

/// Everything in which listeners of the boot file and of networks are in each other's way. A state
/// document by itself has no such listeners, and neither has a boot file.
pub fn clashes(desired: &Desired, listeners: &[Listener]) -> Vec<Clash> {
    clashes_of(desired.networks.values(), listeners)
}

/// The same of some networks alone.
pub fn clashes_of<'n>(
    networks: impl Iterator<Item = &'n Network>,
    listeners: &[Listener],
) -> Vec<Clash> {
    let mut found = Vec::new();
    let own = networks.flat_map(|network| network.listeners.iter().map(move |it| (network, it)));
    for (network, (name, listener)) in own {
        let is_hosts = *listener.place(&network.namespace) == Namespace::Host;
        for (index, boots) in listeners.iter().enumerate() {
            let clash = |address| Clash {
                index,
                boots: boots.name.clone(),
                network: network.port,
                own: name.clone(),
                address,
            };
            if boots.name == *name {
                found.push(clash(None));
            } else if is_hosts && overlap(boots.bind, listener.bind) {
                found.push(clash(Some(listener.bind)));
            }
        }
    }
    found
}

impl Clash {
    /// The problem that a state document has with the boot file.
    pub fn of_document(&self) -> Problem {
        let Self {
            boots,
            network,
            own,
            address,
            ..
        } = self;
        let message = match address {
            None => {
                format!("the boot file has a listener `{boots}`: names are unique in the gateway")
            }
            Some(address) => {
                format!(
                    "the listener `{boots}` of the boot file has connections of {address} already"
                )
            }
        };
        Problem {
            pointer: format!("/{network}/listeners/{own}"),
            ..Problem::whole(Severity::Error, message)
        }
    }

    /// The problem that a boot file has with the state document.
    pub fn of_boot_file(&self) -> Problem {
        let Self {
            index,
            network,
            own,
            address,
            ..
        } = self;
        let message = match address {
            None => {
                format!("network {network} has a listener `{own}`: names are unique in the gateway")
            }
            Some(address) => {
                format!("the listener `{own}` of network {network} has {address} already")
            }
        };
        Problem {
            pointer: format!("/listeners/{index}"),
            ..Problem::whole(Severity::Error, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_api::{boot, state};
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_addresses_of_the_host_are_had_once() {
        let listener = |bind: &str, place: &str| json!({ "bind": bind, "in": place, "protocol": "tcp", "to": ["10.0.0.2:1"] });
        let document = json!({ "1": { "netns": "blue", "listeners": {
            "web": listener("10.0.0.1:80", "network"),
            "near": listener("127.0.0.1:443", "host"),
            "inside": listener("10.0.0.1:443", "network"),
        } } });
        let desired = state::parse(&document.to_string()).unwrap().value;
        let text = "listeners:\n- { name: web, bind: \"[::]:8080\", protocol: http }\n\
                    - { name: https, bind: \"[::]:443\", protocol: tls }";
        let boot = boot::parse(text, &BTreeMap::<String, String>::new()).unwrap();
        let found = clashes(&desired, &boot.value.listeners);
        let told = |problem: fn(&Clash) -> Problem| -> Vec<String> {
            found
                .iter()
                .map(|clash| problem(clash).to_string())
                .collect()
        };
        assert_eq!(
            told(Clash::of_document),
            [
                "/1/listeners/near: the listener `https` of the boot file has connections of 127.0.0.1:443 already",
                "/1/listeners/web: the boot file has a listener `web`: names are unique in the gateway",
            ]
        );
        assert_eq!(
            told(Clash::of_boot_file),
            [
                "/listeners/1: the listener `near` of network 1 has 127.0.0.1:443 already",
                "/listeners/0: network 1 has a listener `web`: names are unique in the gateway",
            ]
        );
    }
}
