//! What there is for one name, and what goes before what.

use std::{sync::Arc, time::SystemTime};

use engine_core::ids::NetworkId;

use super::Offer;
use crate::bundle::{Algorithm, Bundle};

/// What there is for one name. At least one of the two is there, but for a default.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    curve: Option<Ranked>,
    rsa: Option<Ranked>,
}

/// What there is for all names one label below a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Below {
    /// One for each network, and one of the gateway's own: mostly one altogether.
    pairs: Vec<(Option<NetworkId>, Pair)>,
}

#[derive(Clone, Debug)]
struct Ranked {
    offer: Offer,
    is_valid: bool,
}

impl Pair {
    /// Takes an offer, unless there is a better one with the same kind of key. Of two that are as
    /// good as each other the newer one counts.
    pub(super) fn offer(&mut self, offer: Offer, is_valid: bool) {
        let slot = match offer.bundle.algorithm() {
            Algorithm::Curve => &mut self.curve,
            Algorithm::Rsa => &mut self.rsa,
        };
        let new = Ranked { offer, is_valid };
        if slot.as_ref().is_none_or(|kept| kept.rank() <= new.rank()) {
            *slot = Some(new);
        }
    }

    /// Whether one of the two is valid.
    pub(super) fn is_valid(&self) -> bool {
        self.both().any(|ranked| ranked.is_valid)
    }

    /// What may be shown, in the order of preference: a curve's signature costs a tenth of RSA's.
    /// What is not valid is shown only where nothing else could be.
    pub(super) fn offers(&self) -> impl Iterator<Item = &Offer> {
        let has_valid = self.is_valid();
        let fit = move |ranked: &&Ranked| ranked.is_valid || !has_valid;
        self.both().filter(fit).map(|ranked| &ranked.offer)
    }

    /// The certificates of [`Pair::offers`].
    pub(super) fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.offers().map(|offer| &offer.bundle)
    }

    /// Whether a certificate may be shown.
    pub(super) fn has(&self, bundle: &Arc<Bundle>) -> bool {
        self.bundles().any(|own| Arc::ptr_eq(own, bundle))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.both().next().is_none()
    }

    fn both(&self) -> impl Iterator<Item = &Ranked> {
        self.curve.iter().chain(&self.rsa)
    }
}

impl Below {
    pub(super) fn offer(&mut self, offer: Offer, is_valid: bool) {
        let network = offer.network;
        let known = self.pairs.iter().position(|(owner, _)| *owner == network);
        let at = known.unwrap_or_else(|| {
            self.pairs.push((network, Pair::default()));
            self.pairs.len() - 1
        });
        if let Some((_, pair)) = self.pairs.get_mut(at) {
            pair.offer(offer, is_valid);
        }
    }

    /// Whether a certificate may be shown for some of the names.
    pub(super) fn has(&self, bundle: &Arc<Bundle>) -> bool {
        self.pairs.iter().any(|(_, pair)| pair.has(bundle))
    }

    /// What there is for a name, of which `owner` says whose it is: it is not asked where no
    /// certificate of a network's comes into question.
    pub(super) fn find(&self, owner: impl FnOnce() -> Option<NetworkId>) -> Option<&Pair> {
        let has_owned = self.pairs.iter().any(|(network, _)| network.is_some());
        let owner = if has_owned { owner() } else { None };
        let of = |wanted: Option<NetworkId>| {
            let mut pairs = self.pairs.iter();
            pairs
                .find(|(network, _)| *network == wanted)
                .map(|(_, pair)| pair)
        };
        let own = owner.and_then(|network| of(Some(network)));
        match (own, of(None)) {
            (Some(own), Some(general)) if !own.is_valid() && general.is_valid() => Some(general),
            (own, general) => own.or(general),
        }
    }
}

impl Ranked {
    fn rank(&self) -> (bool, bool, SystemTime) {
        let Offer {
            bundle,
            is_declared,
            ..
        } = &self.offer;
        (self.is_valid, *is_declared, bundle.not_after())
    }
}
