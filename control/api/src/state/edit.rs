//! Changes of the desired state, as pure functions: what was, and what is asked for, into what is
//! desired next, or everything that is wrong with it.

mod objects;
mod replace;

use std::fmt;

use super::{Desired, OWNERS_MAX, Owner, RuleId, Whose, key::PublicKey};
use crate::{
    boot::ListenerName,
    place::NetworkKey,
    problem::{Problem, Problems, Severity, Valid},
};

/// A change of the desired state. Its texts may hold secrets: `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// A state document becomes all that is desired of those whose it is.
    Replace {
        /// The document; `(kept)` in it keeps a secret that is there.
        text: String,
    },
    /// One network is changed by a JSON Merge Patch (RFC 7396) of its part of the document. `null`
    /// removes: `"netns": null` leads to the network's own namespace, not to the host's.
    PatchNetwork {
        /// The network's public port.
        port: NetworkKey,
        /// The patch.
        text: String,
    },
    /// One network is added, or replaced whole.
    PutNetwork {
        /// The network's public port.
        port: NetworkKey,
        /// What stands at the network's port in a document; `(kept)` in it keeps a secret that is
        /// there.
        text: String,
    },
    /// One network goes.
    RemoveNetwork {
        /// The network's public port.
        port: NetworkKey,
    },
    /// One rule is added after all others, or replaced in its place.
    PutRoute {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        id: RuleId,
        /// What stands in the list of rules of a document, with or without its id; `(kept)` in it
        /// keeps a secret that is there.
        text: String,
    },
    /// One rule goes.
    RemoveRoute {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        id: RuleId,
    },
    /// One listener is added, or replaced.
    PutListener {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        name: ListenerName,
        /// What stands at the listener's name in a document.
        text: String,
    },
    /// One listener goes.
    RemoveListener {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        name: ListenerName,
    },
    /// One peer is added, or replaced.
    PutPeer {
        /// The network's public port.
        port: NetworkKey,
        /// Who.
        key: PublicKey,
        /// What stands at the peer's key in a document.
        text: String,
    },
    /// One peer goes.
    RemovePeer {
        /// The network's public port.
        port: NetworkKey,
        /// Who.
        key: PublicKey,
    },
    /// What some owner, or everybody, had in an earlier generation is desired again.
    Rollback {
        /// Which.
        generation: u64,
        /// Its document, with its secrets.
        text: String,
    },
}

impl Change {
    /// The network that it is about; `None` where it is about a whole document.
    pub fn network(&self) -> Option<NetworkKey> {
        match self {
            Self::Replace { .. } | Self::Rollback { .. } => None,
            Self::PatchNetwork { port, .. }
            | Self::PutNetwork { port, .. }
            | Self::RemoveNetwork { port }
            | Self::PutRoute { port, .. }
            | Self::RemoveRoute { port, .. }
            | Self::PutListener { port, .. }
            | Self::RemoveListener { port, .. }
            | Self::PutPeer { port, .. }
            | Self::RemovePeer { port, .. } => Some(*port),
        }
    }
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
            Self::PutListener { port, name, .. } => {
                write!(f, "put listener {name} of network-{port}")
            }
            Self::RemoveListener { port, name } => {
                write!(f, "remove listener {name} of network-{port}")
            }
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

/// Whose objects a change is about, and how far it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Whose objects are written or removed: those of `api` unless somebody else is named.
    pub whose: Whose,
    /// Whether what others have in a network goes with it. Otherwise the network stays.
    pub cascade: bool,
}

/// Why a change comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The network is not declared.
    #[error("there is no network {0}")]
    UnknownNetwork(NetworkKey),
    /// The network is declared, and has no device that peers could belong to.
    #[error("network {0} has no WireGuard device")]
    NoDevice(NetworkKey),
    /// The network has no such peer.
    #[error("network {port} has no peer {key}")]
    UnknownPeer {
        /// The network's public port.
        port: NetworkKey,
        /// Who.
        key: PublicKey,
    },
    /// The network has no rule with this id.
    #[error("network {port} has no route {id}")]
    UnknownRoute {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        id: RuleId,
    },
    /// It is there, and somebody else's.
    #[error("{object} belongs to `{owner}`")]
    Foreign {
        /// A network, a rule or a peer, as the API names it.
        object: String,
        /// Whose it is.
        owner: Owner,
    },
    /// The network has no listener of this name.
    #[error("network {port} has no listener {name}")]
    UnknownListener {
        /// The network's public port.
        port: NetworkKey,
        /// Which.
        name: ListenerName,
    },
    /// What was written is wrong. For a patch or a network, pointers begin at the network; for a
    /// rule, a listener or a peer, there.
    #[error("the document has problems")]
    Problems(Problems),
}

/// Applies a change. The same change applied again changes nothing more, but for removals, which
/// find nothing.
///
/// # Errors
/// If what it is about does not exist or is not of those whose objects are meant, or if what it says
/// is wrong: then with everything wrong.
pub fn edit(
    current: &Desired,
    change: &Change,
    scope: &Scope,
) -> Result<Valid<Desired>, EditError> {
    let whose = &scope.whose;
    let edited = match change {
        Change::Replace { text } => replace::replace(current, text, scope),
        Change::Rollback { text, .. } => replace::roll_back(current, text, scope),
        Change::PutNetwork { port, text } => objects::put_network(current, *port, text, whose),
        Change::PatchNetwork { port, text } => objects::patch_network(current, *port, text, whose),
        Change::RemoveNetwork { port } => objects::remove_network(current, *port, scope),
        Change::PutRoute { port, id, text } => {
            objects::put_route(current, (*port, id), text, whose)
        }
        Change::RemoveRoute { port, id } => objects::remove_route(current, (*port, id), whose),
        Change::PutListener { port, name, text } => {
            objects::put_listener(current, (*port, name), text, whose)
        }
        Change::RemoveListener { port, name } => {
            objects::remove_listener(current, (*port, name), whose)
        }
        Change::PutPeer { port, key, text } => {
            objects::put_peer(current, (*port, *key), text, whose)
        }
        Change::RemovePeer { port, key } => objects::remove_peer(current, (*port, *key), whose),
    }?;
    bound_owners(&edited.value)?;
    Ok(edited)
}

fn bound_owners(desired: &Desired) -> Result<(), EditError> {
    if desired.owners().len() <= OWNERS_MAX {
        return Ok(());
    }
    let message = format!("more than {OWNERS_MAX} owners have something in the desired state");
    let mut problems = Problems::default();
    problems.push(Problem::whole(Severity::Error, message));
    Err(EditError::Problems(problems))
}

/// Whether an object may be changed by those who ask.
fn own(whose: &Whose, owner: &Owner, object: impl fmt::Display) -> Result<(), EditError> {
    match whose.has(owner) {
        true => Ok(()),
        false => Err(EditError::Foreign {
            object: object.to_string(),
            owner: owner.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
