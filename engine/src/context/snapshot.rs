//! What workers route by, and what a publication takes away.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use ahash::RandomState;
use engine_core::{
    balance::Load,
    ids::{ListenerId, NetnsId, NetworkId, RouteId, WorkerId},
    shared_map::SharedMap,
    snapshot::{Route, Snapshot},
};
use engine_http::{host::Host, rules::Table};
use engine_sys::netns::{Identity, Netns};

use crate::context::{
    checked::{self, Checks},
    difference::{Difference, moved},
    listener::{Listener, Listening, Sockets},
    tls::Tls,
};

/// What the workers route by from now on.
///
/// One that is made of the running one ([`Engine::publication`](crate::Engine::publication)) by changing its
/// parts shares with it what stays; publishing it then costs in proportion to what is different. What that is
/// is found from what the two do not share, so that nobody has to say it.
#[derive(Debug, Default)]
pub struct Publication {
    /// The routes.
    pub snapshot: Snapshot,
    /// What HTTP requests are decided by. The routes of its rules are the snapshot's: the rules of a route
    /// that is replaced are to be replaced as well.
    pub http: Table,
    /// Whose TLS ends here, and how the targets of HTTP rules are spoken with.
    pub tls: Tls,
    /// The namespaces that its networks name.
    pub namespaces: SharedMap<NetnsId, Arc<Netns>>,
    /// Where connections come in. One that is not here any more takes what waits in its
    /// queue, and closes; connections that it accepted go on.
    pub listeners: SharedMap<ListenerId, Arc<Listener>>,
    /// The sockets of listeners that have none yet, and of those whose sockets these replace.
    pub sockets: HashMap<ListenerId, Sockets>,
    /// Who is asked for the names of a network's targets, from inside its namespace: at most the first
    /// three. Networks without targets that are names need none.
    pub name_servers: SharedMap<NetworkId, Arc<[SocketAddr]>>,
}

/// What workers route by: a snapshot and the namespaces that it names.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) http: Table,
    pub(crate) tls: Tls,
    pub(crate) namespaces: SharedMap<NetnsId, Arc<Netns>>,
    /// As the publication says them.
    pub(crate) declared: SharedMap<ListenerId, Arc<Listener>>,
    pub(crate) listeners: SharedMap<ListenerId, Listening>,
    pub(crate) name_servers: SharedMap<NetworkId, Arc<[SocketAddr]>>,
    /// Where the gateway listens: no name of a target is to lead there.
    pub(crate) bound: SharedMap<ListenerId, Bound>,
    /// Routes with targets that are names, each with the worker that watches them.
    pub(crate) named: SharedMap<RouteId, (WorkerId, Arc<Route>)>,
    /// The targets that are checked, by whatever worker.
    pub(crate) checks: Checks,
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

    /// What `workers` workers are to route by, and before it they routed by this. `sockets` are those that
    /// the publication came with; `live` are the connections of a listener that this does not have.
    pub(crate) fn after(
        &self,
        publication: Publication,
        sockets: &HashMap<ListenerId, Sockets>,
        live: impl Fn(ListenerId) -> Load,
        workers: usize,
    ) -> (Self, Difference) {
        let mut after = Self {
            snapshot: publication.snapshot,
            http: publication.http,
            tls: publication.tls,
            namespaces: publication.namespaces,
            declared: publication.listeners,
            name_servers: publication.name_servers,
            listeners: self.listeners.clone(),
            bound: self.bound.clone(),
            named: self.named.clone(),
            checks: self.checks.clone(),
        };
        let listeners = self.take_up_listeners(&mut after, sockets, live);
        let moved = moved(self, &after);
        let snapshot = after.snapshot.clone();
        let routes = self.snapshot.changed_routes(&snapshot);
        for route in &routes {
            match route.after.filter(|route| has_name(route)) {
                Some(named) => {
                    let watched = (owner(route.id, workers), Arc::clone(named));
                    after.named.insert(route.id, watched)
                }
                None => after.named.remove(&route.id),
            };
        }
        let checks = checked::plan((self, &mut after), &moved, workers);
        let difference = Difference::between((self, &after), &routes, moved);
        let difference = Difference {
            listeners,
            checks,
            ..difference
        };
        (after, difference)
    }

    /// Has `after` listen as it is declared there. The answer are the listeners that are new, gone, or not as
    /// they were.
    fn take_up_listeners(
        &self,
        after: &mut Self,
        sockets: &HashMap<ListenerId, Sockets>,
        live: impl Fn(ListenerId) -> Load,
    ) -> Vec<ListenerId> {
        let is_same = |one: &Arc<Listener>, other: &Arc<Listener>| one == other;
        let changes = self.declared.changes(&after.declared, is_same).into_iter();
        let mut changed: Vec<ListenerId> = changes.map(|change| *change.key).collect();
        let again = sockets.keys().filter(|id| after.declared.contains_key(id));
        changed.extend(again);
        changed.sort_unstable();
        changed.dedup();
        for id in &changed {
            let Some(declared) = after.declared.get(id) else {
                after.listeners.remove(id);
                after.bound.remove(id);
                continue;
            };
            let live = match self.listeners.get(id) {
                Some(listening) => listening.live.clone(),
                None => live(*id),
            };
            let fresh = sockets.get(id).map(|sockets| sockets.address);
            let kept = || after.bound.get(id).map(|bound| bound.address);
            if let Some(address) = fresh.or_else(kept) {
                let network = declared.network;
                after.bound.insert(*id, Bound { address, network });
            }
            let listening = Listening::new(Arc::clone(declared), live);
            after.listeners.insert(*id, listening);
        }
        changed
    }

    /// Everything that has counters: a route, or a rule that leads to no target.
    pub(crate) fn counts(&self, id: RouteId) -> bool {
        self.snapshot.route_of(id).is_some() || self.http.has_rule(id)
    }

    /// What the namespace is now that a network dials from; `None` where it is missing.
    pub(crate) fn identity(&self, netns: NetnsId) -> Option<Identity> {
        self.namespaces.get(&netns).map(|netns| netns.identity())
    }
}

/// Where a listener listens, and the network that declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) network: Option<NetworkId>,
}

fn has_name(route: &Route) -> bool {
    let mut targets = route.targets.iter();
    targets.any(|target| target.endpoint.address().is_none())
}

/// The worker that looks at something by itself, spread over `workers` by what it is: the same in every
/// publication.
pub(crate) fn owner(of: impl std::hash::Hash, workers: usize) -> WorkerId {
    // It need not be the same in another run.
    let hash = RandomState::with_seed(0).hash_one(of);
    let owner = hash % u64::try_from(workers).unwrap_or(1).max(1);
    WorkerId(u16::try_from(owner).unwrap_or(0))
}

/// A worker's hold on what it routes by. Connections share it by a count that no other worker
/// touches.
#[derive(Debug)]
pub(crate) struct SnapshotRef(pub(crate) Arc<Published>);
