//! Asks targets whether they are well, where their rules say so.
//!
//! Each target of a rule is asked by one worker, from inside its network's namespace, however many
//! workers there are; what comes of it is seen by all of them ([`engine_core::health::Health`]). A
//! check is a task that sleeps between two probes, so thousands of targets cost a timer each.
//! Intervals are spread by a tenth, so that targets which were declared at once are not asked at
//! once for ever.

mod probe;

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ahash::RandomState;
use engine_core::{
    health::Health,
    ids::{NetnsId, RouteId, WorkerId},
    proxy_protocol::Version,
};
use engine_http::{
    health::{Active, Change, Check},
    rules::{Action, Table},
};
use engine_sys::netns::{Identity, Netns};

use self::probe::{Probed, probe};
use crate::{context::WorkerContext, rt, upstream::Pools};

/// Most probes that one worker has under way.
const PROBES_MAX: u32 = 64;

/// How long a probe waits for another one to end when there are as many as may be.
const CROWDED_PAUSE: Duration = Duration::from_millis(20);

/// The first probe of a target comes within this time, and within its interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

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
    pub target: SocketAddr,
}

/// A target that is checked.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Whose it is, and where.
    pub(crate) key: (RouteId, SocketAddr),
    /// The route's label, and the network's name.
    label: Arc<str>,
    network: Arc<str>,
    netns: NetnsId,
    /// What the namespace is now; `None` where it is missing.
    namespace: Option<Identity>,
    proxy_protocol: Option<Version>,
    check: Check,
    health: Health,
    /// The worker that asks it.
    owner: WorkerId,
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
    let mut planned: HashMap<(RouteId, SocketAddr), Arc<Checked>> = HashMap::new();
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
            let key = (rule.route.id, target.address);
            let owner = random.hash_one(key) % u64::try_from(workers).unwrap_or(1).max(1);
            let fresh = Checked {
                key,
                label: Arc::clone(&rule.route.label),
                network: Arc::clone(&rule.route.network.name),
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
            old.health.set_down(false);
        }
    }
    planned.into_values().collect()
}

/// Starts the checks that are this worker's and do not run yet.
pub(crate) fn start(worker: &Rc<WorkerContext>, pools: &Rc<Pools>, checks: &[Arc<Checked>]) {
    let mine = checks.iter().filter(|checked| checked.owner == worker.id);
    for checked in mine.filter(|checked| !checked.is_started.swap(true, Relaxed)) {
        let (worker, pools) = (Rc::clone(worker), Rc::clone(pools));
        rt::spawn(run(worker, pools, Arc::clone(checked)));
    }
}

impl Checked {
    /// Its target, where it is down.
    pub(crate) fn down(&self) -> Option<TargetDown> {
        let (route, target) = self.key;
        self.health.is_down().then(|| TargetDown {
            route,
            label: Arc::clone(&self.label),
            network: Arc::clone(&self.network),
            target,
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.netns == other.netns
            && self.namespace == other.namespace
            && self.proxy_protocol == other.proxy_protocol
            && self.check == other.check
    }

    fn is_over(&self, worker: &WorkerContext) -> bool {
        self.is_retired.load(Relaxed) || worker.stopped().is_stopped()
    }

    /// Takes the result of one probe.
    fn observe(&self, active: &mut Active, passed: bool) {
        if self.is_retired.load(Relaxed) {
            return;
        }
        let change = active.observe(passed, &self.check);
        self.health.set_down(!active.is_up());
        let (network, target) = (&*self.network, self.key.1);
        match change {
            Some(Change::Down) => tracing::warn!(network, %target, "the target fails its checks"),
            Some(Change::Up) => tracing::info!(network, %target, "the target is well again"),
            None => {}
        }
    }
}

/// Asks one target until it is retired or the worker stops.
async fn run(worker: Rc<WorkerContext>, pools: Rc<Pools>, checked: Arc<Checked>) {
    let mut active = Active::default();
    let interval = checked.check.interval;
    let first = interval.min(FIRST_WITHIN);
    rt::sleep(first.mul_f64(share(worker.chance.draw()))).await;
    while !checked.is_over(&worker) {
        while worker.probes.get() >= PROBES_MAX {
            rt::sleep(CROWDED_PAUSE).await;
        }
        let began = Instant::now();
        worker.probes.set(worker.probes.get() + 1);
        // Apart, so that a check that sleeps is small.
        let probed = Box::pin(probe((&worker, &pools), &checked)).await;
        worker.probes.set(worker.probes.get() - 1);
        match probed {
            Probed::Passed => checked.observe(&mut active, true),
            Probed::Failed => checked.observe(&mut active, false),
            // Nothing is known of the target.
            Probed::NotAsked => {}
        }
        let spread = interval.mul_f64(0.95 + 0.1 * share(worker.chance.draw()));
        rt::sleep(spread.saturating_sub(began.elapsed())).await;
    }
}

/// An even share, from 0 to 1, of a random number.
fn share(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
