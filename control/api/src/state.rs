//! The state document: which networks there are, and what each of them serves.
//!
//! A JSON object keyed by the public WireGuard port of each network. It stands for the whole
//! desired state: what is not in it, is to go.

mod key;
mod network;
mod pool;
mod proxy;
mod wireguard;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU16,
};

use engine_core::hostname::HostPattern;
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use network::{Namespace, Network};
pub use pool::{Pool, PoolTarget, TARGETS_MAX};
pub use proxy::{ProxyKey, Scheme};
use serde_json::Value;
pub use wireguard::{MTU_DEFAULT, Peer, WireGuard};

use crate::{
    document::{self, Duplicates, Spot},
    place::parse_port,
    problem::{Problems, Valid},
    word::printable,
};

/// A valid state document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Desired {
    /// The networks, by their public port.
    pub networks: BTreeMap<NonZeroU16, Network>,
}

/// Reads a state document.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(text: &str) -> Result<Valid<Desired>, Problems> {
    let mut problems = Problems::default();
    let desired = document::read_json(text, &mut problems)
        .and_then(|node| read(&Spot::root(&node), &mut problems));
    problems.decide(desired)
}

fn read(root: &Spot<'_>, problems: &mut Problems) -> Option<Desired> {
    let mut desired = Desired::default();
    let mut owners = Owners::default();
    for spot in root.entries(Duplicates::Refused, problems)? {
        let Some(port) = parse_port(spot.key()) else {
            let key = printable(spot.key());
            spot.error_with_hint(
                problems,
                format_args!("`{key}` is not a port"),
                "networks are keyed by their public WireGuard port, from 1 to 65535",
            );
            continue;
        };
        if let Some(network) = network::read(port, &spot, &mut owners, problems) {
            desired.networks.insert(port, network);
        }
    }
    Some(desired)
}

impl Desired {
    /// The document that reads as the same value, with the private keys in it.
    pub fn render_with_secrets(&self) -> Value {
        let networks = self.networks.iter();
        Value::Object(
            networks
                .map(|(port, network)| (port.to_string(), network::write(network)))
                .collect(),
        )
    }
}

/// Which network each host belongs to: a tenant must not take another's name.
#[derive(Debug, Default)]
struct Owners(HashMap<HostPattern, NonZeroU16>);

impl Owners {
    /// Notes the host as the network's, or says whose it is.
    fn claim(&mut self, host: &HostPattern, port: NonZeroU16) -> Result<(), NonZeroU16> {
        let owner = *self.0.entry(host.clone()).or_insert(port);
        if owner == port { Ok(()) } else { Err(owner) }
    }
}

#[cfg(test)]
mod tests;
