//! Certificates by name: 100,000 of them, looked up in constant time, changed under load.
//!
//! ```text
//!   Certificates ─► Index ─► 256 shards ─► name ─► Pair { curve, rsa } ─► Bundle (bytes)
//!    swapped whole            copied on write                                │ at its first handshake
//!                                                   this thread's Parsed ◄───┘
//! ```

mod parsed;
mod resolve;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use arc_swap::ArcSwap;
use engine_core::hostname::{HostPattern, Hostname};

use crate::bundle::{Algorithm, Bundle};
pub(crate) use resolve::{ForChallenge, ForName};

/// How many parts the names are in. A change copies one of them: 400 names of 100,000.
const SHARDS: usize = 256;

/// The certificates in force, shared by all workers: a lookup takes no lock and writes to no shared
/// memory, a change is seen by the next handshake. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<ArcSwap<Index>>);

/// What there is for one name. At least one of the two is there.
#[derive(Clone, Debug, Default)]
struct Pair {
    curve: Option<Arc<Bundle>>,
    rsa: Option<Arc<Bundle>>,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    exact: HashMap<Hostname, Pair, RandomState>,
    /// By the domain below which they are good for one label (RFC 9525 section 6.3).
    wildcard: HashMap<Hostname, Pair, RandomState>,
}

/// The certificates of one moment.
#[derive(Clone, Debug)]
struct Index {
    /// Spreads names over the shards, by numbers that no client knows.
    spread: RandomState,
    shards: Box<[Arc<Shard>]>,
    default: Pair,
    challenges: Arc<HashMap<Hostname, Arc<Bundle>, RandomState>>,
}

impl Certificates {
    /// Replaces all certificates for names by `bundles`, each for the names of its leaf. The
    /// default and the challenges stay.
    ///
    /// Of several for one name with the same kind of key, the one that expires last counts.
    pub fn replace(&self, bundles: impl IntoIterator<Item = Arc<Bundle>>) {
        let spread = RandomState::new();
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        for bundle in bundles {
            for pattern in bundle.names() {
                let shard = &mut shards[shard_of(&spread, domain_of(pattern).as_str())];
                shard.pair(pattern).keep_later(bundle.clone());
            }
        }
        let shards: Box<[Arc<Shard>]> = shards.into_iter().map(Arc::new).collect();
        self.0.rcu(|index| Index {
            spread: spread.clone(),
            shards: shards.clone(),
            ..(**index).clone()
        });
    }

    /// Puts `bundle` in force for each name of its leaf, in place of one with the same kind of key.
    pub fn add(&self, bundle: &Arc<Bundle>) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            for pattern in bundle.names() {
                index.shard_mut(pattern).pair(pattern).set(bundle.clone());
            }
            index
        });
    }

    /// Takes away what there is for `pattern`, and for no other name of the same certificate.
    pub fn remove(&self, pattern: &HostPattern) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            let shard = index.shard_mut(pattern);
            match pattern {
                HostPattern::Exact(name) => shard.exact.remove(name),
                HostPattern::Wildcard(domain) => shard.wildcard.remove(domain),
            };
            index
        });
    }

    /// Sets what a client gets that asks for an unknown name or for none, where the policy permits
    /// that. Nothing, to begin with.
    pub fn set_default(&self, bundles: &[Arc<Bundle>]) {
        let mut default = Pair::default();
        bundles
            .iter()
            .for_each(|bundle| default.set(bundle.clone()));
        self.0.rcu(|index| Index {
            default: default.clone(),
            ..(**index).clone()
        });
    }

    /// Puts up the certificate that proves to an ACME directory who holds `name` (RFC 8737).
    pub fn set_challenge(&self, name: &Hostname, bundle: Arc<Bundle>) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            Arc::make_mut(&mut index.challenges).insert(name.clone(), bundle.clone());
            index
        });
    }

    /// Takes the proof for `name` away.
    pub fn remove_challenge(&self, name: &Hostname) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            Arc::make_mut(&mut index.challenges).remove(name);
            index
        });
    }

    /// Whether a proof for `name` is up: its `acme-tls/1` connections end here, all others go where
    /// their route says, which may be to a tenant that does its own proving.
    pub fn has_challenge(&self, name: &Hostname) -> bool {
        self.0.load().challenges.contains_key(name)
    }

    /// Whether there is a certificate for `name` itself, be it a wildcard's.
    pub fn has(&self, name: &Hostname) -> bool {
        self.0.load().find(name.as_str()).is_some()
    }

    /// Whether there is one for clients whose name is unknown.
    pub fn has_default(&self) -> bool {
        !self.0.load().default.is_empty()
    }

    /// Whether a connection made to `name` may also carry requests for `other`: what is used for
    /// the one covers the other (RFC 9110 section 4.3.3; the answer is 421 if not).
    pub fn may_carry(&self, name: Option<&Hostname>, other: &Hostname) -> bool {
        let index = self.0.load();
        let pair = name.and_then(|name| index.find(name.as_str()));
        let pair = pair.unwrap_or(&index.default);
        !pair.is_empty() && pair.bundles().all(|bundle| bundle.covers(other))
    }

    /// How many names there are; a wildcard is one.
    pub fn len(&self) -> usize {
        let index = self.0.load();
        let shards = index.shards.iter();
        shards
            .map(|shard| shard.exact.len() + shard.wildcard.len())
            .sum()
    }

    /// Whether there is no certificate for any name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Index {
    /// What there is for a name in the form that hostnames are kept in: exact, or of its parent.
    fn find(&self, name: &str) -> Option<&Pair> {
        let exact = self.shard(name).exact.get(name);
        exact.or_else(|| {
            let (_, domain) = name.split_once('.')?;
            self.shard(domain).wildcard.get(domain)
        })
    }

    fn shard(&self, name: &str) -> &Shard {
        &self.shards[shard_of(&self.spread, name)]
    }

    fn shard_mut(&mut self, pattern: &HostPattern) -> &mut Shard {
        let shard = shard_of(&self.spread, domain_of(pattern).as_str());
        Arc::make_mut(&mut self.shards[shard])
    }
}

impl Default for Index {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self {
            spread: RandomState::new(),
            shards: vec![empty; SHARDS].into_boxed_slice(),
            default: Pair::default(),
            challenges: Arc::default(),
        }
    }
}

/// The other bits than those that a shard's table goes by, which has a seed of its own anyway.
fn shard_of(spread: &RandomState, name: &str) -> usize {
    (spread.hash_one(name) >> 56) as usize % SHARDS
}

fn domain_of(pattern: &HostPattern) -> &Hostname {
    match pattern {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
    }
}

impl Shard {
    fn pair(&mut self, pattern: &HostPattern) -> &mut Pair {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostPattern::Wildcard(domain) => self.wildcard.entry(domain.clone()).or_default(),
        }
    }
}

impl Pair {
    fn slot(&mut self, algorithm: Algorithm) -> &mut Option<Arc<Bundle>> {
        match algorithm {
            Algorithm::Curve => &mut self.curve,
            Algorithm::Rsa => &mut self.rsa,
        }
    }

    fn set(&mut self, bundle: Arc<Bundle>) {
        let slot = self.slot(bundle.algorithm());
        *slot = Some(bundle);
    }

    fn keep_later(&mut self, bundle: Arc<Bundle>) {
        let slot = self.slot(bundle.algorithm());
        if slot
            .as_ref()
            .is_none_or(|kept| kept.not_after() < bundle.not_after())
        {
            *slot = Some(bundle);
        }
    }

    /// In the order of preference: a curve's signature costs a tenth of RSA's.
    fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.curve.iter().chain(&self.rsa)
    }

    fn is_empty(&self) -> bool {
        self.curve.is_none() && self.rsa.is_none()
    }
}
