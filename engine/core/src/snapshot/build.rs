//! Snapshots are put together here, and what contradicts itself is refused.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map},
    sync::Arc,
};

use super::{Led, Network, Route, Snapshot, Tenant};
use crate::{
    balance::Load,
    hostname::{HostPattern, Hostname},
    ids::{Generation, ListenerId, NetworkId, RouteId},
    shared_map::SharedMap,
};

/// Puts a [`Snapshot`] together and refuses what contradicts itself: from nothing, or as a change of
/// another one, at the cost of the change alone.
#[derive(Debug)]
pub struct SnapshotBuilder {
    /// What it comes to, but for `routes`, which are put in at the end.
    snapshot: Snapshot,
    /// What it began with.
    base: Snapshot,
    /// By their ids, so that the same edits come to the same order.
    routes: BTreeMap<RouteId, Route>,
    removed: HashSet<RouteId>,
    /// Names that were given a route by this builder.
    named: HashSet<HostPattern>,
    /// How many names and listeners more, or fewer, lead to each route than did at the beginning.
    led: HashMap<RouteId, i64>,
    errors: Vec<SnapshotError>,
}

impl SnapshotBuilder {
    /// Starts an empty snapshot with a number.
    pub fn new(generation: Generation) -> Self {
        Self::after(&Snapshot::empty(), generation)
    }

    /// Starts with all that another snapshot has. What is not changed is shared with it.
    pub fn after(base: &Snapshot, generation: Generation) -> Self {
        Self {
            snapshot: Snapshot {
                generation,
                ..base.clone()
            },
            base: base.clone(),
            routes: BTreeMap::new(),
            removed: HashSet::new(),
            named: HashSet::new(),
            led: HashMap::new(),
            errors: Vec::new(),
        }
    }

    /// Declares a network, whether or not any route leads there: its live connections stay. Those of
    /// routes are declared with them, and are there for as long as a route is.
    pub fn network(&mut self, network: &Network) -> &mut Self {
        let live = || self.live_at_first(network.id);
        let live = || live().unwrap_or_else(|| network.live.clone());
        let mut tenant = self.snapshot.tenant(network.id, live);
        tenant.is_declared = true;
        tenant.take_up(network);
        self.snapshot.hold(network.id, tenant);
        self
    }

    /// Declares a network that a snapshot before had, by its id: nothing leads there any more, and its live
    /// connections stay.
    pub fn keep_network(&mut self, id: NetworkId) -> &mut Self {
        let live = || self.live_at_first(id).unwrap_or_default();
        let mut tenant = self.snapshot.tenant(id, live);
        tenant.is_declared = true;
        self.snapshot.hold(id, tenant);
        self
    }

    /// The live connections of a network that was there at the beginning: they go on, also where it was
    /// taken out in between.
    fn live_at_first(&self, id: NetworkId) -> Option<Load> {
        let network = self.base.networks.get(&id);
        network.map(|tenant| tenant.live.clone())
    }

    /// Takes the declaration of a network back: without a route it is gone.
    pub fn remove_network(&mut self, id: NetworkId) -> &mut Self {
        if let Some(tenant) = self.snapshot.networks.get(&id) {
            let mut tenant = tenant.clone();
            tenant.is_declared = false;
            self.snapshot.hold(id, tenant);
        }
        self
    }

    /// Adds a route, or replaces the one with its id that was there at the beginning. Its names and listeners
    /// are added by the other methods, and stay where it is replaced.
    pub fn route(&mut self, route: Route) -> &mut Self {
        if route.targets.is_empty() {
            self.errors.push(SnapshotError::NoTarget {
                route: route.label.clone(),
            });
        }
        match self.routes.entry(route.id) {
            btree_map::Entry::Occupied(_) => self
                .errors
                .push(SnapshotError::DuplicateRoute { route: route.label }),
            btree_map::Entry::Vacant(free) => {
                free.insert(route);
            }
        }
        self
    }

    /// Takes a route out. Its names and listeners have to be taken out, or led elsewhere, as well.
    pub fn remove_route(&mut self, id: RouteId) -> &mut Self {
        self.routes.remove(&id);
        self.removed.insert(id);
        self
    }

    /// Makes a name, or all names below a domain, lead to a route. One that led to another route has to be
    /// taken out before.
    pub fn name(&mut self, pattern: HostPattern, route: RouteId) -> &mut Self {
        let (names, name) = names_of(&mut self.snapshot, &pattern);
        let before = names.insert(name.clone(), route);
        self.lead(before, Some(route));
        let is_another = before.is_some_and(|before| before != route);
        if !self.named.insert(pattern.clone()) || is_another {
            let name = pattern.to_string().into();
            self.errors.push(SnapshotError::DuplicateName { name });
        }
        self
    }

    /// Makes a name, or the names below a domain, lead nowhere.
    pub fn remove_name(&mut self, pattern: &HostPattern) -> &mut Self {
        let (names, name) = names_of(&mut self.snapshot, pattern);
        let before = names.remove(name);
        self.lead(before, None);
        self.named.remove(pattern);
        self
    }

    /// Sends everything that a listener accepts to a route.
    pub fn fixed(&mut self, listener: ListenerId, route: RouteId) -> &mut Self {
        let before = self.snapshot.fixed.insert(listener, route);
        self.lead(before, Some(route));
        self
    }

    /// Takes the route away that everything of a listener was sent to.
    pub fn remove_fixed(&mut self, listener: ListenerId) -> &mut Self {
        let before = self.snapshot.fixed.remove(&listener);
        self.lead(before, None);
        self
    }

    /// Sends what a listener accepts for no declared name to a route.
    pub fn default_route(&mut self, listener: ListenerId, route: RouteId) -> &mut Self {
        let before = self.snapshot.default.insert(listener, route);
        self.lead(before, Some(route));
        self
    }

    /// Takes the route away that what a listener accepts for no declared name was sent to.
    pub fn remove_default_route(&mut self, listener: ListenerId) -> &mut Self {
        let before = self.snapshot.default.remove(&listener);
        self.lead(before, None);
        self
    }

    /// Ends the building. `previous` is the snapshot that this one replaces, where that is not the one that
    /// it began with: a target that it already had, by route and id, keeps its count of live connections and
    /// its health, and a network keeps its count.
    ///
    /// # Errors
    /// All contradictions.
    pub fn build(mut self, previous: Option<&Snapshot>) -> Result<Snapshot, Vec<SnapshotError>> {
        let base = self.base.clone();
        if let Some(previous) = previous {
            self.keep_loads(previous);
        }
        for id in std::mem::take(&mut self.removed) {
            if let Some(led) = self.snapshot.routes.remove(&id) {
                self.snapshot.leave(&led.route);
            }
            self.led.entry(id).or_default();
        }
        for (_, route) in std::mem::take(&mut self.routes) {
            self.put(route, previous.unwrap_or(&base));
        }
        self.settle_leads();
        match self.errors.is_empty() {
            true => Ok(self.snapshot),
            false => Err(self.errors),
        }
    }

    fn lead(&mut self, before: Option<RouteId>, now: Option<RouteId>) {
        if let Some(before) = before {
            *self.led.entry(before).or_default() -= 1;
        }
        if let Some(now) = now {
            *self.led.entry(now).or_default() += 1;
        }
    }

    /// Has the networks that were declared from nothing go on with the loads of another snapshot.
    fn keep_loads(&mut self, previous: &Snapshot) {
        let declared: Vec<NetworkId> = self.snapshot.networks.keys().copied().collect();
        for id in declared {
            let (Some(old), Some(tenant)) =
                (previous.networks.get(&id), self.snapshot.networks.get(&id))
            else {
                continue;
            };
            let mut tenant = tenant.clone();
            tenant.live = old.live.clone();
            if let Some(network) = tenant.network.take() {
                tenant.network.clone_from(&old.network);
                tenant.take_up(&network);
            }
            self.snapshot.hold(id, tenant);
        }
    }

    /// Puts a route in, with what `previous` knows of its targets and network.
    fn put(&mut self, mut route: Route, previous: &Snapshot) {
        if let Some(old) = previous.route_of(route.id) {
            for target in &mut route.targets {
                let same = old.targets.iter().find(|other| other.id == target.id);
                if let Some(same) = same {
                    target.load = same.load.clone();
                    target.health = same.health.clone();
                }
            }
        }
        let id = route.network.id;
        let old = || previous.networks.get(&id);
        let live = || old().map_or_else(|| route.network.live.clone(), |old| old.live.clone());
        let mut tenant = self.snapshot.tenant(id, live);
        if tenant.network.is_none() {
            tenant.network = old().and_then(|old| old.network.clone());
        }
        route.network = tenant.take_up(&route.network);
        tenant.routes += 1;
        self.snapshot.hold(id, tenant);
        let before = self.snapshot.routes.get(&route.id);
        let by = before.map_or(0, |led| led.by);
        let led = Led {
            by,
            route: Arc::new(route),
        };
        if let Some(before) = self.snapshot.routes.insert(led.route.id, led) {
            self.snapshot.leave(&before.route);
        }
    }

    /// Counts what leads to each route, and refuses what leads to none.
    fn settle_leads(&mut self) {
        for (id, more) in std::mem::take(&mut self.led) {
            let began = self.base.routes.get(&id).map_or(0, |led| led.by);
            let by = u32::try_from(i64::from(began) + more).unwrap_or_default();
            match self.snapshot.routes.get(&id) {
                Some(led) if led.by == by => {}
                Some(led) => {
                    let route = Arc::clone(&led.route);
                    self.snapshot.routes.insert(id, Led { route, by });
                }
                None if by == 0 => {}
                None => self.errors.push(SnapshotError::UnknownRoute { route: id }),
            }
        }
    }
}

/// Where a pattern's name is kept, and the name.
fn names_of<'s, 'p>(
    snapshot: &'s mut Snapshot,
    pattern: &'p HostPattern,
) -> (&'s mut SharedMap<Hostname, RouteId>, &'p Hostname) {
    match pattern {
        HostPattern::Exact(name) => (&mut snapshot.exact, name),
        HostPattern::Wildcard(domain) => (&mut snapshot.wildcard, domain),
    }
}

impl Snapshot {
    /// A network as it is so far, or one that nothing is known of.
    fn tenant(&self, id: NetworkId, live: impl FnOnce() -> Load) -> Tenant {
        let held = self.networks.get(&id).cloned();
        held.unwrap_or_else(|| Tenant {
            live: live(),
            network: None,
            routes: 0,
            is_declared: false,
        })
    }

    /// Takes up what has become of a network. One that nobody declares and nothing leads to is gone.
    fn hold(&mut self, id: NetworkId, tenant: Tenant) {
        let netns = |tenant: &Tenant| tenant.network.as_ref().map(|network| network.netns);
        let before = self.networks.get(&id).and_then(netns);
        let is_there = tenant.is_declared || tenant.routes > 0;
        let now = is_there.then(|| netns(&tenant)).flatten();
        if is_there {
            self.networks.insert(id, tenant);
        } else {
            self.networks.remove(&id);
        }
        if before == now {
            return;
        }
        if let Some(before) = before {
            match self.namespaces.get(&before).copied().unwrap_or_default() {
                0 | 1 => self.namespaces.remove(&before),
                count => self.namespaces.insert(before, count - 1),
            };
        }
        if let Some(now) = now {
            let count = self.namespaces.get(&now).copied().unwrap_or_default();
            self.namespaces.insert(now, count + 1);
        }
    }

    /// Counts a route less of its network.
    fn leave(&mut self, route: &Route) {
        let id = route.network.id;
        if let Some(tenant) = self.networks.get(&id) {
            let mut tenant = tenant.clone();
            tenant.routes = tenant.routes.saturating_sub(1);
            self.hold(id, tenant);
        }
    }
}

impl Tenant {
    /// What the routes of a network share from now on: what they did, unless that says something else.
    fn take_up(&mut self, network: &Network) -> Arc<Network> {
        let is_same = |held: &&Arc<Network>| {
            held.name == network.name
                && held.netns == network.netns
                && held.live.is_same(&self.live)
        };
        let shared = match self.network.as_ref().filter(is_same) {
            Some(held) => Arc::clone(held),
            None => Arc::new(Network {
                live: self.live.clone(),
                ..network.clone()
            }),
        };
        self.network = Some(Arc::clone(&shared));
        shared
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
    /// Names or listeners for a route that was not added, or was removed.
    #[error("there is no route with id {route}")]
    UnknownRoute {
        /// The id.
        route: RouteId,
    },
}
