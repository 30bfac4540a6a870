//! Asks targets whether they are well, where their rules say so.
//!
//! Each target of a rule is asked by one worker, from inside its network's namespace, however many
//! workers there are; what comes of it is seen by all of them ([`engine_core::health::Health`]). A
//! check is a task that sleeps between two probes, so thousands of targets cost a timer each.
//! Intervals are spread by a tenth, so that targets which were declared at once are not asked at
//! once for ever.

pub(crate) mod probe;

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use engine_core::endpoint::Endpoint;
use engine_http::health::Active;
use futures::future::join_all;

use crate::{
    context::{WorkerContext, checked::Checked, failure::Failure},
    rt,
    upstream::{
        Pools,
        health::probe::{Probed, probe},
        resolve,
    },
};

/// Most probes that one worker has under way.
const PROBES_MAX: u32 = 64;

/// How long a probe waits for another one to end when there are as many as may be.
const CROWDED_PAUSE: Duration = Duration::from_millis(20);

/// The first probe of a target comes within this time, and within its interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Starts the checks that are this worker's and do not run yet.
pub(crate) fn start<'c>(
    worker: &Rc<WorkerContext>,
    pools: &Rc<Pools>,
    checks: impl IntoIterator<Item = &'c Arc<Checked>>,
) {
    let checks = checks.into_iter();
    let mine = checks.filter(|checked| checked.owner == worker.id);
    for checked in mine.filter(|checked| checked.starts()) {
        let (worker, pools) = (Rc::clone(worker), Rc::clone(pools));
        rt::spawn(run(worker, pools, Arc::clone(checked)));
    }
}

/// Asks one target until it is retired or the worker stops.
async fn run(worker: Rc<WorkerContext>, pools: Rc<Pools>, checked: Arc<Checked>) {
    let mut actives = HashMap::new();
    let interval = checked.check.interval;
    let first = interval.min(FIRST_WITHIN);
    rt::sleep(first.mul_f64(share(worker.rng.draw()))).await;
    while !checked.is_over() && !worker.is_stopped() {
        while worker.probes.get() >= PROBES_MAX {
            rt::sleep(CROWDED_PAUSE).await;
        }
        let began = Instant::now();
        worker.probes.set(worker.probes.get() + 1);
        // Apart, so that a check that sleeps is small.
        Box::pin(ask((&worker, &pools), &checked, &mut actives)).await;
        worker.probes.set(worker.probes.get() - 1);
        let spread = interval.mul_f64(0.95 + 0.1 * share(worker.rng.draw()));
        rt::sleep(spread.saturating_sub(began.elapsed())).await;
    }
}

/// Asks each address of a target once.
async fn ask(
    (worker, pools): (&Rc<WorkerContext>, &Rc<Pools>),
    checked: &Checked,
    actives: &mut HashMap<SocketAddr, Active>,
) {
    let addresses = match &checked.endpoint {
        Endpoint::Address(address) => vec![*address],
        name @ Endpoint::Name { .. } => {
            let current = worker.current();
            let at = (&*current.0, (checked.network_id, checked.netns), name);
            match resolve::addresses(worker, pools, at, checked.check.timeout).await {
                Ok(addresses) => addresses,
                Err(why) => {
                    // What is known of its addresses stays: it may lead there again.
                    Failure::from(why).note_at(&checked.health, &checked.network, name);
                    checked.health.fail_request(1);
                    return;
                }
            }
        }
    };
    actives.retain(|address, _| addresses.contains(address));
    let probes = addresses.iter();
    let probes = probes.map(|address| probe((worker, pools), checked, *address));
    let probed = join_all(probes).await;
    for (address, probed) in addresses.into_iter().zip(probed) {
        let active = actives.entry(address).or_default();
        match probed {
            Probed::Passed => checked.observe(active, address, true),
            Probed::Failed => checked.observe(active, address, false),
            // Nothing is known of the target.
            Probed::NotAsked => {}
        }
    }
    checked.conclude(actives);
}

/// An even share, from 0 to 1, of a random number.
fn share(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
