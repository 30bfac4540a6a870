//! Changing a device in place.

use std::{sync::Arc, time::Instant};

use boringtun::x25519;
use ipnet::IpNet;

use super::{Core, Identity, gate::Gate, path::Path, peer::Peer};
use crate::{
    change::{Change, PeerChange},
    key::{Key, PublicKey},
};

/// The most peers of a device. Their indices are then easily drawn at random from 2^24.
pub(crate) const PEERS_MAX: usize = 1 << 16;
/// The most prefixes that one peer has.
pub(crate) const ALLOWED_IPS_MAX: usize = 1 << 14;

/// A change was refused for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// More than [`PEERS_MAX`].
    Peers,
    /// More than [`ALLOWED_IPS_MAX`].
    AllowedIps,
}

impl TooMany {
    /// What there is too much of, and how many there may be.
    pub(crate) fn what_and_max(self) -> (&'static str, usize) {
        match self {
            Self::Peers => ("peers", PEERS_MAX),
            Self::AllowedIps => ("allowed addresses of one peer", ALLOWED_IPS_MAX),
        }
    }
}

impl Core {
    /// Whether a change is within bounds: nothing else can be wrong with one. Peers that are named
    /// twice, or are there already and named again, are counted twice, which no list of sensible
    /// length notices.
    pub(crate) fn check(&self, change: &Change) -> Result<(), TooMany> {
        let kept = if change.replace_peers {
            0
        } else {
            self.peers.len()
        };
        let known = |peer: &&PeerChange| {
            peer.remove || peer.update_only || self.by_key.contains_key(&peer.public_key)
        };
        let named = change.peers.iter();
        let new = if change.replace_peers {
            named
                .filter(|peer| !peer.remove && !peer.update_only)
                .count()
        } else {
            named.filter(|peer| !known(peer)).count()
        };
        if kept + new > PEERS_MAX {
            return Err(TooMany::Peers);
        }
        let allowed_ips = |peer: &PeerChange| {
            let slot = self
                .by_key
                .get(&peer.public_key)
                .filter(|_| !peer.replace_allowed_ips);
            let before = slot.and_then(|slot| self.peers.get(*slot));
            before.map_or(0, |peer| peer.allowed_ips.len()) + peer.allowed_ips.len()
        };
        if change
            .peers
            .iter()
            .any(|peer| allowed_ips(peer) > ALLOWED_IPS_MAX)
        {
            return Err(TooMany::AllowedIps);
        }
        Ok(())
    }

    /// Does all of a change that [`Core::check`] let pass. Between two packets, so nobody sees half
    /// of it.
    pub(crate) fn configure(&mut self, now: Instant, change: Change) {
        if let Some(private_key) = change.private_key {
            self.set_private_key(private_key);
            if !self.awake.is_empty() {
                self.hurry(now);
            }
        }
        if change.replace_peers {
            let slots: Vec<usize> = self.peers.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                self.remove_peer(slot);
            }
        }
        for peer in change.peers {
            self.configure_peer(now, peer);
        }
    }

    pub(super) fn set_private_key(&mut self, private_key: Key) {
        let none = private_key.is_zero();
        let private_key = private_key.clamped();
        let before = self.identity.as_ref().map(|identity| &identity.private_key);
        if before == (!none).then_some(&private_key) {
            return;
        }
        let slots: Vec<usize> = self.peers.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.still(slot);
        }
        if none {
            self.identity = None;
            return;
        }
        let secret = private_key.secret();
        let public = x25519::PublicKey::from(&secret);
        if let Some(slot) = self.by_key.get(&PublicKey::new(public.to_bytes())) {
            self.remove_peer(*slot);
        }
        self.identity = Some(Identity {
            private_key,
            secret,
            gate: Gate::new(&public),
            public,
        });
        self.nudge_all();
    }

    fn configure_peer(&mut self, now: Instant, change: PeerChange) {
        let known = self.by_key.get(&change.public_key).copied();
        let slot = match known {
            Some(slot) if change.remove => return self.remove_peer(slot),
            Some(slot) => slot,
            None if change.remove || change.update_only => return,
            // A device is not its own peer: the kernel passes over that in silence too.
            None if self.is_own(&change.public_key) => return,
            None => self.add_peer(change.public_key),
        };
        if let Some(preshared_key) = change.preshared_key {
            self.set_preshared_key(slot, preshared_key);
        }
        if change.replace_allowed_ips {
            self.disown(slot);
        }
        self.allow(slot, &change.allowed_ips);
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let known = |path: &Path| {
            change
                .endpoint
                .is_none_or(|endpoint| endpoint == path.remote)
        };
        let same = peer.endpoint.filter(known);
        peer.endpoint = same.or(change.endpoint.map(Path::to));
        let before = peer.keep_alive;
        peer.keep_alive = change.keep_alive.unwrap_or(before);
        peer.nudged |= before == 0 && peer.keep_alive > 0;
        let nudged = peer.nudged || !peer.is_established();
        if nudged && peer.keep_alive > 0 && peer.endpoint.is_some() {
            peer.nudged = true;
            self.wake(slot, now);
            self.hurry(now);
        }
    }

    fn is_own(&self, public_key: &PublicKey) -> bool {
        let own = self
            .identity
            .as_ref()
            .map(|identity| identity.public.as_bytes());
        own == Some(public_key.as_bytes())
    }

    fn add_peer(&mut self, public_key: PublicKey) -> usize {
        let slot = self.peers.insert(Peer::new(public_key));
        self.by_key.insert(public_key, slot);
        slot
    }

    fn remove_peer(&mut self, slot: usize) {
        self.still(slot);
        self.disown(slot);
        if let Some(peer) = self.peers.try_remove(slot) {
            self.by_key.remove(&peer.public_key);
        }
    }

    /// A tunnel keeps the key that it was made with, so another key is another tunnel.
    fn set_preshared_key(&mut self, slot: usize, preshared_key: Option<Key>) {
        let preshared_key = preshared_key.filter(|key| !key.is_zero());
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if peer.preshared_key != preshared_key {
            peer.preshared_key = preshared_key;
            self.still(slot);
        }
    }

    /// Gives prefixes to a peer and takes them from whoever had them.
    fn allow(&mut self, slot: usize, prefixes: &[IpNet]) {
        let Some(peer) = self.peers.get(slot).filter(|_| !prefixes.is_empty()) else {
            return;
        };
        let mut listed = peer.allowed_ips.to_vec();
        for prefix in prefixes.iter().map(IpNet::trunc) {
            let before = self.allowed.insert(prefix, slot);
            if before == Some(slot) {
                continue;
            }
            listed.push(prefix);
            if let Some(loser) = before.and_then(|loser| self.peers.get_mut(loser)) {
                let rest = loser.allowed_ips.iter().filter(|other| **other != prefix);
                loser.allowed_ips = rest.copied().collect::<Vec<_>>().into();
            }
        }
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.allowed_ips = listed.into();
        }
    }

    fn disown(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            for prefix in std::mem::replace(&mut peer.allowed_ips, Arc::from([])).iter() {
                self.allowed.remove(*prefix);
            }
        }
    }

    /// Starts over with everybody whom we are to keep a session with.
    fn nudge_all(&mut self) {
        for (slot, peer) in &mut self.peers {
            if peer.keep_alive > 0 && peer.endpoint.is_some() {
                peer.nudged = true;
                self.awake.insert(slot);
            }
        }
    }
}
