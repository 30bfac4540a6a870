//! The targets that are checked, as a publication says.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ahash::RandomState;
use engine_core::{
    endpoint::Endpoint,
    health::Health,
    ids::{NetnsId, NetworkId, RouteId, TargetId, WorkerId},
    proxy_protocol::Version,
};
use engine_http::{
    health::{Active, Change, Check},
    rules::{Action, Table},
};
use engine_sys::netns::{Identity, Netns};

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

/// What is checked by the rules of a table. What was checked in the same way `before` goes on; the
/// rest of that is retired, and is well again unless somebody else checks it.
///
/// What is known of a target in one namespace says nothing of the same address in another.
pub(crate) fn plan(
    (table, namespaces): (&Table, &HashMap<NetnsId, Arc<Netns>>),
    before: &[Arc<Checked>],
    workers: usize,
) -> Vec<Arc<Checked>> {
    let before: HashMap<_, _> = before
        .iter()
        .map(|checked| (checked.key, checked))
        .collect();
    let mut planned: HashMap<(RouteId, TargetId), Arc<Checked>> = HashMap::new();
    // Only to spread targets over workers: it need not be the same in another run.
    let random = RandomState::with_seed(0);
    let proxies = table
        .rules()
        .filter(|rule| matches!(rule.action, Action::Proxy));
    for rule in proxies {
        let Some(check) = &rule.policy.check else {
            continue;
        };
        for target in &rule.route.targets {
            let key = (rule.route.id, target.id);
            let owner = random.hash_one(key) % u64::try_from(workers).unwrap_or(1).max(1);
            let fresh = Checked {
                key,
                endpoint: target.endpoint.clone(),
                label: Arc::clone(&rule.route.label),
                network: Arc::clone(&rule.route.network.name),
                network_id: rule.route.network.id,
                netns: rule.route.network.netns,
                namespace: namespaces
                    .get(&rule.route.network.netns)
                    .map(|netns| netns.identity()),
                proxy_protocol: target.proxy_protocol,
                check: check.clone(),
                health: target.health.clone(),
                owner: WorkerId(u16::try_from(owner).unwrap_or(0)),
                is_started: AtomicBool::new(false),
                is_retired: AtomicBool::new(false),
            };
            let same = before.get(&key).filter(|old| old.is_like(&fresh));
            let checked = same.map_or_else(|| Arc::new(fresh), |same| Arc::clone(same));
            planned.entry(key).or_insert(checked);
        }
    }
    for (key, old) in before {
        let kept = planned.get(&key);
        if !kept.is_some_and(|kept| Arc::ptr_eq(kept, old)) {
            old.is_retired.store(true, Relaxed);
        }
        if kept.is_none_or(|kept| kept.namespace != old.namespace) {
            old.health.set_down_at(Vec::new(), false);
        }
    }
    planned.into_values().collect()
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
