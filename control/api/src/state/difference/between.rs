//! What one state has that another one had not, object by object.

use std::sync::Arc;

use super::{Difference, Object, ObjectDifference};
use crate::{
    field::Field as _,
    place::NetworkKey,
    state::{Desired, Network, Route, WireGuard, network, peers, secret::Secrets},
};

impl Difference {
    /// What leads from one state to another. What both share costs the comparison of a pointer for each
    /// network; a network that differs in one rule, or in peers or listeners alone, is told by these.
    pub fn between(before: &Desired, after: &Desired) -> Self {
        let mut difference = Self::default();
        for key in before.networks.differing(&after.networks) {
            match (before.networks.get(&key), after.networks.get(&key)) {
                (Some(one), Some(other)) if one == other => {}
                (Some(one), Some(other)) => match objects(one, other) {
                    Some(objects) => objects.into_iter().for_each(|it| difference.push(it)),
                    None => difference.push(whole(key, Some(other))),
                },
                (_, other) => difference.push(whole(key, other)),
            }
        }
        difference
    }
}

fn whole(key: NetworkKey, network: Option<&Network>) -> ObjectDifference {
    ObjectDifference {
        network: key.to_string(),
        object: Object::Network,
        value: network.map(|network| network::write(network, Secrets::Shown)),
    }
}

/// The objects in which a network differs; `None` where that is not all.
fn objects(before: &Network, after: &Network) -> Option<Vec<ObjectDifference>> {
    if !is_alike(before, after) {
        return None;
    }
    let network = after.port.to_string();
    let mut found: Vec<ObjectDifference> = Vec::new();
    let mut note = |object, value| {
        let network = network.clone();
        found.push(ObjectDifference {
            network,
            object,
            value,
        });
    };
    match rule(&before.routes, &after.routes)? {
        Some(Rule::Put(rule)) => {
            let id = rule.id.as_ref()?.to_string();
            note(Object::Route(id), Some(rule.render(Secrets::Shown)));
        }
        Some(Rule::Removed(rule)) => note(Object::Route(rule.id.as_ref()?.to_string()), None),
        None => {}
    }
    if before.wireguard != after.wireguard {
        let (one, other) = (before.wireguard.as_ref()?, after.wireguard.as_ref()?);
        for key in one
            .peers
            .keys()
            .filter(|key| !other.peers.contains_key(key))
        {
            note(Object::Peer(key.to_string()), None);
        }
        for (key, peer) in &other.peers {
            if one.peers.get(key) != Some(peer) {
                let value = peers::write(peer, Secrets::Shown);
                note(Object::Peer(key.to_string()), Some(value));
            }
        }
    }
    let (one, other) = (&before.listeners, &after.listeners);
    for name in one.keys().filter(|name| !other.contains_key(name)) {
        note(Object::Listener(name.to_string()), None);
    }
    for (name, listener) in other {
        if one.get(name) != Some(listener) {
            note(Object::Listener(name.to_string()), Some(listener.write()));
        }
    }
    Some(found)
}

/// Whether all is alike but for rules, peers and listeners.
fn is_alike(before: &Network, after: &Network) -> bool {
    let device = |wireguard: &Option<WireGuard>| {
        wireguard.as_ref().map(|device| {
            let WireGuard {
                private_key,
                listen_port,
                mtu,
                address,
                peers: _,
            } = device;
            (private_key.clone(), *listen_port, *mtu, address.clone())
        })
    };
    let listed = |network: &Network| {
        let device = network.wireguard.as_ref();
        device.is_some_and(|device| device.address.is_empty())
    };
    let Network {
        port,
        owner,
        namespace,
        dns,
        wireguard,
        adopt,
        peer_to_peer,
        proxy,
        routes: _,
        listeners: _,
        tls,
        error_pages,
    } = before;
    // Peers in a list have their keys in themselves.
    let is_told_by_peers = wireguard == &after.wireguard || !listed(after);
    is_told_by_peers
        && device(wireguard) == device(&after.wireguard)
        && (port, owner, namespace, dns)
            == (&after.port, &after.owner, &after.namespace, &after.dns)
        && (adopt, peer_to_peer) == (&after.adopt, &after.peer_to_peer)
        && (proxy, tls, error_pages) == (&after.proxy, &after.tls, &after.error_pages)
}

enum Rule<'r> {
    Put(&'r Route),
    Removed(&'r Route),
}

/// The one rule in which two lists differ, if any; `None` where they differ in more.
fn rule<'r>(before: &'r [Arc<Route>], after: &'r [Arc<Route>]) -> Option<Option<Rule<'r>>> {
    let is_same = |(one, other): &(&Arc<Route>, &Arc<Route>)| one == other;
    let begin = before.iter().zip(after).take_while(is_same).count();
    let (before, after) = (&before[begin..], &after[begin..]);
    let backwards = before.iter().rev().zip(after.iter().rev());
    let end = backwards.take_while(is_same).count();
    let follows = &after[after.len() - end..];
    let (before, after) = (&before[..before.len() - end], &after[..after.len() - end]);
    match (before, after) {
        ([], []) => Some(None),
        ([old], []) if old.id.is_some() => Some(Some(Rule::Removed(old))),
        ([old], [new]) if old.id.is_some() && old.id == new.id && old.owner == new.owner => {
            Some(Some(Rule::Put(new)))
        }
        ([], [new]) if new.id.is_some() && is_in_its_place(new, follows) => {
            Some(Some(Rule::Put(new)))
        }
        (_, _) => None,
    }
}

/// Whether a rule that came is where one that is put comes: those of `api` behind all others of theirs,
/// those of other owners by their ids.
fn is_in_its_place(rule: &Route, follows: &[Arc<Route>]) -> bool {
    !rule.owner.is_api() || follows.iter().all(|other| !other.owner.is_api())
}
