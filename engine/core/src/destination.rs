//! Where a flow goes: what was decided for it, or what its client named.

use std::sync::Arc;

use crate::{
    balance::Balance,
    endpoint::Endpoint,
    ids::RouteId,
    snapshot::{Network, Route, Target},
};

/// Where a flow goes.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// Where the state leads a name, a listener or a request.
    Route(&'a Route),
    /// What the client named itself.
    Chosen(&'a Chosen),
}

/// What lets flows out to where their clients say. They are counted and logged by it, as others are by
/// their route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of the same numbers as those of routes.
    pub id: RouteId,
    /// As in logs and metrics.
    pub label: Arc<str>,
}

/// A destination that a client named: one target, of a network that lets it out.
///
/// Nobody vouches for it, so an address is held to the rules of what a name resolves to: no listener of the
/// gateway, and from a tenant's namespace neither loopback nor link-local.
#[derive(Clone, Debug)]
pub struct Chosen {
    route: Route,
}

impl<'a> Destination<'a> {
    /// As a route: what is admitted, dialed and accounted.
    pub fn route(self) -> &'a Route {
        match self {
            Self::Route(route) => route,
            Self::Chosen(chosen) => &chosen.route,
        }
    }
}

impl Chosen {
    /// `to`, dialed in the network's namespace, because the policy lets it out.
    pub fn new(network: &Arc<Network>, policy: &Policy, to: Endpoint) -> Self {
        Self {
            route: Route {
                id: policy.id,
                label: Arc::clone(&policy.label),
                network: Arc::clone(network),
                targets: vec![Target::new(to)],
                balance: Balance::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        balance::Load,
        ids::{NetnsId, NetworkId},
    };

    #[test]
    fn a_chosen_destination_is_one_target_of_its_network_counted_by_its_policy() {
        let network = Arc::new(Network {
            id: NetworkId(7),
            name: "network-7".into(),
            netns: NetnsId(3),
            live: Load::default(),
        });
        let policy = Policy {
            id: RouteId(9),
            label: "egress".into(),
        };
        let to = Endpoint::parse("db.example:5432").unwrap();
        let chosen = Chosen::new(&network, &policy, to.clone());
        let route = Destination::Chosen(&chosen).route();
        assert_eq!((route.id, &*route.label), (RouteId(9), "egress"));
        assert_eq!(
            (route.network.id, route.network.netns),
            (NetworkId(7), NetnsId(3))
        );
        let targets: Vec<_> = route.targets.iter().map(|it| it.endpoint.clone()).collect();
        assert_eq!(targets, [to]);
        let held = route.network.live.occupy();
        assert_eq!(network.live.live(), 1, "the network's own count");
        drop(held);
    }
}
