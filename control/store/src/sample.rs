//! What is counted, as it is brought to the store.

use std::net::{IpAddr, SocketAddr};

use control_api::{
    place::{NetworkKey, NetworkName},
    state::PublicKey,
};
use control_plan::sample::Raw;

/// Everything that was read at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Unix time of the reading, in seconds. Time that runs backwards is taken to stand still.
    pub time_unix: u64,
    /// Each peer's counters; peers that did not change cost little and may be left out.
    pub peers: Vec<PeerSample>,
    /// What was relayed since the sample before.
    pub relays: Vec<RelaySample>,
}

/// One peer's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSample {
    /// The network's port.
    pub network: NetworkKey,
    /// The network's public key. A port that gets another key begins a new account, with what
    /// its device counts from then on.
    pub network_key: PublicKey,
    /// The peer.
    pub peer: PublicKey,
    /// Its counters as the device tells them: the store takes the differences.
    pub raw: Raw,
    /// Unix time of the last handshake, if there was one.
    pub last_handshake: Option<u64>,
    /// Where the peer was heard from last.
    pub endpoint: Option<SocketAddr>,
}

/// What a route carried for a client: differences, each brought once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySample {
    /// The network that was dialed.
    pub network: NetworkName,
    /// The network's public key, where it has one.
    pub network_key: Option<PublicKey>,
    /// The route, as metrics and logs name it.
    pub route: String,
    /// Who connected; absent for all those that whoever counted did not tell apart.
    pub client: Option<IpAddr>,
    /// The peer behind the target, where one is known.
    pub peer: Option<PublicKey>,
    /// Bytes from clients to upstreams.
    pub bytes_in: u64,
    /// Bytes from upstreams to clients.
    pub bytes_out: u64,
    /// Connections that were admitted.
    pub connections: u64,
}
