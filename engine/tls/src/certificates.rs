//! Certificates by name: 100,000 of them, looked up in constant time, changed under load.
//!
//! ```text
//!   Certificates ─► Index ─► 256 shards ─► name ─► Pair { curve, rsa } ─► Bundle (bytes)
//!    swapped whole            copied on write                                │ at its first handshake
//!                                                   this thread's Parsed ◄───┘
//! ```
//!
//! A network's certificate serves the hosts that the network routes, whatever else its leaf names;
//! one of the gateway's own serves any host. Of several for a name, one that is valid goes before one
//! that is not yet or no longer, an exact name before a wildcard, one that was declared for the name
//! before one whose leaf merely has it, and then the one that ends later. Keys of curves and of RSA
//! stand side by side.

mod offer;
mod owners;
mod pair;
mod parsed;
mod resolve;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use ahash::RandomState;
use arc_swap::ArcSwap;
use engine_core::hostname::{HostPattern, Hostname};

use self::pair::{Below, Pair};
pub use self::{offer::Offer, owners::Owners};
use crate::bundle::Bundle;
pub(crate) use resolve::{ForChallenge, ForName};

/// How many parts the names are in. A change copies one of them: 400 names of 100,000.
const SHARDS: usize = 256;

/// The certificates in force, shared by all workers: a lookup takes no lock and writes to no shared
/// memory, a change is seen by the next handshake. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Arc<ArcSwap<Index>>);

#[derive(Clone, Debug, Default)]
struct Shard {
    exact: HashMap<Hostname, Pair, RandomState>,
    /// By the domain below which they are good for one label (RFC 9525 section 6.3).
    wildcard: HashMap<Hostname, Below, RandomState>,
}

/// The certificates of one moment.
#[derive(Clone, Debug)]
struct Index {
    /// Spreads names over the shards, by numbers that no client knows.
    spread: RandomState,
    shards: Box<[Arc<Shard>]>,
    default: Pair,
    /// Whose hosts are whose, as far as certificates of networks could be for them.
    owners: Arc<Owners>,
    challenges: Arc<HashMap<Hostname, Arc<Bundle>, RandomState>>,
}

impl Certificates {
    /// Replaces all certificates for names by what is offered for each, and says whose hosts are
    /// whose. The default and the challenges stay. What is valid is judged at `now`.
    pub fn replace(
        &self,
        offers: impl IntoIterator<Item = (HostPattern, Offer)>,
        owners: Owners,
        now: SystemTime,
    ) {
        let spread = RandomState::new();
        let owners = Arc::new(owners);
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        for (pattern, offer) in offers {
            let shard = &mut shards[shard_of(&spread, domain_of(&pattern).as_str())];
            shard.offer(&pattern, offer, &owners, now);
        }
        let shards: Box<[Arc<Shard>]> = shards.into_iter().map(Arc::new).collect();
        self.0.rcu(|index| Index {
            spread: spread.clone(),
            shards: shards.clone(),
            owners: Arc::clone(&owners),
            ..(**index).clone()
        });
    }

    /// Replaces what there is for one name by what is offered for it; by nothing, it has no
    /// certificate any more. Other names of the same certificates keep what they have.
    pub fn set(&self, pattern: &HostPattern, offers: &[Offer], now: SystemTime) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            let owners = Arc::clone(&index.owners);
            let shard = index.shard_mut(pattern);
            shard.remove(pattern);
            for offer in offers {
                shard.offer(pattern, offer.clone(), &owners, now);
            }
            index
        });
    }

    /// Offers one of the gateway's own certificates for each name of its leaf, beside what there is.
    pub fn add(&self, bundle: &Arc<Bundle>, now: SystemTime) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            let owners = Arc::clone(&index.owners);
            for pattern in bundle.names() {
                let offer = Offer::general(Arc::clone(bundle));
                index.shard_mut(pattern).offer(pattern, offer, &owners, now);
            }
            index
        });
    }

    /// Takes away what there is for `pattern`, and for no other name of the same certificate.
    pub fn remove(&self, pattern: &HostPattern) {
        self.0.rcu(|index| {
            let mut index = (**index).clone();
            index.shard_mut(pattern).remove(pattern);
            index
        });
    }

    /// Sets what a client gets that asks for an unknown name or for none, where the policy permits
    /// that. Nothing, to begin with.
    pub fn set_default(&self, bundles: &[Arc<Bundle>]) {
        let mut default = Pair::default();
        for bundle in bundles {
            // There is nothing to prefer one to.
            default.offer(Offer::general(Arc::clone(bundle)), true);
        }
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

    /// Whether clients that ask for a host may be shown this very certificate; of a wildcard, those
    /// that ask for some name below its domain.
    pub fn shows(&self, host: &HostPattern, bundle: &Arc<Bundle>) -> bool {
        let index = self.0.load();
        match host {
            HostPattern::Exact(name) => {
                let pair = index.find(name.as_str());
                pair.is_some_and(|pair| pair.has(bundle))
            }
            HostPattern::Wildcard(domain) => {
                let below = index.shard(domain.as_str()).wildcard.get(domain);
                below.is_some_and(|below| below.has(bundle))
            }
        }
    }

    /// Whether clients that ask for an unknown name, or for none, may be shown this very certificate.
    pub fn shows_by_default(&self, bundle: &Arc<Bundle>) -> bool {
        self.0.load().default.has(bundle)
    }

    /// Whether there is one for clients whose name is unknown.
    pub fn has_default(&self) -> bool {
        !self.0.load().default.is_empty()
    }

    /// Whether a connection made to `name` may also carry requests for `other`: what is used for
    /// the one covers the other (RFC 9110 section 4.3.3; the answer is 421 if not), and, where it is
    /// a network's, is used for the other one too.
    pub fn may_carry(&self, name: Option<&Hostname>, other: &Hostname) -> bool {
        let index = self.0.load();
        let pair = name.and_then(|name| index.find(name.as_str()));
        let pair = pair.unwrap_or(&index.default);
        let is_used = |offer: &Offer| {
            let others = index.find(other.as_str());
            others.is_some_and(|pair| pair.has(&offer.bundle))
        };
        !pair.is_empty()
            && pair.offers().all(|offer| {
                offer.bundle.covers(other) && (offer.network.is_none() || is_used(offer))
            })
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
        if exact.is_some_and(Pair::is_valid) {
            return exact;
        }
        let below = name.split_once('.').and_then(|(_, domain)| {
            let below = self.shard(domain).wildcard.get(domain)?;
            below.find(|| self.owners.of(name))
        });
        match (exact, below) {
            (Some(_), Some(below)) if below.is_valid() => Some(below),
            (Some(exact), _) => Some(exact),
            (None, below) => below,
        }
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
            owners: Arc::default(),
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
    fn offer(&mut self, pattern: &HostPattern, offer: Offer, owners: &Owners, now: SystemTime) {
        let is_valid = offer.bundle.is_valid(now);
        match pattern {
            HostPattern::Exact(name) => {
                if offer.network.is_none() || offer.network == owners.of(name.as_str()) {
                    let pair = self.exact.entry(name.clone()).or_default();
                    pair.offer(offer, is_valid);
                }
            }
            HostPattern::Wildcard(domain) => {
                let below = self.wildcard.entry(domain.clone()).or_default();
                below.offer(offer, is_valid);
            }
        }
    }

    fn remove(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(name) => drop(self.exact.remove(name)),
            HostPattern::Wildcard(domain) => drop(self.wildcard.remove(domain)),
        }
    }
}
