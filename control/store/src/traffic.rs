//! Questions about traffic, and their answers.

use std::{collections::BTreeMap, num::NonZeroU16, str::FromStr};

use control_api::{
    place::NetworkName,
    state::{KeyError, PublicKey},
};

mod peers;
mod relays;
mod select;

/// Times in one answer. A longer one ends early, at the last time that it has everything of, and
/// says so: whoever goes on from its `stop_time` gets the rest.
pub const ANSWER_ROWS_MAX: u32 = 250_000;

/// What is asked about traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficQuery {
    /// Only what was counted after this unix time.
    pub since: u64,
    /// Only rows up to this unix time; otherwise everything until now. What was counted before and
    /// is in a later row is not in the answer: at most a row interval's worth.
    pub until: Option<u64>,
    /// Only this network.
    pub network: Option<NetworkFilter>,
    /// Only this peer.
    pub peer: Option<PublicKey>,
    /// How finely to tell it; otherwise by row.
    pub group: Option<Group>,
}

/// Which network is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkFilter {
    /// Whatever has, or had, this name.
    Name(NetworkName),
    /// The network with this key.
    Key(PublicKey),
}

impl From<NonZeroU16> for NetworkFilter {
    fn from(port: NonZeroU16) -> Self {
        Self::Name(NetworkName::Port(port))
    }
}

impl FromStr for NetworkFilter {
    type Err = KeyError;

    /// A port, `port:PORT`, a network's name, or a public key.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let port = text.strip_prefix("port:").unwrap_or(text).parse();
        match (port, text.parse()) {
            (Ok(port), _) => Ok(Self::Name(NetworkName::Port(port))),
            (Err(_), Ok(name)) => Ok(Self::Name(name)),
            (Err(_), Err(_)) => text.parse().map(Self::Key),
        }
    }
}

/// How finely traffic is told. A time stands for what was counted from then on, and for the whole
/// hour or day, which includes its end: 13:00:00 belongs to the hour that began at 12:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// By hour.
    Hour,
    /// By day, from midnight UTC on.
    Day,
}

impl Group {
    /// The time that stands for what was counted up to a time.
    fn start(group: Option<Self>, time: u64) -> u64 {
        let seconds = match group {
            None => return time,
            Some(Self::Hour) => 3600,
            Some(Self::Day) => 86_400,
        };
        time.saturating_sub(1) / seconds * seconds
    }
}

/// Bytes of a peer, as the gateway's WireGuard device sees them.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Traffic {
    /// Received from the peer.
    pub rx: u64,
    /// Sent to the peer.
    pub tx: u64,
}

impl Traffic {
    fn add(&mut self, other: Self) {
        self.rx = self.rx.saturating_add(other.rx);
        self.tx = self.tx.saturating_add(other.tx);
    }
}

/// What WireGuard counted.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct TrafficInfo {
    /// What was asked: everything is after this unix time.
    pub start_time: u64,
    /// The last time in the answer, or `start_time`: the `since` to go on from.
    pub stop_time: u64,
    /// True if the answer was too long: the rest is after `stop_time`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Everything in the answer.
    pub traffic: Traffic,
    /// By network: its public key.
    pub networks: BTreeMap<String, NetworkTraffic>,
}

/// What WireGuard counted for a network.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct NetworkTraffic {
    /// All its peers.
    pub traffic: Traffic,
    /// By peer: its public key.
    pub devices: BTreeMap<String, DeviceTraffic>,
}

/// What WireGuard counted for a peer.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct DeviceTraffic {
    /// All the times.
    pub traffic: Traffic,
    /// By unix time.
    pub times: BTreeMap<u64, Traffic>,
}

/// Bytes that the engine relayed.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
pub struct Relayed {
    /// From clients to upstreams.
    pub bytes_in: u64,
    /// From upstreams to clients.
    pub bytes_out: u64,
    /// Connections that were admitted.
    pub connections: u64,
}

impl Relayed {
    fn add(&mut self, other: Self) {
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.connections = self.connections.saturating_add(other.connections);
    }
}

/// What the engine relayed.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct RoutesTraffic {
    /// What was asked: everything is after this unix time.
    pub start_time: u64,
    /// The last time in the answer, or `start_time`: the `since` to go on from.
    pub stop_time: u64,
    /// True if the answer was too long: the rest is after `stop_time`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Everything in the answer.
    pub traffic: Relayed,
    /// By network: its public key; without one `port:PORT`, `host` or `netns:NAME`.
    pub networks: BTreeMap<String, NetworkRelayed>,
}

/// What the engine relayed for a network.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct NetworkRelayed {
    /// All its routes.
    pub traffic: Relayed,
    /// By route.
    pub routes: BTreeMap<String, RouteRelayed>,
}

/// What a route relayed.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct RouteRelayed {
    /// All its clients.
    pub traffic: Relayed,
    /// By client address; `other` for all that are not told apart.
    pub clients: BTreeMap<String, ClientRelayed>,
}

/// What was relayed for a client.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct ClientRelayed {
    /// All the times.
    pub traffic: Relayed,
    /// By peer that the client reached, where that is known: its public key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, Relayed>,
    /// By unix time.
    pub times: BTreeMap<u64, Relayed>,
}

#[cfg(test)]
mod tests;
