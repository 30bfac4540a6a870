//! The state document: which networks there are, and what each of them serves.
//!
//! A JSON object keyed by the public WireGuard port of each network, or `{"networks": …}` with that
//! object. It stands for the whole desired state: what is not in it, is to go.

mod claims;
pub mod difference;
mod dns;
mod edit;
mod key;
mod listeners;
mod network;
mod networks;
mod owner;
mod pages;
mod part;
mod parts;
mod patch;
mod peers;
mod pem;
mod pool;
mod proxy;
mod reference;
pub mod route;
mod routes;
mod schema;
mod secret;
mod taken;
mod tls;
mod wireguard;

use std::collections::BTreeSet;

pub use claims::Claims;
pub use dns::NAME_SERVERS_MAX;
pub use edit::{Change, EditError, Scope, edit};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use listeners::{LISTENERS_MAX, Listener, ProxyHeader, Where};
use network::{Among, Objects};
pub use network::{Namespace, Network};
pub use networks::Networks;
pub use owner::{OWNERS_MAX, Owner, OwnerError, Whose};
pub use pages::ErrorPages;
pub use part::List;
pub use parts::changed_owners;
pub use peers::Peer;
pub use pem::{Authorities, Chain};
pub use pool::{Pool, PoolTarget, TARGETS_MAX};
pub use proxy::{ProxyKey, Scheme};
pub use reference::reference;
pub use route::{Route, RuleId};
pub use routes::served;
pub use schema::{parts as schema_parts, schema};
pub use secret::KEPT;
use secret::{Kept, Secrets};
use serde_json::Value;
use taken::{Holder, Taken};
pub use tls::{Acme, CertificateFiles, MinVersion, Terminated, Tls};
pub use wireguard::{MTU_DEFAULT, WireGuard};

use crate::{
    document::{self, Content, Duplicates, Fields, Spot},
    place::NetworkKey,
    problem::{Problem, Problems, Valid},
    word::printable,
};

/// The member of a document that has the networks, where they are not the document itself.
const NETWORKS: &str = "networks";

/// A host or `*.domain`, as a regular expression (ECMA-262).
pub(crate) const HOST_PATTERN: &str = r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$";

/// A valid state document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Desired {
    /// The networks, by their keys.
    pub networks: Networks,
}

/// Reads a state document.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(text: &str) -> Result<Valid<Desired>, Problems> {
    parse_over(text, &Desired::default())
}

/// Reads a state document in the place of another one: a secret that is written [`KEPT`] is the one
/// that the same network, or the same peer of it, had there.
///
/// # Errors
/// Everything that is wrong; also a secret that was to be kept and is not there.
pub fn parse_over(text: &str, current: &Desired) -> Result<Valid<Desired>, Problems> {
    let mut problems = Problems::default();
    let desired = document::read_json(text, &mut problems)
        .and_then(|node| read(&Spot::root(&node), Some(current), &mut problems));
    problems.decide(desired)
}

/// Reads a state document for showing alone: [`KEPT`] in its rules stays what it is.
///
/// # Errors
/// Everything that is wrong.
pub fn parse_masked(text: &str) -> Result<Valid<Desired>, Problems> {
    let mut problems = Problems::default();
    let desired = document::read_json(text, &mut problems)
        .and_then(|node| read(&Spot::root(&node), None, &mut problems));
    problems.decide(desired)
}

/// Gives a problem that was found later its line in the document.
pub fn locate(text: &str, problem: &mut Problem) {
    let Some(root) = document::read_json(text, &mut Problems::default()) else {
        return;
    };
    let wrapped = format!("/{NETWORKS}{}", problem.pointer);
    let at = root
        .at(&wrapped)
        .filter(|_| root.at(&format!("/{NETWORKS}")).is_some());
    let at = at.or_else(|| root.at(&problem.pointer));
    problem.line = at.and_then(|at| at.place().0);
}

/// Secrets are kept from `current`, or where there is none, stay to be kept.
fn read(root: &Spot<'_>, current: Option<&Desired>, problems: &mut Problems) -> Option<Desired> {
    with_networks(root, problems, |spots, problems| {
        let mut desired = Desired::default();
        let mut taken = Taken::default();
        let nothing = Networks::default();
        let before = current.map_or(&nothing, |current| &current.networks);
        for spot in spots {
            let Some(port) = read_port(spot, problems) else {
                continue;
            };
            let kept = match current {
                Some(current) => Kept::From(current.networks.get(&port)),
                None => Kept::AsItIs,
            };
            let among = Among {
                port,
                whose: &Whose::All,
                kept,
                others: &Objects::default(),
            };
            if let Some(network) = network::read(spot, among, &mut taken, problems) {
                desired.networks.insert(network, before);
            }
        }
        Some(desired)
    })
}

/// Reads the networks of a document: they are the document, or its member `networks`.
fn with_networks<T>(
    root: &Spot<'_>,
    problems: &mut Problems,
    read: impl FnOnce(&[Spot<'_>], &mut Problems) -> Option<T>,
) -> Option<T> {
    let is_wrapped = match &root.node.content {
        Content::Map(entries) => entries.iter().any(|entry| &*entry.key == NETWORKS),
        Content::Null
        | Content::Bool(_)
        | Content::Plain(_)
        | Content::Text(_)
        | Content::List(_) => false,
    };
    if !is_wrapped {
        let spots = root.entries(Duplicates::Refused, problems)?;
        return read(&spots, problems);
    }
    let fields = Fields::open(root, &[NETWORKS], problems)?;
    let networks = fields.need(NETWORKS, problems)?;
    let spots = networks.entries(Duplicates::Refused, problems)?;
    read(&spots, problems)
}

/// The port that a network stands at.
fn read_port(spot: &Spot<'_>, problems: &mut Problems) -> Option<NetworkKey> {
    let port = spot.key().parse().ok();
    if port.is_none() {
        let key = printable(spot.key());
        spot.error_with_hint(
            problems,
            format_args!("`{key}` is not a port"),
            "networks are keyed by their public WireGuard port, from 1 to 65535",
        );
    }
    port
}

impl Desired {
    /// The document that reads as the same value, with the secrets in it.
    pub fn render_with_secrets(&self) -> Value {
        self.render(Secrets::Shown)
    }

    /// The document with [`KEPT`] in the place of each secret. Read over this value, it is the same
    /// value again.
    pub fn render_masked(&self) -> Value {
        self.render(Secrets::Kept)
    }

    /// What some owner has of it, with the secrets in it.
    pub fn render_part_with_secrets(&self, whose: &Whose) -> Value {
        self.render_part(whose, Secrets::Shown)
    }

    /// What some owner has of it, with [`KEPT`] in the place of each secret.
    pub fn render_part_masked(&self, whose: &Whose) -> Value {
        self.render_part(whose, Secrets::Kept)
    }

    fn render(&self, secrets: Secrets) -> Value {
        self.render_part(&Whose::All, secrets)
    }

    fn render_part(&self, whose: &Whose, secrets: Secrets) -> Value {
        let networks = self.networks.iter();
        let networks = networks.filter_map(|(port, network)| {
            Some((port.to_string(), network.render(whose, secrets)?))
        });
        Value::Object(networks.collect())
    }

    /// Every owner who has something in it.
    pub fn owners(&self) -> BTreeSet<&Owner> {
        self.networks.owners()
    }
}

#[cfg(test)]
mod tests;
