//! Whose part of the desired state a change is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Desired, Network, Owner, Peer, PublicKey, Route};

/// The owners who have something else in one state than in the other.
pub fn changed_owners(before: &Desired, after: &Desired) -> BTreeSet<Owner> {
    let mut changed = BTreeSet::new();
    for port in &before.networks.differing(&after.networks) {
        match (before.networks.get(port), after.networks.get(port)) {
            (Some(before), Some(after)) if before != after => compare(before, after, &mut changed),
            (Some(_), Some(_)) | (None, None) => {}
            (Some(network), None) | (None, Some(network)) => {
                changed.extend(network.owners().cloned());
            }
        }
    }
    changed
}

fn compare(before: &Network, after: &Network, changed: &mut BTreeSet<Owner>) {
    if bare(before) != bare(after) {
        changed.extend([before.owner.clone(), after.owner.clone()]);
    }
    let (rules, later) = (rules_of(before), rules_of(after));
    let (peers, later_peers) = (peers_of(before), peers_of(after));
    // Each once: all that an owner has is compared.
    let owners: BTreeSet<&Owner> = before.owners().chain(after.owners()).collect();
    let differing = owners.into_iter().filter(|owner| {
        rules.get(owner) != later.get(owner) || peers.get(owner) != later_peers.get(owner)
    });
    changed.extend(differing.cloned());
}

/// What belongs to the network's owner alone.
fn bare(network: &Network) -> Network {
    network.split(|_| false).0
}

fn rules_of(network: &Network) -> BTreeMap<&Owner, Vec<&Arc<Route>>> {
    let mut rules: BTreeMap<&Owner, Vec<&Arc<Route>>> = BTreeMap::new();
    for route in &network.routes {
        rules.entry(&route.owner).or_default().push(route);
    }
    rules
}

fn peers_of(network: &Network) -> BTreeMap<&Owner, BTreeMap<&PublicKey, &Peer>> {
    let mut peers: BTreeMap<&Owner, BTreeMap<_, _>> = BTreeMap::new();
    let device = network.wireguard.iter();
    for (key, peer) in device.flat_map(|device| &device.peers) {
        peers.entry(&peer.owner).or_default().insert(key, peer);
    }
    peers
}
