//! The targets that are checked, as a publication says.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use engine_core::{
    endpoint::Endpoint,
    health::Health,
    ids::{NetnsId, NetworkId, RouteId, TargetId, WorkerId},
    proxy_protocol::Version,
    shared_map::SharedMap,
};
use engine_http::{
    health::{Active, Change, Check},
    rules::{Action, Rule},
};
use engine_sys::netns::{Identity, Netns};

use crate::context::snapshot::{Published, owner};

/// A target that fails its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetDown {
    /// The route.
    pub route: RouteId,
    /// The route's label.
    pub label: Arc<str>,
    /// The network's name.
    pub network: Arc<str>,
    /// Where in its network.
    pub target: Endpoint,
}

/// A target that is checked.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Whose it is, and which one.
    pub(crate) key: (RouteId, TargetId),
    pub(crate) endpoint: Endpoint,
    /// The route's label, and the network's name.
    label: Arc<str>,
    pub(crate) network: Arc<str>,
    pub(crate) network_id: NetworkId,
    pub(crate) netns: NetnsId,
    /// What the namespace is now; `None` where it is missing.
    pub(crate) namespace: Option<Identity>,
    pub(crate) proxy_protocol: Option<Version>,
    pub(crate) check: Check,
    pub(crate) health: Health,
    /// The worker that asks it.
    pub(crate) owner: WorkerId,
    is_started: AtomicBool,
    /// It is not to be asked any more.
    is_retired: AtomicBool,
}

/// The targets that are checked, by whose they are and which ones.
pub(crate) type Checks = SharedMap<(RouteId, TargetId), Arc<Checked>>;

/// Has `after` check what its rules say, where these are others than `before`, or dial from another
/// namespace: networks that have `moved`. What was checked in the same way goes on; the rest of that is
/// retired, and is well again unless somebody else checks it. The answer are those that are new.
///
/// What is known of a target in one namespace says nothing of the same address in another.
pub(crate) fn plan(
    (before, after): (&Published, &mut Published),
    moved: &HashSet<NetworkId>,
    workers: usize,
) -> Vec<Arc<Checked>> {
    let hosts = before.http.changed_hosts(&after.http);
    let placed = hosts.iter().flat_map(|host| after.http.placed_at(*host));
    let mut rules: Vec<&Arc<Rule>> = placed.map(|placed| placed.rule).collect();
    if !moved.is_empty() {
        let all = after.http.rules();
        rules.extend(all.filter(|rule| moved.contains(&rule.route.network.id)));
    }
    let mut planned: HashMap<(RouteId, TargetId), Arc<Checked>> = HashMap::new();
    for rule in rules {
        for fresh in checks_of(rule, &after.namespaces, workers) {
            let same = before
                .checks
                .get(&fresh.key)
                .filter(|old| old.is_like(&fresh));
            let checked = same.map_or_else(|| Arc::new(fresh), Arc::clone);
            planned.entry(checked.key).or_insert(checked);
        }
    }
    let placed = hosts.iter().flat_map(|host| before.http.placed_at(*host));
    let targets = placed.flat_map(|placed| {
        let route = &placed.rule.route;
        route.targets.iter().map(|target| (route.id, target.id))
    });
    let gone: Vec<_> = targets.filter(|key| !planned.contains_key(key)).collect();
    for key in gone {
        if let Some(old) = after.checks.remove(&key) {
            old.retire();
        }
    }
    let mut fresh = Vec::new();
    for (key, checked) in planned {
        match before.checks.get(&key) {
            Some(old) if Arc::ptr_eq(old, &checked) => continue,
            Some(old) if old.namespace == checked.namespace => {
                old.is_retired.store(true, Relaxed);
            }
            Some(old) => old.retire(),
            None => {}
        }
        after.checks.insert(key, Arc::clone(&checked));
        fresh.push(checked);
    }
    fresh
}

/// What is checked of a rule's targets, if anything is.
fn checks_of<'r>(
    rule: &'r Rule,
    namespaces: &'r SharedMap<NetnsId, Arc<Netns>>,
    workers: usize,
) -> impl Iterator<Item = Checked> + use<'r> {
    let is_proxy = matches!(rule.action, Action::Proxy);
    let check = rule.policy.check.as_ref().filter(|_| is_proxy);
    let route = &rule.route;
    check.into_iter().flat_map(move |check| {
        route.targets.iter().map(move |target| {
            let key = (route.id, target.id);
            let netns = namespaces.get(&route.network.netns);
            Checked {
                key,
                endpoint: target.endpoint.clone(),
                label: Arc::clone(&route.label),
                network: Arc::clone(&route.network.name),
                network_id: route.network.id,
                netns: route.network.netns,
                namespace: netns.map(|netns| netns.identity()),
                proxy_protocol: target.proxy_protocol,
                check: check.clone(),
                health: target.health.clone(),
                owner: owner(key, workers),
                is_started: AtomicBool::new(false),
                is_retired: AtomicBool::new(false),
            }
        })
    })
}

impl Checked {
    /// Its target, where it is down.
    pub(crate) fn down(&self) -> Option<TargetDown> {
        let (route, _) = self.key;
        self.health.is_down().then(|| TargetDown {
            route,
            label: Arc::clone(&self.label),
            network: Arc::clone(&self.network),
            target: self.endpoint.clone(),
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.netns == other.netns
            && self.namespace == other.namespace
            && self.proxy_protocol == other.proxy_protocol
            && self.check == other.check
    }

    /// It is not asked any more, and well as far as anybody knows.
    fn retire(&self) {
        self.is_retired.store(true, Relaxed);
        self.health.set_down_at(Vec::new(), false);
    }

    /// Whether it is not to be asked any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_retired.load(Relaxed)
    }

    /// Whether it was not started before. It is now.
    pub(crate) fn starts(&self) -> bool {
        !self.is_started.swap(true, Relaxed)
    }

    /// Takes the result of one probe of an address.
    pub(crate) fn observe(&self, active: &mut Active, target: SocketAddr, passed: bool) {
        if self.is_over() {
            return;
        }
        let network = &*self.network;
        match active.observe(passed, &self.check) {
            Some(Change::Down) => tracing::warn!(network, %target, "the target fails its checks"),
            Some(Change::Up) => tracing::info!(network, %target, "the target is well again"),
            None => {}
        }
    }

    /// Says which of the target's addresses are down; the target is where all are.
    pub(crate) fn conclude(&self, actives: &HashMap<SocketAddr, Active>) {
        if self.is_over() {
            return;
        }
        let down = actives.iter().filter(|(_, active)| !active.is_up());
        let down: Vec<IpAddr> = down.map(|(address, _)| address.ip()).collect();
        let all = down.len() == actives.len() && !actives.is_empty();
        match self.endpoint {
            Endpoint::Address(_) => self.health.set_down(all),
            Endpoint::Name { .. } => self.health.set_down_at(down, all),
        }
    }
}

#[cfg(test)]
mod tests;
