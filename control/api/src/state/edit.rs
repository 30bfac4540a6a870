//! Changes of the desired state, as pure functions: what was, and what is asked for, into what is
//! desired next, or everything that is wrong with it.

use std::{fmt, num::NonZeroU16};

use super::{
    Desired, Network, RuleId, Taken,
    key::PublicKey,
    network, patch, peers,
    routes::{self, Beside},
    secret::Kept,
};
use crate::{
    document::{self, At, Content, Node, Spot},
    problem::{Problems, Valid},
};

/// A change of the desired state. Its texts may hold secrets: `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// A state document becomes the whole desired state.
    Replace {
        /// The document; `(kept)` in it keeps a secret that is there.
        text: String,
    },
    /// One network is changed by a JSON Merge Patch (RFC 7396) of its part of the document. `null`
    /// removes: `"netns": null` leads to the network's own namespace, not to the host's.
    PatchNetwork {
        /// The network's public port.
        port: NonZeroU16,
        /// The patch.
        text: String,
    },
    /// One network is added, or replaced whole.
    PutNetwork {
        /// The network's public port.
        port: NonZeroU16,
        /// What stands at the network's port in a document; `(kept)` in it keeps a secret that is
        /// there.
        text: String,
    },
    /// One network goes.
    RemoveNetwork {
        /// The network's public port.
        port: NonZeroU16,
    },
    /// One rule is added after all others, or replaced in its place.
    PutRoute {
        /// The network's public port.
        port: NonZeroU16,
        /// Which.
        id: RuleId,
        /// What stands in the list of rules of a document, with or without its id; `(kept)` in it
        /// keeps a secret that is there.
        text: String,
    },
    /// One rule goes.
    RemoveRoute {
        /// The network's public port.
        port: NonZeroU16,
        /// Which.
        id: RuleId,
    },
    /// One peer is added, or replaced.
    PutPeer {
        /// The network's public port.
        port: NonZeroU16,
        /// Who.
        key: PublicKey,
        /// What stands at the peer's key in a document.
        text: String,
    },
    /// One peer goes.
    RemovePeer {
        /// The network's public port.
        port: NonZeroU16,
        /// Who.
        key: PublicKey,
    },
    /// The document of an earlier generation becomes the whole desired state again.
    Rollback {
        /// Which.
        generation: u64,
        /// Its document, with its secrets.
        text: String,
    },
}

impl fmt::Display for Change {
    /// What it does, as in the list of generations.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace { .. } => f.write_str("apply"),
            Self::PatchNetwork { port, .. } => write!(f, "patch network-{port}"),
            Self::PutNetwork { port, .. } => write!(f, "put network-{port}"),
            Self::PutRoute { port, id, .. } => write!(f, "put route {id} of network-{port}"),
            Self::RemoveRoute { port, id } => write!(f, "remove route {id} of network-{port}"),
            Self::RemoveNetwork { port } => write!(f, "remove network-{port}"),
            Self::PutPeer { port, key, .. } => write!(f, "put peer {key} of network-{port}"),
            Self::RemovePeer { port, key } => write!(f, "remove peer {key} of network-{port}"),
            Self::Rollback { generation, .. } => write!(f, "roll back to generation {generation}"),
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({self})")
    }
}

/// Why a change comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The network is not declared.
    #[error("there is no network {0}")]
    UnknownNetwork(NonZeroU16),
    /// The network is declared, and has no device that peers could belong to.
    #[error("network {0} has no WireGuard device")]
    NoDevice(NonZeroU16),
    /// The network has no such peer.
    #[error("network {port} has no peer {key}")]
    UnknownPeer {
        /// The network's public port.
        port: NonZeroU16,
        /// Who.
        key: PublicKey,
    },
    /// The network has no rule with this id.
    #[error("network {port} has no route {id}")]
    UnknownRoute {
        /// The network's public port.
        port: NonZeroU16,
        /// Which.
        id: RuleId,
    },
    /// What was written is wrong. For a patch or a network, pointers begin at the network; for a
    /// rule or a peer, there.
    #[error("the document has problems")]
    Problems(Problems),
}

/// Applies a change. The same change applied again changes nothing more, but for removals, which
/// find nothing.
///
/// # Errors
/// If what it is about does not exist, or what it says is wrong: then with everything wrong.
pub fn edit(current: &Desired, change: &Change) -> Result<Valid<Desired>, EditError> {
    match change {
        Change::Replace { text } => super::parse_over(text, current).map_err(EditError::Problems),
        Change::Rollback { text, .. } => super::parse(text).map_err(EditError::Problems),
        Change::PatchNetwork { port, text } => patch_network(current, *port, text),
        Change::RemoveNetwork { port } => {
            let mut desired = current.clone();
            match desired.networks.remove(port) {
                Some(_) => Ok(Valid::without_warnings(desired)),
                None => Err(EditError::UnknownNetwork(*port)),
            }
        }
        Change::PutNetwork { port, text } => put_network(current, *port, text),
        Change::PutRoute { port, id, text } => put_route(current, *port, id, text),
        Change::RemoveRoute { port, id } => remove_route(current, *port, id),
        Change::PutPeer { port, key, text } => put_peer(current, *port, *key, text),
        Change::RemovePeer { port, key } => remove_peer(current, *port, *key),
    }
}

fn patch_network(
    current: &Desired,
    port: NonZeroU16,
    text: &str,
) -> Result<Valid<Desired>, EditError> {
    let network = current.networks.get(&port);
    let network = network.ok_or(EditError::UnknownNetwork(port))?;
    let mut problems = Problems::default();
    let written = network::write(network, super::secret::Secrets::Kept).to_string();
    let merged = document::read_json(&written, &mut problems)
        .zip(read_patch(text, &mut problems))
        .map(|(mut merged, patch)| {
            patch::merge(&mut merged, patch);
            merged
        });
    let patched = merged.and_then(|merged| read_network(current, port, &merged, &mut problems));
    decide_network(current, port, patched, problems)
}

fn put_network(
    current: &Desired,
    port: NonZeroU16,
    text: &str,
) -> Result<Valid<Desired>, EditError> {
    let mut problems = Problems::default();
    let network = document::read_json(text, &mut problems)
        .and_then(|node| read_network(current, port, &node, &mut problems));
    decide_network(current, port, network, problems)
}

/// Reads a network in the place of the one of a state with its port, and beside all others.
fn read_network(
    current: &Desired,
    port: NonZeroU16,
    node: &Node,
    problems: &mut Problems,
) -> Option<Network> {
    let kept = Kept::From(current.networks.get(&port));
    let mut taken = Taken::by_others(current, port);
    network::read(port, &Spot::root(node), kept, &mut taken, problems)
}

/// The state with a network that was read, or everything that is wrong with it.
fn decide_network(
    current: &Desired,
    port: NonZeroU16,
    network: Option<Network>,
    problems: Problems,
) -> Result<Valid<Desired>, EditError> {
    let desired = network.map(|network| {
        let mut desired = current.clone();
        desired.networks.insert(port, network);
        desired
    });
    problems.decide(desired).map_err(EditError::Problems)
}

fn read_patch(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut patch = document::read_json(text, problems)?;
    patch::canonical(&mut patch);
    patch::refuse_duplicates(&Spot::root(&patch), problems);
    Some(patch)
}

fn put_route(
    current: &Desired,
    port: NonZeroU16,
    id: &RuleId,
    text: &str,
) -> Result<Valid<Desired>, EditError> {
    let network = current.networks.get(&port);
    let network = network.ok_or(EditError::UnknownNetwork(port))?;
    let mut problems = Problems::default();
    let routes = document::read_json(text, &mut problems).and_then(|node| {
        let beside = Beside::of(network);
        let mut taken = Taken::by_others(current, port);
        let rule = (id, &*network.routes);
        routes::put(&Spot::root(&node), rule, &beside, &mut taken, &mut problems)
    });
    let changed = routes.map(|routes| Network {
        routes,
        ..network.clone()
    });
    decide_network(current, port, changed, problems)
}

fn remove_route(
    current: &Desired,
    port: NonZeroU16,
    id: &RuleId,
) -> Result<Valid<Desired>, EditError> {
    let network = current.networks.get(&port);
    let network = network.ok_or(EditError::UnknownNetwork(port))?;
    if network.route(id).is_none() {
        let id = id.clone();
        return Err(EditError::UnknownRoute { port, id });
    }
    let mut problems = Problems::default();
    let nowhere = Node::new(At::Line(1), Content::Null);
    let rule = (id, &*network.routes);
    let mut taken = Taken::by_others(current, port);
    let routes = routes::remove(
        &Spot::root(&nowhere),
        rule,
        &Beside::of(network),
        &mut taken,
        &mut problems,
    );
    let changed = Network {
        routes,
        ..network.clone()
    };
    decide_network(current, port, Some(changed), problems)
}

fn put_peer(
    current: &Desired,
    port: NonZeroU16,
    key: PublicKey,
    text: &str,
) -> Result<Valid<Desired>, EditError> {
    let network = current.networks.get(&port);
    let network = network.ok_or(EditError::UnknownNetwork(port))?;
    let wireguard = network.wireguard.as_ref();
    let wireguard = wireguard.ok_or(EditError::NoDevice(port))?;
    let mut problems = Problems::default();
    let peers = document::read_json(text, &mut problems)
        .and_then(|node| peers::put(&wireguard.peers, key, &Spot::root(&node), &mut problems));
    let desired = peers.map(|peers| {
        let mut desired = current.clone();
        let network = desired.networks.get_mut(&port);
        if let Some(wireguard) = network.and_then(|network| network.wireguard.as_mut()) {
            wireguard.peers = peers;
        }
        desired
    });
    problems.decide(desired).map_err(EditError::Problems)
}

fn remove_peer(
    current: &Desired,
    port: NonZeroU16,
    key: PublicKey,
) -> Result<Valid<Desired>, EditError> {
    let mut desired = current.clone();
    let network = desired.networks.get_mut(&port);
    let network = network.ok_or(EditError::UnknownNetwork(port))?;
    let wireguard = network.wireguard.as_mut();
    let wireguard = wireguard.ok_or(EditError::NoDevice(port))?;
    match wireguard.peers.remove(&key) {
        Some(_) => Ok(Valid::without_warnings(desired)),
        None => Err(EditError::UnknownPeer { port, key }),
    }
}

#[cfg(test)]
mod tests;
