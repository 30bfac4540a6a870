//! What is different of a publication: found from what it does not share with the one before.

use std::{collections::HashSet, sync::Arc};

use engine_core::{
    ids::{ListenerId, NetworkId, RouteId},
    snapshot::{ChangedRoute, Route},
};
use engine_sys::netns::{Identity, Netns};

use crate::context::{access::AccessChanges, checked::Checked, snapshot::Published};

/// What is different of a publication, against the one before: all that whoever takes it up has to look at.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// What has counters no longer.
    pub(crate) routes: Vec<RouteId>,
    /// Routes that have other targets, or other terms, than before.
    pub(crate) replaced: Vec<Arc<Route>>,
    pub(crate) networks: HashSet<NetworkId>,
    /// Networks that are in another namespace now, and the routes that lead there.
    pub(crate) moved: HashSet<NetworkId>,
    pub(crate) moved_routes: HashSet<RouteId>,
    /// Those of the networks whose new namespace can be had: their flows lead elsewhere.
    pub(crate) left: HashSet<NetworkId>,
    /// Who is let in no longer.
    pub(crate) access: AccessChanges,
    /// Origins and namespaces that are gone.
    pub(crate) origins: Vec<u64>,
    pub(crate) namespaces: HashSet<Identity>,
    /// Listeners that are new, gone, not as they were, or get sockets.
    pub(crate) listeners: Vec<ListenerId>,
    /// Targets that are checked from now on.
    pub(crate) checks: Vec<Arc<Checked>>,
}

impl Difference {
    pub(crate) fn between(
        (before, after): (&Published, &Published),
        routes: &[ChangedRoute<'_>],
        moved: HashSet<NetworkId>,
    ) -> Self {
        let replaced = routes.iter().filter(|route| route.before.is_some());
        let replaced = replaced.filter_map(|route| route.after.cloned()).collect();
        let gone = routes.iter().filter(|route| route.after.is_none());
        let gone = gone.map(|route| route.id);
        let gone = gone.chain(before.http.removed_rules(&after.http));
        let mut gone: Vec<RouteId> = gone.filter(|id| !after.counts(*id)).collect();
        gone.sort_unstable();
        gone.dedup();
        let networks = before.snapshot.changed_networks(&after.snapshot);
        let networks = networks.into_iter();
        let is_there = |id: &NetworkId| {
            let network = after.snapshot.network(*id);
            network.is_some_and(|network| after.namespaces.contains_key(&network.netns))
        };
        let is_same = |one: &Arc<Netns>, other: &Arc<Netns>| one.identity() == other.identity();
        let namespaces = before.namespaces.changes(&after.namespaces, is_same);
        Self {
            routes: gone,
            replaced,
            networks: networks
                .filter(|id| !after.snapshot.has_network(*id))
                .collect(),
            moved_routes: routes_of(after, &moved),
            left: moved.iter().copied().filter(is_there).collect(),
            moved,
            access: AccessChanges::between(before, after),
            origins: before.tls.removed_origins(&after.tls),
            namespaces: namespaces
                .into_iter()
                .filter_map(|change| Some(change.before?.identity()))
                .collect(),
            listeners: Vec::new(),
            checks: Vec::new(),
        }
    }
}

/// The routes that lead to networks. All are gone through, where there is such a network.
fn routes_of(published: &Published, networks: &HashSet<NetworkId>) -> HashSet<RouteId> {
    if networks.is_empty() {
        return HashSet::new();
    }
    let routes = published.snapshot.routes();
    let routes = routes.filter(|route| networks.contains(&route.network.id));
    routes.map(|route| route.id).collect()
}

/// The networks of both that are in another namespace after than before.
pub(crate) fn moved(before: &Published, after: &Published) -> HashSet<NetworkId> {
    let mut networks = before.snapshot.changed_networks(&after.snapshot);
    if has_moved_namespace(before, after) {
        networks.extend(after.snapshot.networks());
    }
    let namespace = |published: &Published, id: NetworkId| {
        // What nothing leads to is nowhere.
        let is_led_to = published.snapshot.routes_to(id) > 0;
        let network = published.snapshot.network(id).filter(|_| is_led_to)?;
        Some(published.identity(network.netns))
    };
    let has_moved = |id: &NetworkId| {
        let both = namespace(before, *id).zip(namespace(after, *id));
        both.is_some_and(|(old, new)| old != new)
    };
    networks.into_iter().filter(has_moved).collect()
}

/// Whether a namespace that networks dial from, before and after, is another one, went or came. Only then are
/// all networks gone through.
fn has_moved_namespace(before: &Published, after: &Published) -> bool {
    let is_same = |one: &Arc<Netns>, other: &Arc<Netns>| one.identity() == other.identity();
    let changes = before.namespaces.changes(&after.namespaces, is_same);
    let is_used = |id| before.snapshot.has_namespace(id) && after.snapshot.has_namespace(id);
    changes.into_iter().any(|change| is_used(*change.key))
}
