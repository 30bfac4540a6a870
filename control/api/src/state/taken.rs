//! What only one network may have: hosts, as a tenant must not take another's name, what is for hosts
//! that nobody declared, ids of rules, and names and addresses of listeners.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::SocketAddr,
};

use engine_core::hostname::HostPattern;
use rpds::HashTrieMapSync;

use super::{Network, Owner, RuleId, listeners};
use crate::{boot::ListenerName, place::NetworkKey};

/// The network that has something, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) port: NetworkKey,
    pub(super) owner: Owner,
}

impl Holder {
    pub(super) fn new(port: NetworkKey, owner: Owner) -> Self {
        Self { port, owner }
    }

    pub(super) fn of(network: &Network) -> Self {
        Self::new(network.port, network.owner.clone())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner.is_api() {
            true => write!(f, "network-{}", self.port),
            false => write!(f, "network-{} of `{}`", self.port, self.owner),
        }
    }
}

/// The address of a network's listener.
#[derive(Clone, Debug)]
struct Bind {
    place: listeners::Place,
    address: SocketAddr,
    name: ListenerName,
    network: NetworkKey,
}

/// What the networks of a state have. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Claimed {
    hosts: HashTrieMapSync<Option<HostPattern>, Holder>,
    ids: HashTrieMapSync<RuleId, Holder>,
    listeners: HashTrieMapSync<ListenerName, NetworkKey>,
    /// By port: only addresses with the same one can be in each other's way.
    binds: HashTrieMapSync<u16, Vec<Bind>>,
}

impl Claimed {
    /// Notes all that a network has; what another one has stays that one's.
    pub(super) fn add(&mut self, network: &Network) {
        let holder = Holder::of(network);
        for host in hosts(network) {
            let host = host.cloned();
            if !self.hosts.contains_key(&host) {
                self.hosts.insert_mut(host, holder.clone());
            }
        }
        for (id, owner) in ids(network) {
            if !self.ids.contains_key(id) {
                let holder = Holder::new(network.port, owner.clone());
                self.ids.insert_mut(id.clone(), holder);
            }
        }
        for bind in binds(network) {
            self.listeners.insert_mut(bind.name.clone(), network.port);
            let port = bind.address.port();
            let mut of_port = self.binds.get(&port).cloned().unwrap_or_default();
            of_port.push(bind);
            self.binds.insert_mut(port, of_port);
        }
    }

    /// Forgets all that a network had.
    pub(super) fn remove(&mut self, network: &Network) {
        for host in hosts(network).into_iter().map(|host| host.cloned()) {
            let is_its = |holder: &Holder| holder.port == network.port;
            if self.hosts.get(&host).is_some_and(is_its) {
                self.hosts.remove_mut(&host);
            }
        }
        for (id, _) in ids(network) {
            let is_its = |holder: &Holder| holder.port == network.port;
            if self.ids.get(id).is_some_and(is_its) {
                self.ids.remove_mut(id);
            }
        }
        for bind in binds(network) {
            if self.listeners.get(&bind.name) == Some(&network.port) {
                self.listeners.remove_mut(&bind.name);
            }
            let port = bind.address.port();
            let mut of_port = self.binds.get(&port).cloned().unwrap_or_default();
            of_port.retain(|other| other.network != network.port || other.name != bind.name);
            match of_port.is_empty() {
                true => drop(self.binds.remove_mut(&port)),
                false => self.binds.insert_mut(port, of_port),
            }
        }
    }
}

/// The hosts that a network has, once each; `None` for those that nobody declared.
fn hosts(network: &Network) -> HashSet<Option<&HostPattern>> {
    let routes = network.routes.iter();
    let catch_all = routes.filter(|route| route.host.pattern().is_none());
    let hosts = network.hosts().map(Some);
    hosts.chain(catch_all.map(|_| None)).collect()
}

fn ids(network: &Network) -> impl Iterator<Item = (&RuleId, &Owner)> {
    let routes = network.routes.iter();
    routes.filter_map(|route| Some((route.id.as_ref()?, &route.owner)))
}

fn binds(network: &Network) -> impl Iterator<Item = Bind> {
    let listeners = network.listeners.iter();
    listeners.map(|(name, listener)| Bind {
        place: listeners::place(listener.place(&network.namespace), network.port),
        address: listener.bind,
        name: name.clone(),
        network: network.port,
    })
}

/// What is taken while a document is read: by networks that stay as they are, and by what was read
/// so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    before: Claimed,
    /// The network that is read anew: what it had is free.
    except: Option<NetworkKey>,
    hosts: HashMap<Option<HostPattern>, Holder>,
    ids: HashMap<RuleId, Holder>,
    listeners: HashMap<ListenerName, NetworkKey>,
    binds: Vec<Bind>,
}

impl Taken {
    /// What all networks of a state but one have.
    pub(super) fn by_others(before: &Claimed, except: NetworkKey) -> Self {
        Self {
            before: before.clone(),
            except: Some(except),
            ..Self::default()
        }
    }

    /// Notes all that a network has; what another one has stays that one's.
    pub(super) fn note(&mut self, network: &Network) {
        let holder = Holder::of(network);
        for host in hosts(network) {
            // What two have already is told when either is read.
            let _ = self.claim(host, &holder);
        }
        for (id, owner) in ids(network) {
            let _ = self.name(id, &Holder::new(network.port, owner.clone()));
        }
        self.note_listeners(network);
    }

    /// Notes everything that the listeners of a network have.
    pub(super) fn note_listeners(&mut self, network: &Network) {
        for bind in binds(network) {
            self.listeners.insert(bind.name.clone(), network.port);
            self.binds.push(bind);
        }
    }

    /// Notes the host as a network's, or says whose it is.
    pub(super) fn claim(
        &mut self,
        host: Option<&HostPattern>,
        claimant: &Holder,
    ) -> Result<(), Holder> {
        let host = host.cloned();
        let before = self.before.hosts.get(&host);
        let before = before.filter(|holder| Some(holder.port) != self.except);
        let holder = self.hosts.entry(host);
        let holder = holder.or_insert_with(|| before.unwrap_or(claimant).clone());
        match holder.port == claimant.port {
            true => Ok(()),
            false => Err(holder.clone()),
        }
    }

    /// Notes an id as that of a rule of a network, or says which other network has a rule of this id.
    pub(super) fn name(&mut self, id: &RuleId, claimant: &Holder) -> Result<(), Holder> {
        let before = self.before.ids.get(id);
        let before = before.filter(|holder| Some(holder.port) != self.except);
        let holder = self.ids.entry(id.clone());
        let holder = holder.or_insert_with(|| before.unwrap_or(claimant).clone());
        match holder.port == claimant.port {
            true => Ok(()),
            false => Err(holder.clone()),
        }
    }

    /// Notes the name of a listener as a network's, or says whose it is.
    pub(super) fn name_listener(
        &mut self,
        name: &ListenerName,
        port: NetworkKey,
    ) -> Result<(), NetworkKey> {
        let before = self.before.listeners.get(name).copied();
        let before = before.filter(|holder| Some(*holder) != self.except);
        let holder = self.listeners.entry(name.clone());
        let holder = *holder.or_insert(before.unwrap_or(port));
        if holder == port { Ok(()) } else { Err(holder) }
    }

    /// Notes the address of a listener, or says which listener has its connections.
    pub(super) fn bind(
        &mut self,
        (name, network): (&ListenerName, NetworkKey),
        (place, address): (listeners::Place, SocketAddr),
    ) -> Result<(), ListenerName> {
        let before = self.before.binds.get(&address.port()).into_iter().flatten();
        let before = before.filter(|bind| Some(bind.network) != self.except);
        let mut binds = before.chain(&self.binds);
        let other = binds.find(|other| {
            other.place == place && other.name != *name && crate::overlap(other.address, address)
        });
        if let Some(other) = other {
            return Err(other.name.clone());
        }
        self.binds.push(Bind {
            place,
            address,
            name: name.clone(),
            network,
        });
        Ok(())
    }
}
