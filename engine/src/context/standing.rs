//! What a worker has learnt of a route from its requests: which targets fail, and how much may
//! still be repeated.
//!
//! Each worker learns by itself, so nothing is shared on the way of a request: a target that fails
//! is left out by a worker as soon as that worker has seen it fail often enough.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
};

use engine_core::snapshot::{Route, Target};
use engine_http::{
    health::{Change, Ejection, Passive},
    retry::{Budget, Retries},
};

/// One route's standing on one worker. Times are nanoseconds of the workers' clock.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    budget: Cell<Budget>,
    /// Made at the first failure: without one there is nothing to look at.
    seen: RefCell<Option<Box<Seen>>>,
}

/// What was seen of the targets at these addresses.
#[derive(Debug)]
struct Seen {
    addresses: Box<[SocketAddr]>,
    passive: Passive,
}

impl Standing {
    /// Whether a target is left out for a while.
    pub(crate) fn is_out(&self, route: &Route, target: usize, now: u64) -> bool {
        let seen = self.seen.borrow();
        seen.as_ref()
            .is_some_and(|seen| seen.is_of(route) && seen.passive.is_ejected(target, now))
    }

    /// Whether any target ever failed: without that, the time need not be asked for.
    pub(crate) fn is_clean(&self) -> bool {
        self.seen.borrow().is_none()
    }

    /// A target answered.
    pub(crate) fn answered(&self, target: usize, ejection: &Ejection, now: u64) {
        if let Some(seen) = &mut *self.seen.borrow_mut() {
            seen.passive.observe(target, true, ejection, now);
        }
    }

    /// A target failed a request. Says whether it is left out for that.
    pub(crate) fn failed(
        &self,
        route: &Route,
        target: usize,
        ejection: &Ejection,
        now: u64,
    ) -> bool {
        let mut seen = self.seen.borrow_mut();
        if !seen.as_ref().is_some_and(|seen| seen.is_of(route)) {
            *seen = Some(Box::new(Seen::of(route)));
        }
        let change = seen
            .as_mut()
            .and_then(|seen| seen.passive.observe(target, false, ejection, now));
        change == Some(Change::Down)
    }

    /// Forgets what was seen.
    pub(crate) fn forget(&self) {
        self.seen.take();
    }

    /// Counts a request towards what may be repeated.
    pub(crate) fn deposit(&self, retries: &Retries) {
        let mut budget = self.budget.get();
        budget.deposit(retries);
        self.budget.set(budget);
    }

    /// Takes one repetition, if there is one.
    pub(crate) fn withdraw(&self, retries: &Retries, now: u64) -> bool {
        let mut budget = self.budget.get();
        let may = budget.withdraw(retries, now);
        self.budget.set(budget);
        may
    }
}

impl Seen {
    fn of(route: &Route) -> Self {
        let addresses = route.targets.iter().map(|target| target.address);
        Self {
            addresses: addresses.collect(),
            passive: Passive::new(route.targets.len()),
        }
    }

    /// Whether the route still has the same targets in the same order.
    fn is_of(&self, route: &Route) -> bool {
        let address = |target: &Target| target.address;
        route
            .targets
            .iter()
            .map(address)
            .eq(self.addresses.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use engine_core::{
        balance::{Balance, Load},
        health::Health,
        ids::{NetnsId, NetworkId, RouteId},
        snapshot::Network,
    };

    use super::*;

    fn route(addresses: &[&str]) -> Route {
        let targets = addresses.iter().map(|address| Target {
            address: address.parse().unwrap(),
            weight: 1,
            backup: false,
            proxy_protocol: None,
            load: Load::default(),
            health: Health::default(),
        });
        Route {
            id: RouteId(1),
            label: "a".into(),
            network: Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            },
            targets: targets.collect(),
            balance: Balance::default(),
        }
    }

    #[test]
    fn a_failing_target_is_left_out_until_the_targets_change() {
        let standing = Standing::default();
        let ejection = Ejection {
            failures: 2,
            ..Ejection::default()
        };
        let two = route(&["10.0.0.1:80", "10.0.0.2:80"]);
        assert!(standing.is_clean());
        assert!(!standing.failed(&two, 1, &ejection, 0));
        assert!(standing.failed(&two, 1, &ejection, 0));
        assert!(standing.is_out(&two, 1, 1) && !standing.is_out(&two, 0, 1));
        let other = route(&["10.0.0.1:80", "10.0.0.3:80"]);
        assert!(
            !standing.is_out(&other, 1, 1),
            "another one is in its place"
        );
    }
}
