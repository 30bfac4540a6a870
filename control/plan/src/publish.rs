//! A valid state document into the table that workers route by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Listener, ListenerName, ListenerTerms},
    place::{NetnsName, NetworkKey, NetworkName, Place},
    state::{Desired, Namespace},
};
use engine_core::{
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId},
    snapshot::Snapshot,
};
use engine_http::rules::Table;

use crate::{ids::Ids, tls::Tls};

mod before;
mod change;
mod draft;
mod reach;
mod rules;
mod whole;

use before::Before;
pub(crate) use before::frame;
pub use reach::{Unserved, unserved};

/// A snapshot, and what it needs.
#[derive(Debug)]
pub struct Planned {
    /// What the workers route by.
    pub snapshot: Snapshot,
    /// What they decide HTTP requests by; its rules' routes are the snapshot's.
    pub http: Table,
    /// Whose TLS ends here, and how targets are spoken with.
    pub tls: Tls,
    /// Who is asked for the names of a network's targets.
    pub name_servers: BTreeMap<NetworkId, NameServers>,
    /// Every namespace that the snapshot names; the host's is always among them.
    pub namespaces: BTreeMap<NetnsId, NamespaceSource>,
    /// Where connections come in: all listeners, whatever changes.
    pub listeners: Vec<PlannedListener>,
    /// What of the running publication is there no longer; what of `tls`, `name_servers` and
    /// `namespaces` is not said here stays. `None` where this is all of it.
    pub gone: Option<Gone>,
}

/// What a publication has no longer.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// Names whose TLS ends here no longer, unless it is said anew.
    pub names: Vec<HostPattern>,
    /// Whether the terms for names that nobody declared are as they are said, be it that none are.
    pub others: bool,
    /// Routes whose targets are spoken with in plain HTTP/1, unless it is said anew.
    pub origins: Vec<RouteId>,
    /// Networks without targets that are names.
    pub name_servers: Vec<NetworkId>,
    /// Namespaces that no network is in.
    pub namespaces: Vec<NetnsId>,
}

/// A listener, with all that control and the workers have to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedListener {
    /// Stable over snapshots in which the name is declared.
    pub id: ListenerId,
    /// Unique in the gateway.
    pub name: ListenerName,
    /// The network that declares it, and whose names alone it serves; `None` for the boot file's.
    pub owner: Option<NetworkKey>,
    /// That network as the workers know it.
    pub network: Option<NetworkId>,
    /// Its address.
    pub bind: SocketAddr,
    /// The namespace that it is an address of.
    pub place: NamespaceSource,
    /// What it does with connections.
    pub terms: ListenerTerms,
}

/// Who is asked for the names of a network's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServers {
    /// Those that the network names.
    Declared(Vec<SocketAddr>),
    /// Those that the host asks.
    Host,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespaceSource {
    /// The one that Ringway runs in.
    Host,
    /// `network-<port>`, made when it does not exist.
    Made(NetworkKey),
    /// One that has to exist.
    Existing(NetnsName),
}

/// The hosts of a network that is not served: nobody else is to have their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose they are.
    pub network: NetworkName,
    /// Those of which a declared network has none of its own are refused TLS and answered 503.
    pub hosts: BTreeSet<HostPattern>,
}

/// What one publication is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The desired state.
    pub desired: &'a Desired,
    /// Networks that are left out of it.
    pub held: &'a [Held],
    /// The boot file's listeners.
    pub listeners: &'a [Listener],
    /// The number of the publication.
    pub generation: Generation,
    /// What the workers route by; `None` before the first publication.
    pub running: Option<Running<'a>>,
}

/// What the workers route by.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Connections.
    pub snapshot: &'a Snapshot,
    /// HTTP requests.
    pub http: &'a Table,
}

/// Makes publications, each from the one before: what a change costs is what the hosts cost that it
/// is about. A copy shares everything.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    ids: Ids,
    /// The publication before; `None` where the next one is made from nothing.
    before: Option<Before>,
}

impl Planner {
    /// Begins with nothing planned, and with these ids.
    pub fn new(ids: Ids) -> Self {
        Self { ids, before: None }
    }

    /// Has the next publication made from nothing.
    pub fn forget(&mut self) {
        self.before = None;
    }

    /// Plans a publication. The planner that comes with it goes on from it; this one stays as it is, so
    /// that a plan may come to nothing.
    ///
    /// # Errors
    /// Every place of a listener that is in no declared network.
    pub fn plan(&self, input: Input<'_>) -> Result<(Planned, Self), Problems> {
        let before = self.before.as_ref().zip(input.running);
        let changes = before.and_then(|(before, running)| {
            let changes = before.changes(&input)?;
            Some((before, running, changes))
        });
        let (planned, ids, before) = match changes {
            Some((before, running, changes)) => {
                change::plan(&self.ids, (before, running), &changes, &input)?
            }
            None => whole::plan(&self.ids, &input)?,
        };
        let next = Self {
            ids,
            before: Some(before),
        };
        Ok((planned, next))
    }
}

/// Makes the snapshot of a state document and of the listeners' own places, from nothing. `ids` takes
/// the new ids when, and only when, all is well.
///
/// # Errors
/// Every place of a listener that is in no declared network.
pub fn publish(
    desired: &Desired,
    held: &[Held],
    listeners: &[Listener],
    ids: &mut Ids,
    generation: Generation,
    previous: Option<&Snapshot>,
) -> Result<Planned, Problems> {
    let nothing = Table::default();
    let running = previous.map(|snapshot| Running {
        snapshot,
        http: &nothing,
    });
    let input = Input {
        desired,
        held,
        listeners,
        generation,
        running,
    };
    let (planned, next, _) = whole::plan(ids, &input)?;
    *ids = next;
    Ok(planned)
}

/// Where the namespace of a network comes from.
fn source_of(namespace: &Namespace, key: NetworkKey) -> NamespaceSource {
    match namespace {
        Namespace::Own => NamespaceSource::Made(key),
        Namespace::Host => NamespaceSource::Host,
        Namespace::Existing(name) => NamespaceSource::Existing(name.clone()),
    }
}

/// A name in a network that nobody is asked for.
fn nameless(place: &Place, listener: usize, key: &str) -> Problem {
    Problem {
        pointer: format!("/listeners/{listener}/{key}"),
        hint: Some("write for example \"dns\": [\"10.0.0.53:53\"] there".to_owned()),
        ..Problem::whole(
            Severity::Error,
            format!(
                "`{}` is a name, and {} has no name server",
                place.endpoint, place.network
            ),
        )
    }
}

fn undeclared(network: &NetworkName, listener: usize, key: &str) -> Problem {
    Problem {
        pointer: format!("/listeners/{listener}/{key}"),
        hint: Some("declare it there, or write `host` or `netns:NAME`".to_owned()),
        ..Problem::whole(
            Severity::Error,
            format!("{network} is not in the state document"),
        )
    }
}

/// The problems of what contradicts itself: a valid state document and distinct ids leave nothing.
fn contradictions(errors: Vec<impl ToString>) -> Problems {
    let mut problems = Problems::default();
    for error in errors {
        problems.push(Problem::whole(Severity::Error, error.to_string()));
    }
    problems
}

#[cfg(test)]
mod tests;
