//! The immutable table that workers route by, built whole and swapped whole.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;

use crate::{
    balance::{Balance, Load},
    endpoint::Endpoint,
    health::Health,
    hostname::{HostPattern, Hostname},
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId, TargetId},
    proxy_protocol::Version,
};

/// A tenant as the data plane sees it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Stable over snapshots.
    pub id: NetworkId,
    /// As in logs and metrics: `network-51820`, `netns:NAME` or `host`.
    pub name: Arc<str>,
    /// Where its upstream connections are dialed from.
    pub netns: NetnsId,
    /// Live connections; the builder carries it over from the snapshot before. All routes of a
    /// network share one: give each a clone of the same value.
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
    /// The tenant.
    pub network: Network,
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

/// Everything a worker routes by. Immutable; see [`SnapshotBuilder`].
#[derive(Debug)]
pub struct Snapshot {
    generation: Generation,
    /// Every declared network, with its live connections.
    networks: HashMap<NetworkId, Load, RandomState>,
    routes: Vec<Arc<Route>>,
    exact: HashMap<Hostname, u32, RandomState>,
    wildcard: HashMap<Hostname, u32, RandomState>,
    fixed: HashMap<ListenerId, u32>,
    default: HashMap<ListenerId, u32>,
}

impl Snapshot {
    /// A snapshot without any route.
    pub fn empty() -> Self {
        SnapshotBuilder::new(Generation(0)).into_snapshot()
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
        self.routes.iter()
    }

    /// The listener's fixed route, for listeners that forward everything to one place.
    pub fn fixed(&self, listener: ListenerId) -> Option<&Arc<Route>> {
        self.fixed
            .get(&listener)
            .map(|&index| &self.routes[index as usize])
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
        let route = |&index: &u32| &self.routes[index as usize];
        let is_served = |route: &&Arc<Route>| only.is_none_or(|only| route.network.id == only);
        let named = name.and_then(|name| self.by_name(name)).map(route);
        named
            .filter(is_served)
            .or_else(|| self.default.get(&listener).map(route))
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

    /// What the pattern that a name is routed by ends with: the name itself, or the domain of the
    /// longest wildcard. `None` where only a default would have it.
    pub fn pattern_of<'n>(&self, name: &'n Hostname) -> Option<&'n str> {
        if self.exact.contains_key(name) {
            return Some(name.as_str());
        }
        let mut parents = name.parents();
        parents.find(|parent| self.wildcard.contains_key(*parent))
    }

    /// The route that a name, folded, is routed by, with what its pattern ends with, as
    /// [`pattern_of`](Self::pattern_of) gives it.
    pub fn passing<'n>(&self, name: &'n str) -> Option<(&'n str, &Arc<Route>)> {
        let route = |index: &u32| &self.routes[*index as usize];
        if let Some(index) = self.exact.get(name) {
            return Some((name, route(index)));
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        parents.find_map(|parent| Some((parent, route(self.wildcard.get(parent)?))))
    }

    fn by_name(&self, name: &Hostname) -> Option<&u32> {
        self.exact.get(name).or_else(|| {
            if self.wildcard.is_empty() {
                return None;
            }
            name.parents().find_map(|parent| self.wildcard.get(parent))
        })
    }
}

/// Puts a [`Snapshot`] together and refuses what contradicts itself.
#[derive(Debug)]
pub struct SnapshotBuilder {
    snapshot: Snapshot,
    index: HashMap<RouteId, u32>,
    errors: Vec<SnapshotError>,
}

impl SnapshotBuilder {
    /// Starts an empty snapshot with a number.
    pub fn new(generation: Generation) -> Self {
        let snapshot = Snapshot {
            generation,
            networks: HashMap::default(),
            routes: Vec::new(),
            exact: HashMap::default(),
            wildcard: HashMap::default(),
            fixed: HashMap::new(),
            default: HashMap::new(),
        };
        Self {
            snapshot,
            index: HashMap::new(),
            errors: Vec::new(),
        }
    }

    /// Declares a network, whether or not any route leads there: its live connections stay. Those of
    /// routes are declared with them.
    pub fn network(&mut self, network: &Network) -> &mut Self {
        let networks = &mut self.snapshot.networks;
        networks
            .entry(network.id)
            .or_insert_with(|| network.live.clone());
        self
    }

    /// Declares a network that a snapshot before had, by its id: nothing leads there any more, and its live
    /// connections stay.
    pub fn keep_network(&mut self, id: NetworkId) -> &mut Self {
        self.snapshot.networks.entry(id).or_default();
        self
    }

    /// Adds a route. Its names and listeners are added by the other methods.
    pub fn route(&mut self, route: Route) -> &mut Self {
        self.network(&route.network);
        if route.targets.is_empty() {
            self.errors.push(SnapshotError::NoTarget {
                route: route.label.clone(),
            });
        }
        let index = u32::try_from(self.snapshot.routes.len()).unwrap_or(u32::MAX);
        if self.index.insert(route.id, index).is_some() {
            self.errors.push(SnapshotError::DuplicateRoute {
                route: route.label.clone(),
            });
        }
        self.snapshot.routes.push(Arc::new(route));
        self
    }

    /// Makes a name, or all names below a domain, lead to a route.
    pub fn name(&mut self, pattern: HostPattern, route: RouteId) -> &mut Self {
        let Some(index) = self.known(route) else {
            return self;
        };
        let label: Arc<str> = pattern.to_string().into();
        let replaced = match pattern {
            HostPattern::Exact(name) => self.snapshot.exact.insert(name, index),
            HostPattern::Wildcard(domain) => self.snapshot.wildcard.insert(domain, index),
        };
        if replaced.is_some() {
            self.errors
                .push(SnapshotError::DuplicateName { name: label });
        }
        self
    }

    /// Sends everything that a listener accepts to a route.
    pub fn fixed(&mut self, listener: ListenerId, route: RouteId) -> &mut Self {
        if let Some(index) = self.known(route) {
            self.snapshot.fixed.insert(listener, index);
        }
        self
    }

    /// Sends what a listener accepts for no declared name to a route.
    pub fn default_route(&mut self, listener: ListenerId, route: RouteId) -> &mut Self {
        if let Some(index) = self.known(route) {
            self.snapshot.default.insert(listener, index);
        }
        self
    }

    /// Ends the building. `previous` is the snapshot that this one replaces: a target that it
    /// already had, by route and id, keeps its count of live connections and its health, and a
    /// network keeps its count.
    ///
    /// # Errors
    /// All contradictions.
    pub fn build(mut self, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<SnapshotError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        if let Some(previous) = previous {
            self.inherit(previous);
        }
        Ok(self.into_snapshot())
    }

    fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    fn known(&mut self, route: RouteId) -> Option<u32> {
        let index = self.index.get(&route).copied();
        if index.is_none() {
            self.errors.push(SnapshotError::UnknownRoute { route });
        }
        index
    }

    fn inherit(&mut self, previous: &Snapshot) {
        let before: HashMap<RouteId, &Arc<Route>> =
            previous.routes().map(|route| (route.id, route)).collect();
        let networks = &mut self.snapshot.networks;
        for (id, live) in networks.iter_mut() {
            if let Some(old) = previous.networks.get(id) {
                *live = old.clone();
            }
        }
        for route in &mut self.snapshot.routes {
            let Some(route) = Arc::get_mut(route) else {
                continue;
            };
            if let Some(live) = networks.get(&route.network.id) {
                route.network.live = live.clone();
            }
            let Some(old) = before.get(&route.id) else {
                continue;
            };
            for target in &mut route.targets {
                let same = old.targets.iter().find(|other| other.id == target.id);
                if let Some(same) = same {
                    target.load = same.load.clone();
                    target.health = same.health.clone();
                }
            }
        }
    }
}

/// What contradicts itself in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A route that leads nowhere.
    #[error("route {route} has no target")]
    NoTarget {
        /// Its label.
        route: Arc<str>,
    },
    /// Two routes with one id.
    #[error("route {route} has the id of another route")]
    DuplicateRoute {
        /// The later one's label.
        route: Arc<str>,
    },
    /// One name on two routes.
    #[error("{name} is declared twice")]
    DuplicateName {
        /// The name's pattern.
        name: Arc<str>,
    },
    /// A name or listener for a route that was not added.
    #[error("there is no route with id {route}")]
    UnknownRoute {
        /// The id.
        route: RouteId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u32, label: &str) -> Route {
        let network = Network {
            id: NetworkId(1),
            name: "network-1".into(),
            netns: NetnsId(0),
            live: Load::default(),
        };
        let target = Target::new(Endpoint::parse("10.0.0.2:443").unwrap());
        Route {
            id: RouteId(id),
            label: label.into(),
            network,
            targets: vec![target],
            balance: Balance::default(),
        }
    }

    fn snapshot(names: &[&str]) -> Snapshot {
        let mut builder = SnapshotBuilder::new(Generation(1));
        for (id, name) in (0..).zip(names) {
            builder.route(route(id, name));
            builder.name(HostPattern::parse(name).unwrap(), RouteId(id));
        }
        builder
            .route(route(1000, "default"))
            .default_route(ListenerId(1), RouteId(1000));
        builder.build(None).unwrap()
    }

    fn label(snapshot: &Snapshot, listener: u32, name: &str) -> Result<String, NoRoute> {
        let name = Hostname::parse(name.as_bytes()).ok();
        snapshot
            .route((ListenerId(listener), None), name.as_ref())
            .map(|route| route.label.to_string())
    }

    #[test]
    fn a_network_keeps_its_count_over_snapshots_with_routes_and_without() {
        let mut first = SnapshotBuilder::new(Generation(1));
        first.route(route(1, "a"));
        let first = first.build(None).unwrap();
        let live = |snapshot: &Snapshot| snapshot.routes().next().unwrap().network.live.clone();
        let held = [live(&first).occupy(), live(&first).occupy()];
        let mut second = SnapshotBuilder::new(Generation(2));
        second.network(&route(1, "a").network);
        let second = second.build(Some(&first)).unwrap();
        assert_eq!(second.networks().collect::<Vec<_>>(), [NetworkId(1)]);
        let mut third = SnapshotBuilder::new(Generation(3));
        third.route(route(2, "b"));
        let third = third.build(Some(&second)).unwrap();
        assert_eq!(live(&third).live(), 2);
        drop(held);
        assert_eq!(live(&third).live(), 0);
    }

    #[test]
    fn exact_wins_then_the_longest_wildcard_then_the_default() {
        let snapshot = snapshot(&["a.b.example", "*.example", "*.b.example"]);
        for (name, expected) in [
            ("a.b.example", "a.b.example"),
            ("c.b.example", "*.b.example"),
            ("d.c.b.example", "*.b.example"),
            ("b.example", "*.example"),
        ] {
            assert_eq!(label(&snapshot, 0, name).as_deref(), Ok(expected), "{name}");
        }
        let name = Hostname::parse(b"d.c.b.example").unwrap();
        assert_eq!(snapshot.pattern_of(&name), Some("b.example"));
        assert_eq!(label(&snapshot, 0, "example"), Err(NoRoute::UnknownName));
        assert_eq!(label(&snapshot, 0, ""), Err(NoRoute::NoName));
        assert_eq!(label(&snapshot, 1, "example").as_deref(), Ok("default"));
        assert_eq!(label(&snapshot, 1, "").as_deref(), Ok("default"));
    }

    #[test]
    fn a_listener_of_one_network_does_not_have_the_names_of_another() {
        let snapshot = snapshot(&["a.example"]);
        let name = Hostname::parse(b"a.example").unwrap();
        let route = |listener, only| {
            let found = snapshot.route((ListenerId(listener), Some(NetworkId(only))), Some(&name));
            found.map(|route| route.label.to_string())
        };
        assert_eq!(route(0, 1).as_deref(), Ok("a.example"));
        assert_eq!(route(0, 2), Err(NoRoute::UnknownName));
        assert_eq!(route(1, 2).as_deref(), Ok("default"));
    }

    #[test]
    fn contradictions_are_all_reported() {
        let mut builder = SnapshotBuilder::new(Generation(1));
        builder.route(route(1, "one")).route(route(1, "again"));
        builder.route(Route {
            targets: vec![],
            ..route(2, "two")
        });
        let name = HostPattern::parse("x.example").unwrap();
        builder
            .name(name.clone(), RouteId(1))
            .name(name, RouteId(2))
            .fixed(ListenerId(0), RouteId(9));
        assert_eq!(builder.build(None).unwrap_err().len(), 4);
    }

    #[test]
    fn a_target_keeps_its_load_over_snapshots() {
        let before = snapshot(&["a.example"]);
        let held = before.routes().next().unwrap().targets[0].load.occupy();
        let mut builder = SnapshotBuilder::new(Generation(2));
        builder.route(route(0, "a.example"));
        let after = builder.build(Some(&before)).unwrap();
        assert_eq!(after.routes().next().unwrap().targets[0].load.live(), 1);
        drop(held);
        assert_eq!(after.routes().next().unwrap().targets[0].load.live(), 0);
    }
}
