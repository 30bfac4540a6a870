//! Changes of one network, one rule or one peer.

use std::sync::Arc;

use super::{EditError, Scope, own, replace};
use crate::{
    boot::ListenerName,
    document::{self, At, Content, Node, Spot},
    field::Field as _,
    place::NetworkKey,
    problem::{Problems, Valid},
    state::{
        Desired, LISTENERS_MAX, Listener, Network, Route, RuleId, Taken, Whose, dns,
        key::PublicKey,
        listeners,
        network::{self, Among},
        patch, peers,
        routes::{self, Beside},
        secret::{Kept, Secrets},
    },
};

type Edited = Result<Valid<Desired>, EditError>;

pub(super) fn patch_network(
    current: &Desired,
    port: NetworkKey,
    text: &str,
    whose: &Whose,
) -> Edited {
    let network = find(current, port)?;
    own(whose, &network.owner, network.name())?;
    let mut problems = Problems::default();
    let written = network.render(whose, Secrets::Kept).unwrap_or_default();
    let merged = document::read_json(&written.to_string(), &mut problems)
        .zip(read_patch(text, &mut problems))
        .map(|(mut merged, patch)| {
            patch::merge(&mut merged, patch);
            merged
        });
    let patched =
        merged.and_then(|merged| read_network(current, port, &merged, whose, &mut problems));
    decide(current, patched, problems)
}

fn read_patch(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut patch = document::read_json(text, problems)?;
    patch::canonical(&mut patch);
    patch::refuse_duplicates(&Spot::root(&patch), problems);
    Some(patch)
}

pub(super) fn put_network(
    current: &Desired,
    port: NetworkKey,
    text: &str,
    whose: &Whose,
) -> Edited {
    if let Some(network) = current.networks.get(&port) {
        own(whose, &network.owner, network.name())?;
    }
    let mut problems = Problems::default();
    let network = document::read_json(text, &mut problems)
        .and_then(|node| read_network(current, port, &node, whose, &mut problems));
    decide(current, network, problems)
}

/// Reads a network in the place of the one of a state with its port, with what others have in it, and
/// beside all other networks.
fn read_network(
    current: &Desired,
    port: NetworkKey,
    node: &Node,
    whose: &Whose,
    problems: &mut Problems,
) -> Option<Network> {
    let before = current.networks.get(&port);
    let others = before.map(|network| network.split(|owner| whose.has(owner)).1);
    let among = Among {
        port,
        whose,
        kept: Kept::From(before),
        others: &others.unwrap_or_default(),
    };
    let mut taken = Taken::by_others(current.networks.claimed(), port);
    network::read(&Spot::root(node), among, &mut taken, problems)
}

/// The state with a network that was read, or everything that is wrong with it.
fn decide(current: &Desired, network: Option<Network>, problems: Problems) -> Edited {
    let desired = network.map(|network| {
        let mut desired = current.clone();
        desired.networks.insert(network, &current.networks);
        desired
    });
    problems.decide(desired).map_err(EditError::Problems)
}

pub(super) fn remove_network(current: &Desired, port: NetworkKey, scope: &Scope) -> Edited {
    let network = find(current, port)?;
    own(&scope.whose, &network.owner, network.name())?;
    let mut problems = Problems::default();
    replace::refuse_in_use(network, scope, String::new(), &mut problems);
    let mut desired = current.clone();
    desired.networks.remove(&port);
    problems.decide(Some(desired)).map_err(EditError::Problems)
}

pub(super) fn put_route(
    current: &Desired,
    (port, id): (NetworkKey, &RuleId),
    text: &str,
    whose: &Whose,
) -> Edited {
    let network = find(current, port)?;
    if let Some(route) = network.route(id) {
        own(
            whose,
            &route.owner,
            format_args!("route {id} of {}", network.name()),
        )?;
    }
    let mut problems = Problems::default();
    let routes = document::read_json(text, &mut problems).and_then(|node| {
        let beside = Beside::of(network, whose);
        let mut taken = Taken::by_others(current.networks.claimed(), port);
        let rule = (id, &*network.routes);
        routes::put(&Spot::root(&node), rule, &beside, &mut taken, &mut problems)
    });
    let network = with_routes(network, routes);
    check(network.as_ref(), &mut problems);
    decide(current, network, problems)
}

/// Checks of a network of which one object was put what is checked of a whole one.
fn check(network: Option<&Network>, problems: &mut Problems) {
    let Some(network) = network else {
        return;
    };
    let nowhere = Node::new(At::Line(1), Content::Null);
    let spot = Spot::root(&nowhere);
    dns::check(network, &spot, problems);
    if network.listeners.len() > LISTENERS_MAX {
        let message = format_args!("a network has at most {LISTENERS_MAX} listeners");
        spot.error(problems, message);
    }
}

pub(super) fn remove_route(
    current: &Desired,
    (port, id): (NetworkKey, &RuleId),
    whose: &Whose,
) -> Edited {
    let network = find(current, port)?;
    let Some(route) = network.route(id) else {
        let id = id.clone();
        return Err(EditError::UnknownRoute { port, id });
    };
    own(
        whose,
        &route.owner,
        format_args!("route {id} of {}", network.name()),
    )?;
    let mut problems = Problems::default();
    let nowhere = Node::new(At::Line(1), Content::Null);
    let mut taken = Taken::by_others(current.networks.claimed(), port);
    let routes = routes::remove(
        &Spot::root(&nowhere),
        (id, &network.routes),
        &Beside::of(network, whose),
        &mut taken,
        &mut problems,
    );
    decide(current, with_routes(network, Some(routes)), problems)
}

fn with_routes(network: &Network, routes: Option<Vec<Arc<Route>>>) -> Option<Network> {
    Some(Network {
        routes: routes?,
        ..network.clone()
    })
}

pub(super) fn put_peer(
    current: &Desired,
    (port, key): (NetworkKey, PublicKey),
    text: &str,
    whose: &Whose,
) -> Edited {
    let network = find(current, port)?;
    let wireguard = network.wireguard.as_ref();
    let wireguard = wireguard.ok_or(EditError::NoDevice(port))?;
    if let Some(peer) = wireguard.peers.get(&key) {
        own(
            whose,
            &peer.owner,
            format_args!("peer {key} of {}", network.name()),
        )?;
    }
    let mut problems = Problems::default();
    let peers = document::read_json(text, &mut problems).and_then(|node| {
        let peer = (key, whose);
        peers::put(&wireguard.peers, peer, &Spot::root(&node), &mut problems)
    });
    let changed = peers.map(|peers| {
        let mut network = network.clone();
        if let Some(wireguard) = &mut network.wireguard {
            wireguard.peers = peers;
        }
        network
    });
    decide(current, changed, problems)
}

pub(super) fn remove_peer(
    current: &Desired,
    (port, key): (NetworkKey, PublicKey),
    whose: &Whose,
) -> Edited {
    let mut network = find(current, port)?.clone();
    let name = network.name();
    let wireguard = network.wireguard.as_mut();
    let wireguard = wireguard.ok_or(EditError::NoDevice(port))?;
    match wireguard.peers.remove(&key) {
        Some(peer) => own(whose, &peer.owner, format_args!("peer {key} of {name}"))?,
        None => return Err(EditError::UnknownPeer { port, key }),
    }
    decide(current, Some(network), Problems::default())
}

/// The listeners of a network are its owner's.
pub(super) fn put_listener(
    current: &Desired,
    (port, name): (NetworkKey, &ListenerName),
    text: &str,
    whose: &Whose,
) -> Edited {
    let mut network = find(current, port)?.clone();
    own(whose, &network.owner, network.name())?;
    network.listeners.remove(name);
    let mut problems = Problems::default();
    let mut taken = Taken::by_others(current.networks.claimed(), port);
    taken.note_listeners(&network);
    let put = document::read_json(text, &mut problems).and_then(|node| {
        let spot = Spot::root(&node);
        let listener = Listener::read(&spot, &mut problems)?;
        let of = (port, &network.namespace);
        listeners::claim((name, &listener), of, &spot, &mut taken, &mut problems);
        Some(listener)
    });
    let network = put.map(|listener| {
        network.listeners.insert(name.clone(), listener);
        network
    });
    check(network.as_ref(), &mut problems);
    decide(current, network, problems)
}

pub(super) fn remove_listener(
    current: &Desired,
    (port, name): (NetworkKey, &ListenerName),
    whose: &Whose,
) -> Edited {
    let mut network = find(current, port)?.clone();
    own(whose, &network.owner, network.name())?;
    if network.listeners.remove(name).is_none() {
        let name = name.clone();
        return Err(EditError::UnknownListener { port, name });
    }
    decide(current, Some(network), Problems::default())
}

fn find(current: &Desired, port: NetworkKey) -> Result<&Network, EditError> {
    let network = current.networks.get(&port);
    network.ok_or(EditError::UnknownNetwork(port))
}
