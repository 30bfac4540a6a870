//! Which id everything has, over all snapshots.

use std::{collections::HashMap, hash::Hash, net::SocketAddr};

use control_api::{
    boot::ListenerName,
    place::{NetnsName, NetworkName},
};
use engine_core::{
    hostname::HostPattern,
    ids::{ListenerId, NetnsId, NetworkId, RouteId},
};
use engine_http::{method::Scheme, rules::Match};

/// Ports have the ids below: a network of the state document is its port, and so is the namespace
/// that is made for it. Namespaces that are only known by name count on from here.
const FIRST_NAMED: u32 = 1 << 16;

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
    Listener(SocketAddr),
    /// The `to` or `default` of a network's own listener.
    OwnListener(ListenerName),
}

#[derive(Clone, Debug)]
struct Registry<K> {
    known: HashMap<K, u32>,
    given: u32,
}

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
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
    pub(crate) fn after(before: &'a Ids) -> Self {
        let mut next = Ids::default();
        next.routes.given = before.routes.given;
        next.networks.given = before.networks.given;
        next.namespaces.given = before.namespaces.given;
        next.listeners.given = before.listeners.given;
        next.secret = before.secret.clone();
        Self { before, next }
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.next.secret.0
    }

    pub(crate) fn route(&mut self, key: RouteKey) -> RouteId {
        RouteId(self.next.routes.id(key, &self.before.routes))
    }

    pub(crate) fn network(&mut self, name: &NetworkName) -> NetworkId {
        NetworkId(match name {
            NetworkName::Host => HOST,
            NetworkName::Port(port) => port.get().into(),
            NetworkName::Netns(name) => {
                let id = self.next.networks.id(name.clone(), &self.before.networks);
                FIRST_NAMED.saturating_add(id)
            }
        })
    }

    pub(crate) fn namespace(&mut self, name: &NetnsName) -> NetnsId {
        let id = self
            .next
            .namespaces
            .id(name.clone(), &self.before.namespaces);
        NetnsId(FIRST_NAMED.saturating_add(id))
    }

    /// Names of listeners are unique in the gateway.
    pub(crate) fn listener(&mut self, name: &ListenerName) -> ListenerId {
        ListenerId(self.next.listeners.id(name.clone(), &self.before.listeners))
    }

    /// What is not in the snapshot is forgotten.
    pub(crate) fn finish(self) -> Ids {
        self.next
    }
}

impl<K: Hash + Eq> Registry<K> {
    fn id(&mut self, key: K, before: &Self) -> u32 {
        let given = &mut self.given;
        *self.known.entry(key).or_insert_with_key(|key| {
            before.known.get(key).copied().unwrap_or_else(|| {
                let fresh = *given;
                // After four billion the builder of the snapshot refuses the duplicate.
                *given = given.saturating_add(1);
                fresh
            })
        })
    }
}
