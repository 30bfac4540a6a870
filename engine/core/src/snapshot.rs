//! The immutable table that workers route by. One that comes after another shares with it what stays, so that
//! it is made, compared and freed in proportion to what changed.

use std::sync::Arc;

use crate::{
    balance::{Balance, Load},
    endpoint::Endpoint,
    health::Health,
    hostname::Hostname,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId, TargetId},
    proxy_protocol::Version,
    shared_map::{Change, SharedMap},
};

mod build;
#[cfg(test)]
mod tests;

pub use build::{SnapshotBuilder, SnapshotError};

/// A tenant as the data plane sees it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Stable over snapshots.
    pub id: NetworkId,
    /// As in logs and metrics: `network-51820`, `netns:NAME` or `host`.
    pub name: Arc<str>,
    /// Where its upstream connections are dialed from.
    pub netns: NetnsId,
    /// Live connections; the builder carries it over from the snapshot before, and has all routes of a
    /// network share one.
    pub live: Load,
}

/// One machine that a route leads to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which one it is, stable over snapshots: what is known of it goes by this.
    pub id: TargetId,
    /// Where it is in the network's own namespace.
    pub endpoint: Endpoint,
    /// From 1 to [`crate::balance::WEIGHT_MAX`].
    pub weight: u16,
    /// Only dialed when no other target answers.
    pub backup: bool,
    /// The PROXY protocol header that the target asks for.
    pub proxy_protocol: Option<Version>,
    /// Live connections; the builder carries it over from the snapshot before.
    pub load: Load,
    /// What checks say of it; the builder carries it over from the snapshot before.
    pub health: Health,
}

impl Target {
    /// A primary of weight 1 that nothing is known of.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        let endpoint = endpoint.into();
        Self {
            id: endpoint.id(),
            endpoint,
            weight: 1,
            backup: false,
            proxy_protocol: None,
            load: Load::default(),
            health: Health::default(),
        }
    }
}

/// A route of a network: where the connections of a name, or of a listener, go.
#[derive(Clone, Debug)]
pub struct Route {
    /// Stable over snapshots.
    pub id: RouteId,
    /// As in logs and metrics: the name's pattern, or the fixed target.
    pub label: Arc<str>,
    /// The tenant; the builder has all its routes share one value.
    pub network: Arc<Network>,
    /// At least one.
    pub targets: Vec<Target>,
    /// How connections and requests are spread over the targets.
    pub balance: Balance,
}

/// Why there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// The client named a host that nobody declared, and the listener has no default.
    UnknownName,
    /// The client named no host, and the listener has no default.
    NoName,
}

/// Everything a worker routes by. Immutable; see [`SnapshotBuilder`]. A copy shares everything.
#[derive(Clone, Debug)]
pub struct Snapshot {
    generation: Generation,
    networks: SharedMap<NetworkId, Tenant>,
    /// How many of the networks dial from each namespace.
    namespaces: SharedMap<NetnsId, u32>,
    routes: SharedMap<RouteId, Led>,
    exact: SharedMap<Hostname, RouteId>,
    wildcard: SharedMap<Hostname, RouteId>,
    fixed: SharedMap<ListenerId, RouteId>,
    default: SharedMap<ListenerId, RouteId>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::empty()
    }
}

/// A network that is declared, or that routes lead to.
#[derive(Clone, Debug)]
struct Tenant {
    live: Load,
    /// What its routes share; unknown where it was only kept.
    network: Option<Arc<Network>>,
    routes: u32,
    is_declared: bool,
}

/// A route, and how many names and listeners lead to it.
#[derive(Clone, Debug)]
struct Led {
    route: Arc<Route>,
    by: u32,
}

impl Snapshot {
    /// A snapshot without any route.
    pub fn empty() -> Self {
        Self {
            generation: Generation(0),
            networks: SharedMap::new(),
            namespaces: SharedMap::new(),
            routes: SharedMap::new(),
            exact: SharedMap::new(),
            wildcard: SharedMap::new(),
            fixed: SharedMap::new(),
            default: SharedMap::new(),
        }
    }

    /// Its number.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How many routes it has.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether it has no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes, in no particular order.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values().map(|led| &led.route)
    }

    /// The route with an id.
    pub fn route_of(&self, id: RouteId) -> Option<&Arc<Route>> {
        self.routes.get(&id).map(|led| &led.route)
    }

    /// The listener's fixed route, for listeners that forward everything to one place.
    pub fn fixed(&self, listener: ListenerId) -> Option<&Arc<Route>> {
        self.route_of(*self.fixed.get(&listener)?)
    }

    /// The route for the name that a client asked for on a listener: the exact name, else the
    /// longest wildcard, else the listener's default. On a listener that serves the names of one
    /// network alone, `only`, a name that leads to another network counts as undeclared.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn route(
        &self,
        (listener, only): (ListenerId, Option<NetworkId>),
        name: Option<&Hostname>,
    ) -> Result<&Arc<Route>, NoRoute> {
        let is_served = |route: &&Arc<Route>| only.is_none_or(|only| route.network.id == only);
        let named = name.and_then(|name| self.passing(name.as_str()));
        let named = named.map(|(_, route)| route).filter(is_served);
        named
            .or_else(|| self.route_of(*self.default.get(&listener)?))
            .ok_or(if name.is_some() {
                NoRoute::UnknownName
            } else {
                NoRoute::NoName
            })
    }

    /// All declared networks.
    pub fn networks(&self) -> impl Iterator<Item = NetworkId> {
        self.networks.keys().copied()
    }

    /// What is known of a network: `None` where nothing is, and where it was only kept.
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)?.network.as_ref()
    }

    /// Whether a network is declared, or routes lead to it.
    pub fn has_network(&self, id: NetworkId) -> bool {
        self.networks.contains_key(&id)
    }

    /// How many routes lead to a network.
    pub fn routes_to(&self, id: NetworkId) -> u32 {
        self.networks.get(&id).map_or(0, |tenant| tenant.routes)
    }

    /// Whether any network dials from a namespace.
    pub fn has_namespace(&self, id: NetnsId) -> bool {
        self.namespaces.contains_key(&id)
    }

    /// What the pattern that a name is routed by ends with: the name itself, or the domain of the
    /// longest wildcard. `None` where only a default would have it.
    pub fn pattern_of<'n>(&self, name: &'n Hostname) -> Option<&'n str> {
        self.by_name(name.as_str()).map(|(pattern, _)| pattern)
    }

    /// The route that a name, folded, is routed by, with what its pattern ends with, as
    /// [`pattern_of`](Self::pattern_of) gives it.
    pub fn passing<'n>(&self, name: &'n str) -> Option<(&'n str, &Arc<Route>)> {
        let (pattern, id) = self.by_name(name)?;
        Some((pattern, self.route_of(id)?))
    }

    fn by_name<'n>(&self, name: &'n str) -> Option<(&'n str, RouteId)> {
        if let Some(id) = self.exact.get(name) {
            return Some((name, *id));
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        parents.find_map(|parent| Some((parent, *self.wildcard.get(parent)?)))
    }

    /// The routes that are others, or gone, in a snapshot `after` this one. Where that was built from
    /// nothing, every route is another.
    pub fn changed_routes<'a>(&'a self, after: &'a Self) -> Vec<ChangedRoute<'a>> {
        let is_same = |one: &Led, other: &Led| Arc::ptr_eq(&one.route, &other.route);
        let changes = self.routes.changes(&after.routes, is_same).into_iter();
        let changes = changes.map(|Change { key, before, after }| ChangedRoute {
            id: *key,
            before: before.map(|led| &led.route),
            after: after.map(|led| &led.route),
        });
        changes.collect()
    }

    /// The networks that are others, came or went in a snapshot `after` this one.
    pub fn changed_networks(&self, after: &Self) -> Vec<NetworkId> {
        let is_same = |one: &Tenant, other: &Tenant| match (&one.network, &other.network) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        let changes = self.networks.changes(&after.networks, is_same).into_iter();
        changes.map(|change| *change.key).collect()
    }
}

/// A route that is another in one snapshot than in the one before.
#[derive(Clone, Copy, Debug)]
pub struct ChangedRoute<'a> {
    /// Which one.
    pub id: RouteId,
    /// As it was; `None` where it came.
    pub before: Option<&'a Arc<Route>>,
    /// As it is; `None` where it went.
    pub after: Option<&'a Arc<Route>>,
}
