//! A peer: what was said of it, what was counted, and, once it was heard or spoken to, its tunnel.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime},
};

use ipnet::IpNet;

use super::{path::Path, tunnel::Tunnel};
use crate::{
    key::{Key, PublicKey},
    state::PeerState,
};

/// Packets that wait for a handshake with one peer (`MAX_STAGED_PACKETS` of the kernel). Further
/// ones push out the oldest.
pub(crate) const STAGED_MAX: usize = 128;

/// One peer of a device.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: Option<Key>,
    pub(crate) endpoint: Option<Path>,
    pub(crate) keep_alive: u16,
    pub(crate) allowed_ips: Arc<[IpNet]>,
    pub(crate) last_handshake: Option<SystemTime>,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    /// A keep-alive is due now, however short the silence was.
    pub(crate) nudged: bool,
    /// Packets that wait for a session.
    pub(crate) staged: VecDeque<Vec<u8>>,
    /// A tunnel takes some 10 KiB, so a peer that never came has none.
    pub(crate) live: Option<Box<Live>>,
}

/// The part of a peer that exists once there was a message to or from it. It stays, even when its
/// sessions end: it knows the last initiation, so that no older one is believed.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) tunnel: Tunnel,
    /// The upper 24 bits of the indices of its sessions.
    pub(crate) index: u32,
    /// There is a session to seal packets for.
    pub(crate) established: bool,
    /// That session is one that we asked for, so it is ours to renew.
    pub(crate) initiator: bool,
    /// The index of the session that we answered an initiation with, until something arrives in it.
    pub(crate) answered: Option<u32>,
    /// When its timers ran.
    pub(crate) timed: Instant,
    /// When the last authenticated message went either way.
    pub(crate) moved: Instant,
    /// When an initiation was last taken from it.
    pub(crate) initiated: Option<Instant>,
    /// Our own initiation that nobody has answered yet.
    pub(crate) asking: Option<Asking>,
}

/// An attempt at a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking {
    /// When it began.
    pub(crate) since: Instant,
    /// When it was last repeated.
    pub(crate) last: Instant,
}

impl Peer {
    pub(crate) fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            endpoint: None,
            keep_alive: 0,
            allowed_ips: Arc::from([]),
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            nudged: false,
            staged: VecDeque::new(),
            live: None,
        }
    }

    pub(crate) fn state(&self) -> PeerState {
        PeerState {
            public_key: self.public_key,
            preshared_key: self.preshared_key.clone(),
            endpoint: self.endpoint.map(|path| path.remote),
            last_handshake: self.last_handshake,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
            keep_alive: self.keep_alive,
            allowed_ips: self.allowed_ips.clone(),
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.established)
    }

    /// Whether a keep-alive is due, and there is somewhere to send it.
    pub(crate) fn wants_keep_alive(&self, now: Instant) -> bool {
        if self.keep_alive == 0 || self.endpoint.is_none() {
            return false;
        }
        let silence = |live: &Live| now.saturating_duration_since(live.moved).as_secs();
        let silent = |live| silence(live) >= u64::from(self.keep_alive);
        self.nudged || self.live.as_deref().is_none_or(silent)
    }
}

impl Live {
    pub(crate) fn new(tunnel: Tunnel, index: u32, now: Instant) -> Self {
        Self {
            tunnel,
            index,
            established: false,
            initiator: false,
            answered: None,
            timed: now,
            moved: now,
            initiated: None,
            asking: None,
        }
    }

    /// Notes that the peer was asked for a session.
    pub(crate) fn ask(&mut self, now: Instant) {
        let since = self.asking.map_or(now, |asking| asking.since);
        self.asking = Some(Asking { since, last: now });
    }

    /// Looks whether there is a session after something that may have made or ended one.
    pub(crate) fn look(&mut self) {
        self.established = self.tunnel.session_age().is_some();
    }
}
