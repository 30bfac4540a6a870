//! What the tests wait for.

use std::{
    thread,
    time::{Duration, Instant},
};

use engine::Engine;
use engine_core::ids::RouteId;

use crate::edge::PATIENCE;

/// The routes of the two networks.
pub(crate) const A: RouteId = RouteId(1);
pub(crate) const B: RouteId = RouteId(2);

/// What a route's targets have given so far.
pub(crate) fn bytes_out(engine: &mut Engine, route: RouteId) -> u64 {
    let counters = engine.counters().routes.get(&route);
    counters.map_or(0, |route| route.tally.bytes_out)
}

/// Waits until the gateway has got something from a route's target and gets nothing more: what it has
/// waits in its buffers, for a client that does not read. `before` is what the target had given before.
pub(crate) fn until_held(engine: &mut Engine, route: RouteId, before: u64) {
    let deadline = Instant::now() + PATIENCE;
    let mut last = before;
    loop {
        let bytes = bytes_out(engine, route);
        if bytes > before && bytes == last {
            return;
        }
        assert!(Instant::now() < deadline, "it is never held up");
        last = bytes;
        thread::sleep(Duration::from_millis(150));
    }
}

/// Waits until no connection is left.
pub(crate) fn until_all_ended(engine: &mut Engine) {
    let deadline = Instant::now() + PATIENCE;
    while engine.counters().workers[0].state.live > 0 {
        assert!(Instant::now() < deadline, "a connection does not end");
        thread::sleep(Duration::from_millis(1));
    }
}
