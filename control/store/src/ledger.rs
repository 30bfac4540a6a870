//! What was counted and is not on its way to the disk yet.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use control_api::{
    place::{NetworkKey, NetworkName},
    state::PublicKey,
};
use control_plan::sample::{Raw, Span};

use crate::sample::{PeerSample, RelaySample, Sample};

/// Clients of a route that are told apart within an hour, in multiples of those that are kept.
const CLIENTS_HEADROOM: usize = 4;

/// Relays that wait for a disk that takes nothing; then new clients are counted together. 256 B
/// each.
const RELAYS_WAITING_MAX: usize = 1 << 18;

/// Different answers that wait to be remembered; more are not, see [`crate::answers`].
const ANSWERS_WAITING_MAX: usize = 1024;

/// Peers whose last reading is remembered to recognise peers at rest. All are forgotten beyond,
/// which costs a comparison on disk for each and nothing else.
const RESTING_MAX: usize = 1 << 20;

/// Readings are merged here as they come, under a lock that is only ever held for the merging:
/// who brings a sample never waits for the disk.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    batch: Batch,
    /// The last reading of a network's peer, and which account it is counted in: a device that gets
    /// another key goes on counting, for another account.
    resting: HashMap<(NetworkKey, PublicKey), (PublicKey, Reading)>,
    hour: u64,
    clients: HashMap<RouteId, HashSet<(IpAddr, Option<PublicKey>)>>,
    clients_max: usize,
}

/// Which peer: the network's port and key, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerId {
    pub(crate) network: NetworkKey,
    pub(crate) network_key: PublicKey,
    pub(crate) peer: PublicKey,
}

/// Which network has which route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteId {
    pub(crate) network: NetworkName,
    pub(crate) network_key: Option<PublicKey>,
    pub(crate) route: String,
}

/// Which client of which route reached which peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RelayId {
    pub(crate) route: RouteId,
    /// None stands for all that are not told apart.
    pub(crate) client: Option<IpAddr>,
    pub(crate) peer: Option<PublicKey>,
}

/// What a peer last said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    raw: Raw,
    last_handshake: Option<u64>,
    endpoint: Option<SocketAddr>,
}

/// What a peer's readings come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerChange {
    pub(crate) span: Span,
    pub(crate) last_handshake: Option<u64>,
    pub(crate) endpoint: Option<SocketAddr>,
}

/// What was relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelayChange {
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) connections: u64,
}

/// An answer about traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    /// It tells what came after this time.
    pub(crate) since: u64,
    /// The last time in it; `since` where there is none.
    pub(crate) stop: u64,
    /// Up to here it tells everything.
    pub(crate) next: u64,
}

/// How often each answer was given.
pub(crate) type Answers = BTreeMap<Told, u32>;

/// Samples in a row, merged.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// When the last of them was taken.
    pub(crate) time: u64,
    pub(crate) peers: HashMap<PeerId, PeerChange>,
    pub(crate) relays: HashMap<RelayId, RelayChange>,
    /// Answers that were given, and how often.
    pub(crate) answers: Answers,
}

impl Ledger {
    pub(crate) fn new(clients_max: usize) -> Self {
        Self(Mutex::new(Books {
            clients_max,
            ..Books::default()
        }))
    }

    pub(crate) fn record(&self, sample: &Sample) {
        let mut books = self.lock();
        books.batch.time = books.batch.time.max(sample.time_unix);
        for peer in &sample.peers {
            books.record_peer(peer);
        }
        let hour = sample.time_unix / 3600;
        if books.hour != hour {
            books.hour = hour;
            books.clients.clear();
        }
        for relay in &sample.relays {
            books.record_relay(relay);
        }
    }

    /// Everything that was recorded since it was last taken.
    pub(crate) fn take(&self) -> Batch {
        let mut books = self.lock();
        let time = books.batch.time;
        mem::replace(
            &mut books.batch,
            Batch {
                time,
                ..Batch::default()
            },
        )
    }

    pub(crate) fn note_answer(&self, answer: Told) {
        // One that tells nothing leaves its poller where it was.
        if answer.since != answer.next {
            self.lock().batch.add_answer(answer, 1);
        }
    }

    pub(crate) fn set_clients_max(&self, clients_max: usize) {
        self.lock().clients_max = clients_max;
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn record_peer(&mut self, sample: &PeerSample) {
        let id = PeerId {
            network: sample.network,
            network_key: sample.network_key,
            peer: sample.peer,
        };
        let reading = Reading {
            raw: sample.raw,
            last_handshake: sample.last_handshake,
            endpoint: sample.endpoint,
        };
        if self.resting.len() >= RESTING_MAX {
            self.resting.clear();
        }
        let last = self
            .resting
            .insert((id.network, id.peer), (id.network_key, reading));
        let span = match last {
            Some((key, last)) if key == id.network_key => {
                if last == reading {
                    return;
                }
                Span::of(reading.raw)
            }
            Some((_, last)) => Span::following(last.raw, reading.raw),
            None => Span::of(reading.raw),
        };
        let change = PeerChange {
            span,
            last_handshake: reading.last_handshake,
            endpoint: reading.endpoint,
        };
        self.batch.add_peer(id, change);
    }

    fn record_relay(&mut self, sample: &RelaySample) {
        let change = RelayChange {
            bytes_in: sample.bytes_in,
            bytes_out: sample.bytes_out,
            connections: sample.connections,
        };
        if change == RelayChange::default() {
            return;
        }
        let route = RouteId {
            network: sample.network.clone(),
            network_key: sample.network_key,
            route: sample.route.clone(),
        };
        // One client is one address, however the socket wrote it.
        let client = sample.client.map(|client| client.to_canonical());
        let known = self.clients.entry(route.clone()).or_default();
        let room = known.len() < self.clients_max.saturating_mul(CLIENTS_HEADROOM);
        let client = client.filter(|client| {
            let client = (*client, sample.peer);
            known.contains(&client) || room && known.insert(client)
        });
        let id = RelayId {
            route,
            client,
            peer: sample.peer,
        };
        self.batch.add_relay(id, change);
    }
}

impl Batch {
    /// True if there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty() && !self.counts()
    }

    /// True if something was counted.
    pub(crate) fn counts(&self) -> bool {
        !self.peers.is_empty() || !self.relays.is_empty()
    }

    /// Puts a later batch behind this one.
    pub(crate) fn append(&mut self, later: Self) {
        self.time = self.time.max(later.time);
        for (id, change) in later.peers {
            self.add_peer(id, change);
        }
        for (id, change) in later.relays {
            self.add_relay(id, change);
        }
        for (answer, times) in later.answers {
            self.add_answer(answer, times);
        }
    }

    fn add_answer(&mut self, answer: Told, times: u32) {
        if self.answers.len() < ANSWERS_WAITING_MAX || self.answers.contains_key(&answer) {
            let sum = self.answers.entry(answer).or_default();
            *sum = sum.saturating_add(times);
        }
    }

    fn add_peer(&mut self, id: PeerId, later: PeerChange) {
        self.peers
            .entry(id)
            .and_modify(|change| {
                change.span.append(later.span);
                change.last_handshake = later.last_handshake.or(change.last_handshake);
                change.endpoint = later.endpoint.or(change.endpoint);
            })
            .or_insert(later);
    }

    fn add_relay(&mut self, mut id: RelayId, change: RelayChange) {
        if self.relays.len() >= RELAYS_WAITING_MAX && !self.relays.contains_key(&id) {
            id.client = None;
        }
        let sum = self.relays.entry(id).or_default();
        sum.bytes_in = sum.bytes_in.saturating_add(change.bytes_in);
        sum.bytes_out = sum.bytes_out.saturating_add(change.bytes_out);
        sum.connections = sum.connections.saturating_add(change.connections);
    }
}

#[cfg(test)]
mod tests;
