//! A device without its IO: datagrams and packets in, datagrams and packets out.
//!
//! ```text
//!   a packet of the tenant ─► send ────┐          ┌─► receive ─► a packet for the tenant
//!                                      ▼          │
//!                  turn (timers) ──► Outbox ─► UDP ─► a datagram
//! ```
//!
//! The time and the source of indices are handed in, and nothing here waits, so that tests drive
//! several devices against each other through a network of their own making. What boringtun keeps
//! to itself is in [`tunnel`].
//!
//! Invariants: every index in `indices` is that of a live peer; every prefix in `allowed` is listed
//! by the peer that has it, and by no other; `staged_bytes` is the sum over all peers.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Instant, SystemTime},
};

use boringtun::x25519;
use slab::Slab;

use self::{
    allowed::AllowedIps,
    gate::Gate,
    peer::{Live, Peer},
    refusal::Refusals,
    tunnel::Tunnel,
};
use crate::{
    key::{Key, PublicKey},
    state::State,
};

mod allowed;
pub(crate) mod configure;
mod gate;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod path;
mod peer;
pub(crate) mod receive;
mod refusal;
mod send;
mod timers;
mod tunnel;

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// The one that never goes back.
    pub(crate) instant: Instant,
    /// The one that people read.
    pub(crate) wall: SystemTime,
}

impl Now {
    /// Reads both.
    pub(crate) fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// A device's keys, peers and sessions.
pub(crate) struct Core {
    identity: Option<Identity>,
    mtu: usize,
    peers: Slab<Peer>,
    by_key: HashMap<PublicKey, usize, ahash::RandomState>,
    allowed: AllowedIps,
    /// The upper 24 bits of session indices, and the slots of the live peers that they belong to.
    indices: HashMap<u32, usize, ahash::RandomState>,
    /// The slots of the peers whose timers have something to wait for.
    awake: BTreeSet<usize>,
    /// When to look at all of those again.
    round_at: Option<Instant>,
    /// The first slot that the round going on has not looked at.
    round_from: Option<usize>,
    staged_bytes: usize,
    refusals: Refusals,
    draw: Box<dyn FnMut() -> u32 + Send>,
}

/// What a private key makes of a device.
struct Identity {
    private_key: Key,
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    gate: Gate,
}

impl Core {
    /// A device without peers. `draw` gives random numbers, from which the indices of sessions are
    /// taken: they should not be guessable, but no secret hangs on them.
    pub(crate) fn new(private_key: Key, mtu: u16, draw: Box<dyn FnMut() -> u32 + Send>) -> Self {
        let mut core = Self {
            identity: None,
            mtu: usize::from(mtu),
            peers: Slab::new(),
            by_key: HashMap::default(),
            allowed: AllowedIps::default(),
            indices: HashMap::default(),
            awake: BTreeSet::new(),
            round_at: None,
            round_from: None,
            staged_bytes: 0,
            refusals: Refusals::default(),
            draw,
        };
        core.set_private_key(private_key);
        core
    }

    /// What it says of itself, but for the port, which it does not know.
    pub(crate) fn state(&self, listen_port: u16) -> State {
        let identity = self.identity.as_ref();
        State {
            private_key: identity.map(|identity| identity.private_key.clone()),
            public_key: identity.map(|identity| PublicKey::new(identity.public.to_bytes())),
            listen_port,
            mtu: u16::try_from(self.mtu).unwrap_or(u16::MAX),
            peers: self.peers.iter().map(|(_, peer)| peer.state()).collect(),
        }
    }

    /// The largest packet, to which padding is clamped.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = usize::from(mtu);
    }

    /// Takes back from a peer's account what was not sent after all.
    pub(crate) fn unsent(&mut self, slot: usize, bytes: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.tx_bytes = peer.tx_bytes.saturating_sub(bytes as u64);
        }
    }

    /// Sends to a peer from whichever address the host chooses until it speaks to one again: the one
    /// of this path is gone (as `send4` in `drivers/net/wireguard/socket.c` forgets it).
    pub(crate) fn forget_source(&mut self, slot: usize, path: path::Path) {
        if let Some(peer) = self.peers.get_mut(slot)
            && peer.endpoint == Some(path)
        {
            peer.endpoint = Some(path::Path::to(path.remote));
        }
    }

    /// Makes sure that a peer has a tunnel. Without a private key of our own it gets none.
    fn enliven(&mut self, slot: usize, now: Instant) -> Option<&mut Peer> {
        if self.peers.get(slot)?.live.is_none() {
            let identity = self.identity.as_ref()?;
            let (secret, limiter) = (identity.secret.clone(), identity.gate.limiter());
            let index = self.draw_index();
            let peer = self.peers.get_mut(slot)?;
            let preshared_key = peer.preshared_key.as_ref();
            let tunnel = Tunnel::new(secret, &peer.public_key, preshared_key, index, limiter);
            peer.live = Some(Box::new(Live::new(tunnel, index, now)));
            self.indices.insert(index, slot);
        }
        self.wake(slot, now);
        self.peers.get_mut(slot)
    }

    /// Ends the sessions with a peer, and forgets its tunnel.
    fn still(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        if let Some(live) = peer.live.take() {
            self.indices.remove(&live.index);
        }
        self.unstage(slot);
        self.awake.remove(&slot);
    }

    /// An index that no live peer has. There are 2^24, a hundred times as many as peers may be.
    fn draw_index(&mut self) -> u32 {
        loop {
            let index = (self.draw)() >> 8;
            if !self.indices.contains_key(&index) {
                return index;
            }
        }
    }

    /// Whose session a received index is of. The lower eight bits are boringtun's.
    fn slot_of(&self, receiver: u32) -> Option<usize> {
        self.indices.get(&(receiver >> 8)).copied()
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("mtu", &self.mtu)
            .field("peers", &self.peers.len())
            .field("awake", &self.awake.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
