//! The tenants of the demo: what they are called, their keys, and what is declared of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use control_api::state::{PrivateKey, PublicKey};
use ipnet::{IpNet, Ipv4Net};
use rustls::crypto::ring;
use serde_json::{Value, json};

use super::{
    error::DemoError,
    port::{Port, Transport},
};

/// The gateway's device in every network.
const GATEWAY_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The peer in every network: the same address for all, which is what the demo shows.
const PEER_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Both are in this network.
const PREFIX_LENGTH: u8 = 24;
/// The UDP port of the first network, if it is free: the one that WireGuard is known by.
const PORT_WANTED: u16 = 51_820;

/// What a tenant is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// In its peer's answers.
    pub(super) name: &'static str,
    /// What clients ask for.
    pub(super) hostname: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        name: "blue",
        hostname: "blue.example",
    },
    Names {
        name: "green",
        hostname: "green.example",
    },
];

/// A tenant: one network with one peer.
pub(super) struct Tenant {
    pub(super) names: Names,
    /// The network's public WireGuard port, by which the state document knows it.
    pub(super) port: Port,
    /// Of the network's device.
    pub(super) network_key: KeyPair,
    /// Of its peer's.
    pub(super) peer_key: KeyPair,
}

/// A fresh key.
pub(super) struct KeyPair {
    /// In hex, as documents take it.
    pub(super) private: String,
    pub(super) public: PublicKey,
}

/// All of them, each with a port and keys of its own.
pub(super) fn prepare() -> Result<Vec<Tenant>, DemoError> {
    let mut wanted = PORT_WANTED;
    let prepare = |names| {
        let port = Port::claim(Transport::Udp, wanted)?;
        wanted = port.number().saturating_add(1);
        Ok(Tenant {
            names,
            port,
            network_key: KeyPair::generate()?,
            peer_key: KeyPair::generate()?,
        })
    };
    NAMES.into_iter().map(prepare).collect()
}

/// The state document that declares them.
pub(super) fn document(tenants: &[Tenant]) -> String {
    let networks = tenants.iter().map(Tenant::declare);
    Value::Object(networks.collect()).to_string()
}

impl Tenant {
    /// Where its peer serves.
    pub(super) fn target() -> SocketAddr {
        SocketAddr::from((PEER_SIDE, 443))
    }

    /// The peer's address, and the network that it is in.
    pub(super) fn peer_address() -> IpNet {
        net(PEER_SIDE)
    }

    /// What every tenant uses.
    pub(super) fn subnet() -> IpNet {
        net(GATEWAY_SIDE).trunc()
    }

    pub(super) fn network(&self) -> String {
        format!("network-{}", self.port.number())
    }

    /// Where its peer finds the gateway's device.
    pub(super) fn endpoint(&self) -> SocketAddr {
        super::address(self.port.number())
    }

    fn declare(&self) -> (String, Value) {
        let network = json!({
            "address": [net(GATEWAY_SIDE)],
            "private_key": self.network_key.private,
            "peers": {
                self.peer_key.public.to_string(): {
                    "allowed_ips": [IpNet::from(IpAddr::V4(PEER_SIDE))],
                },
            },
            "proxy": { self.names.hostname: [Self::target()] },
        });
        (self.port.number().to_string(), network)
    }
}

impl KeyPair {
    /// Of the kernel's random numbers (getrandom(2)).
    fn generate() -> Result<Self, DemoError> {
        let mut bytes = [0; 32];
        let random = ring::default_provider().secure_random;
        random.fill(&mut bytes).map_err(|_| DemoError::Random)?;
        let private: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let key: PrivateKey = private.parse().map_err(DemoError::Key)?;
        Ok(Self {
            public: key.public_key(),
            private,
        })
    }
}

fn net(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, PREFIX_LENGTH))
}

#[cfg(test)]
mod tests {
    use control_api::state;

    use super::*;

    #[test]
    fn what_is_declared_is_a_state_document_without_a_warning() {
        let tenants = prepare().unwrap();
        let declared = state::parse(&document(&tenants)).unwrap();
        assert_eq!(declared.warnings.iter().count(), 0);
        assert_eq!(declared.value.networks.len(), tenants.len());
        for (network, tenant) in declared.value.networks.values().zip(&tenants) {
            assert_eq!(network.name().to_string(), tenant.network());
            assert_eq!(network.public_key(), Some(tenant.network_key.public));
            let peers = &network.wireguard.as_ref().unwrap().peers;
            assert!(peers.contains_key(&tenant.peer_key.public));
        }
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let tenants = prepare().unwrap();
        let keys = tenants.iter().flat_map(|t| [&t.network_key, &t.peer_key]);
        let different: std::collections::BTreeSet<_> = keys.map(|key| key.public).collect();
        assert_eq!(different.len(), 2 * tenants.len());
    }
}
