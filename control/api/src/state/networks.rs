//! The networks of a desired state, shared with the states before and after it.

use std::{collections::BTreeSet, ops::Index, sync::Arc};

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::{Network, Owner, Route, taken::Claimed};
use crate::place::NetworkKey;

/// Networks by their keys, and what only one of them may have. A clone shares everything: what a
/// change costs is what the networks that it touches cost, and the depth of a tree of the others.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    by_key: RedBlackTreeMapSync<NetworkKey, Arc<Network>>,
    claimed: Claimed,
    /// In how many networks each owner has something.
    owners: HashTrieMapSync<Owner, u32>,
}

impl Networks {
    /// The network with this key.
    pub fn get(&self, key: &NetworkKey) -> Option<&Network> {
        self.by_key.get(key).map(|network| &**network)
    }

    /// The network with this key, to be shared: the same one in two states is equal.
    pub fn shared(&self, key: &NetworkKey) -> Option<&Arc<Network>> {
        self.by_key.get(key)
    }

    /// Whether there is a network with this key.
    pub fn contains_key(&self, key: &NetworkKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.size()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &NetworkKey> {
        self.by_key.keys()
    }

    /// All networks, by their keys.
    pub fn values(&self) -> impl Iterator<Item = &Network> {
        self.by_key.values().map(|network| &**network)
    }

    /// All networks, each with its key, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&NetworkKey, &Network)> {
        let networks = self.by_key.iter();
        networks.map(|(key, network)| (key, &**network))
    }

    /// All networks, each with its key, in order, to be shared.
    pub(super) fn iter_shared(&self) -> impl Iterator<Item = (&NetworkKey, &Arc<Network>)> {
        self.by_key.iter()
    }

    /// The keys of networks that are not the same ones in two states: added, removed, or replaced,
    /// even by an equal one. Compares a pointer for each network.
    pub fn differing<'n>(&'n self, other: &'n Self) -> BTreeSet<NetworkKey> {
        let mine = self.by_key.iter().filter(|(key, network)| {
            let theirs = other.by_key.get(key);
            theirs.is_none_or(|theirs| !Arc::ptr_eq(theirs, network))
        });
        let added = other.keys().filter(|key| !self.contains_key(key));
        mine.map(|(key, _)| key).chain(added).copied().collect()
    }

    /// Every owner who has something in one of them.
    pub fn owners(&self) -> BTreeSet<&Owner> {
        self.owners.keys().collect()
    }

    /// What they have that only one network may have.
    pub(super) fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    /// Adds a network, or replaces the one with its key. What it has in common with the network of the
    /// state before is shared with that.
    pub(super) fn insert(&mut self, network: Network, before: &Self) {
        let network = match before.shared(&network.port) {
            Some(before) => sharing(network, before),
            None => Arc::new(network),
        };
        self.put(network);
    }

    /// Adds a network that another state has, too.
    pub(super) fn put(&mut self, network: Arc<Network>) {
        self.remove(&network.port);
        self.claimed.add(&network);
        for owner in network.owners().collect::<BTreeSet<_>>() {
            let count = self.owners.get(owner).copied().unwrap_or_default();
            self.owners.insert_mut(owner.clone(), count + 1);
        }
        self.by_key.insert_mut(network.port, network);
    }

    /// Removes the network with this key, if there is one.
    pub(super) fn remove(&mut self, key: &NetworkKey) {
        let Some(network) = self.by_key.get(key).cloned() else {
            return;
        };
        self.by_key.remove_mut(key);
        self.claimed.remove(&network);
        for owner in network.owners().collect::<BTreeSet<_>>() {
            match self.owners.get(owner).copied().unwrap_or_default() {
                0 | 1 => drop(self.owners.remove_mut(owner)),
                count => self.owners.insert_mut(owner.clone(), count - 1),
            }
        }
    }
}

/// A network that shares its rules with the one before, as far as both begin and end with equal ones.
fn sharing(mut network: Network, before: &Arc<Network>) -> Arc<Network> {
    if network == **before {
        return Arc::clone(before);
    }
    let share = |(rule, old): (&mut Arc<Route>, &Arc<Route>)| {
        let is_equal = rule == old;
        if is_equal {
            *rule = Arc::clone(old);
        }
        is_equal
    };
    let rules = network.routes.iter_mut().zip(&before.routes);
    let alike = rules.map(share).take_while(|is_equal| *is_equal).count();
    let rules = network.routes.iter_mut().skip(alike).rev();
    let end = before.routes.iter().skip(alike).rev();
    rules
        .zip(end)
        .map(share)
        .take_while(|it| *it)
        .for_each(drop);
    Arc::new(network)
}

impl PartialEq for Networks {
    /// The rest follows from the networks.
    fn eq(&self, other: &Self) -> bool {
        let alike = |(key, network): (&NetworkKey, &Arc<Network>)| {
            let same = other.by_key.get(key);
            // The same network is not compared with itself.
            same.is_some_and(|same| Arc::ptr_eq(network, same) || network == same)
        };
        self.len() == other.len() && self.by_key.iter().all(alike)
    }
}

impl Eq for Networks {}

impl Index<&NetworkKey> for Networks {
    type Output = Network;

    fn index(&self, key: &NetworkKey) -> &Network {
        &self.by_key[key]
    }
}

impl FromIterator<Arc<Network>> for Networks {
    fn from_iter<I: IntoIterator<Item = Arc<Network>>>(networks: I) -> Self {
        let mut all = Self::default();
        networks.into_iter().for_each(|network| all.put(network));
        all
    }
}
