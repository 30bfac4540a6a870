//! What the publication before was made of, network by network and host by host, and what of it
//! another state changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control_api::{
    boot::Listener,
    place::{NetworkKey, NetworkName, Place},
    state::{Network, Networks, Route, route::RouteTls},
};
use engine_core::{
    hostname::HostPattern,
    ids::{ListenerId, NetnsId, NetworkId, RouteId},
    shared_map::SharedMap,
};

use super::{Input, PlannedListener};
use crate::ids::RouteKey;

/// The publication before. A copy shares everything.
#[derive(Clone, Debug)]
pub(super) struct Before {
    pub(super) networks: Networks,
    /// The boot file's listeners.
    pub(super) listeners: Arc<[Listener]>,
    /// Whether it kept hosts of networks that were left out.
    pub(super) has_held: bool,
    pub(super) pieces: SharedMap<NetworkKey, Arc<Piece>>,
    pub(super) boots: Arc<[PlannedListener]>,
    /// The listeners of networks that have any.
    pub(super) own: Arc<BTreeMap<NetworkKey, Vec<PlannedListener>>>,
}

/// What a network has in a publication.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) id: NetworkId,
    pub(super) netns: NetnsId,
    /// `None` is the host of rules for all that nobody declared.
    pub(super) hosts: SharedMap<Option<HostPattern>, Arc<HostPiece>>,
    pub(super) listeners: Vec<OwnListener>,
}

/// What a host has in a publication.
#[derive(Clone, Debug, Default)]
pub(super) struct HostPiece {
    /// All that has an id.
    pub(super) ids: Vec<(RouteId, Arc<RouteKey>)>,
    /// Those that are in the snapshot.
    pub(super) routes: Vec<RouteId>,
    /// Whether TLS of its name is passed through.
    pub(super) is_passed: bool,
    /// Whether its TLS ends here.
    pub(super) ends_tls: bool,
    /// The routes whose targets are not spoken with in plain HTTP/1.
    pub(super) origins: Vec<RouteId>,
}

/// What a network's own listener has in a publication.
#[derive(Clone, Debug)]
pub(super) struct OwnListener {
    pub(super) id: ListenerId,
    pub(super) route: Option<(RouteId, Arc<RouteKey>)>,
    pub(super) is_fixed: bool,
}

/// How much of a network is to be made anew.
pub(super) enum Extent {
    /// Everything.
    Whole,
    /// These hosts.
    Hosts(BTreeSet<Option<HostPattern>>),
}

impl Before {
    /// All listeners.
    pub(super) fn listeners(&self) -> Vec<PlannedListener> {
        let own = self.own.values().flatten();
        self.boots.iter().chain(own).cloned().collect()
    }

    /// What is to be made anew; `None` where that is everything.
    pub(super) fn changes(&self, input: &Input<'_>) -> Option<Vec<(NetworkKey, Extent)>> {
        let has_held = self.has_held || !input.held.is_empty();
        if has_held || *self.listeners != *input.listeners {
            return None;
        }
        let networks = &input.desired.networks;
        let mut changes = Vec::new();
        for key in self.networks.differing(networks) {
            let both = (self.networks.get(&key), networks.get(&key));
            let namespace = |network: Option<&Network>| network.map(|it| it.namespace.clone());
            if places_in(&self.listeners, key).any(|place| {
                // Who is asked for its name may be others now.
                place.endpoint.address().is_none() || namespace(both.0) != namespace(both.1)
            }) {
                return None;
            }
            let extent = match both {
                (Some(before), Some(after)) => extent(before, after),
                (_, _) => Extent::Whole,
            };
            changes.push((key, extent));
        }
        Some(changes)
    }
}

/// Where in a network listeners of the boot file lead.
fn places_in(listeners: &[Listener], key: NetworkKey) -> impl Iterator<Item = &Place> {
    let listeners = listeners.iter();
    let places = listeners.flat_map(|it| it.to.iter().chain(&it.default));
    places.filter(move |place| place.network == NetworkName::Port(key))
}

fn extent(before: &Network, after: &Network) -> Extent {
    if frame(before) != frame(after) {
        return Extent::Whole;
    }
    let (before, after) = differing(&before.routes, &after.routes);
    let mut hosts = BTreeSet::new();
    for route in before.iter().chain(after) {
        let host = route.host.pattern();
        // It may say how TLS of every host below it ends.
        let is_above = matches!(host, Some(HostPattern::Wildcard(_)));
        if is_above && route.tls == Some(RouteTls::Terminate) {
            return Extent::Whole;
        }
        hosts.insert(host.cloned());
    }
    Extent::Hosts(hosts)
}

/// All that concerns every host of a network: what the workers learn of it but for its rules.
pub(crate) fn frame(network: &Network) -> impl PartialEq + '_ {
    let Network {
        namespace,
        dns,
        proxy,
        listeners,
        tls,
        error_pages,
        ..
    } = network;
    (namespace, dns, proxy, listeners, tls, error_pages)
}

/// What two lists have between what they begin and end with alike.
fn differing<'r>(
    before: &'r [Arc<Route>],
    after: &'r [Arc<Route>],
) -> (&'r [Arc<Route>], &'r [Arc<Route>]) {
    let is_same = |(one, other): &(&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(one, other);
    let begin = before.iter().zip(after).take_while(is_same).count();
    let (before, after) = (&before[begin..], &after[begin..]);
    let backwards = before.iter().rev().zip(after.iter().rev());
    let end = backwards.take_while(is_same).count();
    (&before[..before.len() - end], &after[..after.len() - end])
}
