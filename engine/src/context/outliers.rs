//! What a worker has learnt of a route from its requests and connections: which targets fail, and how much may
//! still be repeated.
//!
//! Each worker learns by itself, so nothing is shared on the way of a request: a target that fails
//! is left out by a worker as soon as that worker has seen it fail often enough.

use std::cell::{Cell, RefCell};

use engine_core::{ids::TargetId, snapshot::Route};
use engine_http::{
    health::{Change, Ejection, Passive},
    retry::{Budget, Retries},
};

/// What one worker knows of the failures of one route's targets. Times are nanoseconds of the workers' clock.
#[derive(Debug, Default)]
pub(crate) struct OutlierDetection {
    budget: Cell<Budget>,
    /// Made at the first failure: without one there is nothing to look at.
    seen: RefCell<Option<Box<Seen>>>,
}

/// What was seen of these targets.
#[derive(Debug, Default)]
struct Seen {
    targets: Box<[TargetId]>,
    passive: Passive,
}

impl OutlierDetection {
    /// Whether a target is left out for a while.
    pub(crate) fn is_out(&self, target: TargetId, now: u64) -> bool {
        let seen = self.seen.borrow();
        seen.as_ref().is_some_and(|seen| {
            let place = seen.place(target);
            place.is_some_and(|place| seen.passive.is_ejected(place, now))
        })
    }

    /// Whether any target ever failed: without that, the time need not be asked for.
    pub(crate) fn is_clean(&self) -> bool {
        self.seen.borrow().is_none()
    }

    /// A target answered.
    pub(crate) fn answered(&self, target: TargetId, ejection: &Ejection, now: u64) {
        if let Some(seen) = &mut *self.seen.borrow_mut()
            && let Some(place) = seen.place(target)
        {
            seen.passive.observe(place, true, ejection, now);
        }
    }

    /// A target failed a request, or took no connection. Says whether it is left out for that.
    pub(crate) fn failed(
        &self,
        route: &Route,
        target: TargetId,
        ejection: &Ejection,
        now: u64,
    ) -> bool {
        let mut seen = self.seen.borrow_mut();
        let seen = match &mut *seen {
            Some(seen) => seen,
            unseen @ None => unseen.insert(Box::default()),
        };
        // Whoever was routed by an older publication knows other targets: nothing of those that came since is
        // forgotten for that.
        if seen.place(target).is_none() {
            seen.add(route);
        }
        let change = seen
            .place(target)
            .and_then(|place| seen.passive.observe(place, false, ejection, now));
        change == Some(Change::Down)
    }

    /// Has the targets that the route has from now on, and forgets what was seen of all others.
    pub(crate) fn follow(&self, route: &Route) {
        if let Some(seen) = &mut *self.seen.borrow_mut() {
            seen.arrange(route.targets.iter().map(|target| target.id).collect());
        }
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
    fn place(&self, target: TargetId) -> Option<usize> {
        self.targets.iter().position(|id| *id == target)
    }

    /// Has the targets of a route as well.
    fn add(&mut self, route: &Route) {
        let ids = route.targets.iter().map(|target| target.id);
        let unknown = ids.filter(|id| self.place(*id).is_none());
        self.arrange(self.targets.iter().copied().chain(unknown).collect());
    }

    /// Has these targets alone. What was seen of them stays.
    fn arrange(&mut self, targets: Box<[TargetId]>) {
        let from = targets.iter().map(|id| self.place(*id));
        self.passive = self.passive.arranged(from);
        self.targets = targets;
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use engine_core::{
        balance::{Balance, Load},
        ids::{NetnsId, NetworkId, RouteId},
        snapshot::{Network, Target},
    };

    use super::*;

    fn route(addresses: &[&str]) -> Route {
        let targets = addresses
            .iter()
            .map(|address| Target::new(address.parse::<SocketAddr>().unwrap()));
        Route {
            id: RouteId(1),
            label: "a".into(),
            network: Arc::new(Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            }),
            targets: targets.collect(),
            balance: Balance::default(),
        }
    }

    #[test]
    fn what_was_seen_of_a_target_stays_with_it_wherever_it_stands() {
        let outliers = OutlierDetection::default();
        let ejection = Ejection {
            failures: 2,
            ..Ejection::default()
        };
        let two = route(&["10.0.0.1:80", "10.0.0.2:80"]);
        let [one, failing] = [two.targets[0].id, two.targets[1].id];
        assert!(outliers.is_clean());
        assert!(!outliers.failed(&two, failing, &ejection, 0));
        assert!(outliers.failed(&two, failing, &ejection, 0));
        assert!(outliers.is_out(failing, 1) && !outliers.is_out(one, 1));
        let other = route(&["10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]);
        assert!(!outliers.failed(&other, other.targets[1].id, &ejection, 1));
        assert!(outliers.is_out(failing, 2), "it has moved to the front");
        assert!(
            !outliers.is_out(other.targets[1].id, 2),
            "another one is in its place"
        );
    }

    #[test]
    fn an_outdated_route_forgets_nothing_of_the_targets_that_came_since() {
        let outliers = OutlierDetection::default();
        let ejection = Ejection {
            failures: 1,
            ..Ejection::default()
        };
        let old = route(&["10.0.0.1:80", "10.0.0.2:80"]);
        let new = route(&["10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"]);
        let [gone, came] = [old.targets[0].id, new.targets[1].id];
        assert!(outliers.failed(&old, old.targets[1].id, &ejection, 0));
        outliers.follow(&new);
        assert!(outliers.failed(&new, came, &ejection, 0));
        outliers.failed(&old, gone, &ejection, 0);
        assert!(outliers.is_out(came, 1) && outliers.is_out(old.targets[1].id, 1));
        outliers.follow(&new);
        assert!(outliers.is_out(came, 1) && !outliers.is_out(gone, 1));
    }
}
