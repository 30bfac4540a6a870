//! What workers route by, and what a publication takes away.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use ahash::RandomState;
use engine_core::{
    balance::Load,
    ids::{ListenerId, NetnsId, NetworkId, RouteId, WorkerId},
    snapshot::{Route, Snapshot},
};
use engine_http::host::Host;
use engine_sys::netns::Netns;

use crate::context::{
    access::AccessChanges,
    checked::{self, Checked},
    listener::{Listener, Listening, Sockets},
    tls::Tls,
};

/// What the workers route by from now on.
#[derive(Debug)]
pub struct Publication {
    /// The routes.
    pub snapshot: Snapshot,
    /// What HTTP requests are decided by. The routes of its rules are the snapshot's.
    pub http: engine_http::rules::Table,
    /// Whose TLS ends here, and how the targets of HTTP rules are spoken with.
    pub tls: Tls,
    /// The namespaces that its networks name.
    pub namespaces: HashMap<NetnsId, Arc<Netns>>,
    /// Where connections come in, each id once. One that is not here any more takes what waits in its
    /// queue, and closes; connections that it accepted go on.
    pub listeners: Vec<Listener>,
    /// The sockets of listeners that have none yet, and of those whose sockets these replace.
    pub sockets: HashMap<ListenerId, Sockets>,
    /// Who is asked for the names of a network's targets, from inside its namespace: at most the first
    /// three. Networks without targets that are names need none.
    pub name_servers: HashMap<NetworkId, Arc<[SocketAddr]>>,
}

/// What workers route by: a snapshot and the namespaces that it names.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) http: engine_http::rules::Table,
    pub(crate) tls: Tls,
    pub(crate) namespaces: HashMap<NetnsId, Arc<Netns>>,
    pub(crate) listeners: HashMap<ListenerId, Listening, RandomState>,
    pub(crate) name_servers: HashMap<NetworkId, Arc<[SocketAddr]>>,
    /// Where the gateway listens: no name of a target is to lead there.
    pub(crate) bound: HashMap<ListenerId, Bound, RandomState>,
    /// Routes with targets that are names, each with the worker that watches them.
    pub(crate) named: Vec<(WorkerId, Arc<Route>)>,
    /// The targets that are checked, by whatever worker.
    pub(crate) checks: Vec<Arc<Checked>>,
}

impl Published {
    /// Whether a host is more specifically that of another network, which has its TLS pass through: its
    /// requests are nobody else's to see, though a wildcard rule and its certificate would fit.
    pub(crate) fn is_anothers(&self, host: Host<'_>, network: NetworkId) -> bool {
        let Some(name) = host.folded() else {
            return false;
        };
        let Some((passed, route)) = self.snapshot.passing(&name) else {
            return false;
        };
        let ruled = self.http.pattern_of(&name);
        route.network.id != network && ruled.is_none_or(|ruled| ruled.len() < passed.len())
    }

    /// What `workers` workers are to route by, and before it they routed by `before`. `sockets` are those
    /// that the publication came with.
    pub(crate) fn after(
        before: Option<&Self>,
        publication: Publication,
        sockets: &HashMap<ListenerId, Sockets>,
        workers: usize,
    ) -> Self {
        let checks = before.map_or(&[][..], |before| &before.checks);
        let live = |id: &ListenerId| before.and_then(|before| before.listeners.get(id));
        let live = |id: &ListenerId| live(id).map_or_else(Load::default, |it| it.live.clone());
        let bound = bound(before, &publication.listeners, sockets);
        let listeners = publication.listeners.into_iter();
        Self {
            checks: checked::plan(
                (&publication.http, &publication.namespaces),
                checks,
                workers,
            ),
            listeners: listeners
                .map(|it| (it.id, live(&it.id), it))
                .map(|(id, live, it)| (id, Listening::new(it, live)))
                .collect(),
            bound,
            named: named(&publication.snapshot, workers),
            snapshot: publication.snapshot,
            http: publication.http,
            tls: publication.tls,
            namespaces: publication.namespaces,
            name_servers: publication.name_servers,
        }
    }
}

/// Where a listener listens, and the network that declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) network: Option<NetworkId>,
}

/// Where listeners listen: where they did, or where their new sockets do.
fn bound(
    before: Option<&Published>,
    listeners: &[Listener],
    sockets: &HashMap<ListenerId, Sockets>,
) -> HashMap<ListenerId, Bound, RandomState> {
    let bound = listeners.iter().filter_map(|listener| {
        let fresh = sockets.get(&listener.id).map(|sockets| sockets.address);
        let kept = || Some(before?.bound.get(&listener.id)?.address);
        let bound = Bound {
            address: fresh.or_else(kept)?,
            network: listener.network,
        };
        Some((listener.id, bound))
    });
    bound.collect()
}

/// The routes with targets that are names, spread over the workers.
fn named(snapshot: &Snapshot, workers: usize) -> Vec<(WorkerId, Arc<Route>)> {
    let has_name = |route: &&Arc<Route>| {
        let mut targets = route.targets.iter();
        targets.any(|target| target.endpoint.address().is_none())
    };
    let owners = (0..u16::try_from(workers).unwrap_or(u16::MAX)).cycle();
    let named = owners.map(WorkerId).zip(snapshot.routes().filter(has_name));
    named
        .map(|(owner, route)| (owner, Arc::clone(route)))
        .collect()
}

/// A worker's hold on what it routes by. Connections share it by a count that no other worker
/// touches.
#[derive(Debug)]
pub(crate) struct SnapshotRef(pub(crate) Arc<Published>);

/// What a new snapshot no longer has, against the one before.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub(crate) routes: Vec<RouteId>,
    pub(crate) networks: HashSet<NetworkId>,
    /// Networks that are in another namespace now, and the routes that lead there.
    pub(crate) moved: HashSet<NetworkId>,
    pub(crate) moved_routes: HashSet<RouteId>,
    /// Those of the networks whose new namespace can be had: their flows lead elsewhere.
    pub(crate) left: HashSet<NetworkId>,
    /// Who is let in no longer.
    pub(crate) access: AccessChanges,
}
