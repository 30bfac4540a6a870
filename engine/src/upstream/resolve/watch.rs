//! Looks at names before clients ask for them: what leads nowhere shows in the status without a request.

use std::{rc::Rc, time::Duration};

use engine_core::destination::Destination;

use crate::{
    context::WorkerContext,
    rt,
    upstream::{Pools, resolve::resolve},
};

/// From one look at all names of a worker to the next.
const EVERY: Duration = Duration::from_secs(5);

/// How long one route's names are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most routes of a worker whose names are looked at; those of the others are looked up for clients alone.
const WATCHED_MAX: usize = 512;

/// Looks at the names of this worker's share of the routes until the worker stops.
pub(crate) async fn watch(worker: Rc<WorkerContext>, pools: Rc<Pools>) {
    while !worker.is_stopped() {
        let current = worker.current();
        let named = current.0.named.values();
        let own = named.filter(|(owner, _)| *owner == worker.id);
        for (_, route) in own.take(WATCHED_MAX) {
            let at = (&*current.0, Destination::Route(route));
            let resolved = Box::pin(resolve(&worker, &pools, at, PATIENCE)).await;
            resolved.note(route);
            let is_over = !Rc::ptr_eq(&current, &worker.current());
            if is_over || worker.is_stopped() {
                break;
            }
        }
        let is_over = !Rc::ptr_eq(&current, &worker.current());
        drop(current);
        rt::sleep(if is_over { SOON } else { EVERY }).await;
    }
}

/// After a change it is looked again within this time.
const SOON: Duration = Duration::from_millis(100);
