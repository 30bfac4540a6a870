//! The state document: which networks there are, and what each of them serves.
//!
//! A JSON object keyed by the public WireGuard port of each network, or `{"networks": …}` with that
//! object. It stands for the whole desired state: what is not in it, is to go.

mod claims;
mod edit;
mod key;
mod network;
mod pages;
mod part;
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
mod tls;
mod wireguard;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU16,
};

pub use claims::Claims;
pub use edit::{Change, EditError, edit};
use engine_core::hostname::HostPattern;
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use network::{Namespace, Network};
pub use pages::ErrorPages;
pub use part::List;
pub use peers::Peer;
pub use pem::{Authorities, Chain};
pub use pool::{Pool, PoolTarget, TARGETS_MAX};
pub use proxy::{ProxyKey, Scheme};
pub use reference::reference;
pub use route::{Route, RuleId};
pub use schema::{parts as schema_parts, schema};
pub use secret::KEPT;
use secret::{Kept, Secrets};
use serde_json::Value;
pub use tls::{Acme, CertificateFiles, MinVersion, Terminated, Tls};
pub use wireguard::{MTU_DEFAULT, WireGuard};

use crate::{
    document::{self, Content, Duplicates, Fields, Spot},
    place::parse_port,
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
    /// The networks, by their public port.
    pub networks: BTreeMap<NonZeroU16, Network>,
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

/// The networks are the document, or its member `networks`.
fn read(root: &Spot<'_>, current: Option<&Desired>, problems: &mut Problems) -> Option<Desired> {
    let is_wrapped = match &root.node.content {
        Content::Map(entries) => entries.iter().any(|entry| &*entry.key == NETWORKS),
        Content::Null
        | Content::Bool(_)
        | Content::Plain(_)
        | Content::Text(_)
        | Content::List(_) => false,
    };
    if !is_wrapped {
        return read_networks(root, current, problems);
    }
    let fields = Fields::open(root, &[NETWORKS], problems)?;
    read_networks(fields.need(NETWORKS, problems)?, current, problems)
}

/// Secrets are kept from `current`, or where there is none, stay to be kept.
fn read_networks(
    spot: &Spot<'_>,
    current: Option<&Desired>,
    problems: &mut Problems,
) -> Option<Desired> {
    let mut desired = Desired::default();
    let mut taken = Taken::default();
    for spot in spot.entries(Duplicates::Refused, problems)? {
        let Some(port) = parse_port(spot.key()) else {
            let key = printable(spot.key());
            spot.error_with_hint(
                problems,
                format_args!("`{key}` is not a port"),
                "networks are keyed by their public WireGuard port, from 1 to 65535",
            );
            continue;
        };
        let kept = match current {
            Some(current) => Kept::From(current.networks.get(&port)),
            None => Kept::AsItIs,
        };
        if let Some(network) = network::read(port, &spot, kept, &mut taken, problems) {
            desired.networks.insert(port, network);
        }
    }
    Some(desired)
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

    fn render(&self, secrets: Secrets) -> Value {
        let networks = self.networks.iter();
        Value::Object(
            networks
                .map(|(port, network)| (port.to_string(), network::write(network, secrets)))
                .collect(),
        )
    }
}

/// What only one network may have: hosts, as a tenant must not take another's name, what is for hosts
/// that nobody declared, and ids of rules.
#[derive(Debug, Default)]
struct Taken {
    hosts: HashMap<Option<HostPattern>, NonZeroU16>,
    ids: HashMap<RuleId, NonZeroU16>,
}

impl Taken {
    /// What all networks but one have.
    fn by_others(desired: &Desired, except: NonZeroU16) -> Self {
        let mut taken = Self::default();
        let others = desired.networks.iter().filter(|(port, _)| **port != except);
        for (port, network) in others {
            let catch_all = network.routes.iter();
            let catch_all = catch_all.filter(|route| route.host.pattern().is_none());
            let hosts = network.hosts().map(Some).chain(catch_all.map(|_| None));
            taken.hosts.extend(hosts.map(|host| (host.cloned(), *port)));
            let ids = network.routes.iter().filter_map(|route| route.id.clone());
            taken.ids.extend(ids.map(|id| (id, *port)));
        }
        taken
    }

    /// Notes the host as the network's, or says whose it is.
    fn claim(&mut self, host: Option<&HostPattern>, port: NonZeroU16) -> Result<(), NonZeroU16> {
        let holder = *self.hosts.entry(host.cloned()).or_insert(port);
        if holder == port { Ok(()) } else { Err(holder) }
    }

    /// Notes an id as that of a rule of the network, or says which network has a rule of this id.
    fn name(&mut self, id: &RuleId, port: NonZeroU16) -> Result<(), NonZeroU16> {
        match self.ids.insert(id.clone(), port) {
            None => Ok(()),
            Some(holder) => Err(holder),
        }
    }
}

#[cfg(test)]
mod tests;
