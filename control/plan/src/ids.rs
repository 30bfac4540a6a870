//! Which id everything has, over all snapshots.

use std::{hash::Hash, sync::Arc};

use control_api::{
    boot::ListenerName,
    place::{NetnsName, NetworkName},
};
use engine_core::{
    endpoint::Endpoint,
    hostname::HostPattern,
    ids::{ListenerId, NetnsId, NetworkId, RouteId},
    shared_map::SharedMap,
};
use engine_http::{method::Scheme, rules::Match};

/// Ports have the ids below: a network of the state document is its port, and so is the namespace
/// that is made for it. Namespaces that are only known by name count on from here.
pub(crate) const FIRST_NAMED: u32 = 1 << 16;

/// The namespace that Ringway runs in, and the network `host`. No network has port 0.
pub(crate) const HOST: u32 = 0;

/// Whether a network is one of the state document: the others are those that listeners lead to.
pub(crate) fn is_declared(network: NetworkId) -> bool {
    network.0 != HOST && network.0 < FIRST_NAMED
}

/// Keeps the ids of what stays declared from one snapshot to the next.
///
/// Ids count up. One that was given back is never given to anything else, so that the last bytes
/// of an old connection are never counted for a new route; four billion declarations are enough.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    routes: Registry<RouteKey>,
    networks: Registry<NetnsName>,
    namespaces: Registry<NetnsName>,
    listeners: Registry<ListenerName>,
    secret: Secret,
}

/// Not shown by `Debug`.
#[derive(Clone, Default)]
struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Ids {
    /// No ids yet, and a secret for what is given to clients: see [`engine_http::rules::Sticky`].
    pub fn with_secret(secret: [u8; 32]) -> Self {
        Self {
            secret: Secret(secret),
            ..Self::default()
        }
    }
}

/// What makes a route the same route in two snapshots.
pub(crate) type RouteKey = (NetworkName, Leads);

/// What leads to a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Leads {
    /// A name in a ClientHello.
    Name(HostPattern),
    /// The host of a request, for all that `proxy` says of it.
    Host(Scheme, HostPattern),
    /// What requests of a rule are found by.
    Rule(Box<Match>),
    /// A listener's `to` or `default`.
    Listener(Endpoint),
    /// The `to` or `default` of a network's own listener.
    OwnListener(ListenerName),
}

/// A copy shares everything.
#[derive(Clone, Debug)]
struct Registry<K> {
    known: SharedMap<Arc<K>, u32>,
    given: u32,
}

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self {
            known: SharedMap::new(),
            given: 0,
        }
    }
}

/// The ids of the next snapshot while it is being made. Nothing changes if it comes to nothing.
#[derive(Debug)]
pub(crate) struct NextIds<'a> {
    before: &'a Ids,
    next: Ids,
}

impl<'a> NextIds<'a> {
    /// For a snapshot that is made from nothing: what is not in it is forgotten.
    pub(crate) fn anew(before: &'a Ids) -> Self {
        let mut next = Ids::default();
        next.routes.given = before.routes.given;
        next.networks.given = before.networks.given;
        next.namespaces.given = before.namespaces.given;
        next.listeners.given = before.listeners.given;
        next.secret = before.secret.clone();
        Self { before, next }
    }

    /// For a snapshot that goes on from the one before: what is to be forgotten is said.
    pub(crate) fn after(before: &'a Ids) -> Self {
        let next = before.clone();
        Self { before, next }
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.next.secret.0
    }

    /// The id of a route, and its key to forget it by.
    pub(crate) fn route(&mut self, key: RouteKey) -> (RouteId, Arc<RouteKey>) {
        let (key, id) = self.next.routes.id(key, &self.before.routes);
        (RouteId(id), key)
    }

    pub(crate) fn forget_route(&mut self, key: &RouteKey) {
        self.next.routes.known.remove(key);
    }

    pub(crate) fn network(&mut self, name: &NetworkName) -> NetworkId {
        NetworkId(match name {
            NetworkName::Host => HOST,
            NetworkName::Port(port) => port.get().into(),
            NetworkName::Netns(name) => {
                let id = self.next.networks.id(name.clone(), &self.before.networks).1;
                FIRST_NAMED.saturating_add(id)
            }
        })
    }

    pub(crate) fn namespace(&mut self, name: &NetnsName) -> NetnsId {
        let known = &self.before.namespaces;
        let id = self.next.namespaces.id(name.clone(), known).1;
        NetnsId(FIRST_NAMED.saturating_add(id))
    }

    pub(crate) fn forget_namespace(&mut self, name: &NetnsName) {
        self.next.namespaces.known.remove(name);
    }

    /// Names of listeners are unique in the gateway.
    pub(crate) fn listener(&mut self, name: &ListenerName) -> ListenerId {
        let known = &self.before.listeners;
        ListenerId(self.next.listeners.id(name.clone(), known).1)
    }

    pub(crate) fn forget_listener(&mut self, name: &ListenerName) {
        self.next.listeners.known.remove(name);
    }

    pub(crate) fn finish(self) -> Ids {
        self.next
    }
}

impl<K: Hash + Eq> Registry<K> {
    fn id(&mut self, key: K, before: &Self) -> (Arc<K>, u32) {
        let key = Arc::new(key);
        if let Some(id) = self.known.get(&*key) {
            return (key, *id);
        }
        let id = before.known.get(&*key).copied().unwrap_or_else(|| {
            let fresh = self.given;
            // After four billion the builder of the snapshot refuses the duplicate.
            self.given = self.given.saturating_add(1);
            fresh
        });
        self.known.insert(Arc::clone(&key), id);
        (key, id)
    }
}
