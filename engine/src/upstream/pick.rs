//! Which target of a route comes next, for connections and requests alike.

use engine_core::{
    balance::{Candidate, Draw, nth},
    ids::TargetId,
    snapshot::{Route, Target},
};

use crate::context::outliers::OutlierDetection;

/// What the next choice goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick<'a> {
    pub(crate) route: &'a Route,
    /// What this worker has seen of the route's targets.
    pub(crate) outliers: &'a OutlierDetection,
    /// Those that failed already, by their positions in this route. They are remembered rather than
    /// counted, because the order may be another one a moment later.
    pub(crate) tried: &'a [usize],
    /// The one to be taken where it is well, whoever's turn it is.
    pub(crate) marked: Option<TargetId>,
}

impl Pick<'_> {
    /// The position of the target that is tried next; `None` where all that are not down by their checks
    /// were tried. Those that are left out for a while come when nobody else is left.
    ///
    /// `now` and `draw` are asked for only where something depends on them.
    pub(crate) fn next(
        &self,
        now: impl FnOnce() -> u64,
        draw: impl FnOnce() -> Draw,
    ) -> Option<usize> {
        let targets = &*self.route.targets;
        if let [only] = targets {
            return (self.tried.is_empty() && !only.health.is_down()).then_some(0);
        }
        let outliers = self.outliers;
        let now = match outliers.is_clean() {
            true => 0,
            false => now(),
        };
        let is_out = |target: &Target| !outliers.is_clean() && outliers.is_out(target.id, now);
        let marked = self.marked.and_then(|marked| {
            let place = targets.iter().position(|target| target.id == marked)?;
            (self.is_well(place) && !is_out(&targets[place])).then_some(place)
        });
        if marked.is_some() {
            return marked;
        }
        let mut candidates = self.candidates();
        let well: Vec<bool> = candidates.iter().map(|it| it.available).collect();
        for (candidate, target) in candidates.iter_mut().zip(targets) {
            candidate.available &= !is_out(target);
        }
        let draw = draw();
        let next = nth(&self.route.balance, &candidates, draw, 0);
        if next.is_some() || outliers.is_clean() {
            return next;
        }
        for (candidate, is_well) in candidates.iter_mut().zip(well) {
            candidate.available = is_well;
        }
        nth(&self.route.balance, &candidates, draw, 0)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let counts = self.route.balance.counts();
        let targets = self.route.targets.iter().enumerate();
        let candidates = targets.map(|(place, target)| Candidate {
            id: target.id,
            weight: target.weight,
            backup: target.backup,
            live: if counts { target.load.live() } else { 0 },
            available: self.is_well(place),
        });
        candidates.collect()
    }

    /// Whether it is not down by its checks, and was not tried.
    fn is_well(&self, place: usize) -> bool {
        let target = self.route.targets.get(place);
        target.is_some_and(|target| !target.health.is_down()) && !self.tried.contains(&place)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use engine_core::{
        balance::{Balance, Load},
        ids::{NetnsId, NetworkId, RouteId},
        snapshot::Network,
    };
    use engine_http::health::Ejection;

    use super::*;

    fn route(balance: Balance, count: u16) -> Route {
        let target = |port| Target::new(SocketAddr::from(([10, 0, 0, 2], port)));
        Route {
            id: RouteId(1),
            label: "a.example".into(),
            network: Arc::new(Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            }),
            targets: (1..=count).map(target).collect(),
            balance,
        }
    }

    fn next(
        (route, outliers): (&Route, &OutlierDetection),
        turn: u64,
        tried: &[usize],
        marked: Option<TargetId>,
    ) -> Option<usize> {
        let pick = Pick {
            route,
            outliers,
            tried,
            marked,
        };
        let (random, key) = (turn, turn);
        pick.next(|| 1, || Draw { turn, random, key })
    }

    fn all() -> [Balance; 4] {
        use engine_core::balance::HashOn;
        [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::PowerOfTwo,
            Balance::Consistent(HashOn::Source),
        ]
    }

    #[test]
    fn a_target_that_failed_is_not_tried_again_however_loads_change() {
        let outliers = OutlierDetection::default();
        for balance in all() {
            for turn in 0..4 {
                let route = route(balance.clone(), 3);
                let (mut tried, mut held) = (Vec::new(), Vec::new());
                while let Some(index) = next((&route, &outliers), turn, &tried, None) {
                    assert!(!tried.contains(&index), "{balance:?}: {index}");
                    // The one that failed has the fewest connections of all from now on.
                    for (other, target) in route.targets.iter().enumerate() {
                        if other != index {
                            held.push(target.load.occupy());
                        }
                    }
                    tried.push(index);
                }
                assert_eq!(tried.len(), 3, "{balance:?}");
            }
        }
        let only = route(Balance::LeastConnections, 1);
        assert_eq!(next((&only, &outliers), 0, &[], None), Some(0));
        assert_eq!(next((&only, &outliers), 0, &[0], None), None);
        only.targets[0].health.set_down(true);
        assert_eq!(next((&only, &outliers), 0, &[], None), None);
    }

    #[test]
    fn a_mark_wins_over_the_turn_and_not_over_health() {
        for balance in all() {
            let (route, outliers) = (route(balance, 3), OutlierDetection::default());
            let marked = Some(route.targets[1].id);
            for turn in 0..4 {
                assert_eq!(next((&route, &outliers), turn, &[], marked), Some(1));
            }
            assert_ne!(next((&route, &outliers), 0, &[1], marked), Some(1));
            route.targets[1].health.set_down(true);
            assert_ne!(next((&route, &outliers), 0, &[], marked), Some(1));
        }
    }

    #[test]
    fn who_is_left_out_comes_last() {
        let ejection = Ejection {
            failures: 1,
            ..Ejection::default()
        };
        for balance in all() {
            let (route, outliers) = (route(balance, 2), OutlierDetection::default());
            assert!(outliers.failed(&route, route.targets[0].id, &ejection, 0));
            for turn in 0..4 {
                assert_eq!(next((&route, &outliers), turn, &[], None), Some(1));
                assert_eq!(next((&route, &outliers), turn, &[1], None), Some(0));
            }
        }
    }
}
