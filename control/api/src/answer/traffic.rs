//! Exact accounts: what WireGuard counted for each peer, and what was relayed for each route.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The key of all clients of a route that have no entry of their own.
pub const OTHER_CLIENTS: &str = "other";

/// Bytes as the gateway's device counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Received from the peer.
    pub rx: u64,
    /// Sent to the peer.
    pub tx: u64,
}

impl Traffic {
    /// Adds another span's. Stops at the largest number.
    pub fn add(&mut self, other: Self) {
        self.rx = self.rx.saturating_add(other.rx);
        self.tx = self.tx.saturating_add(other.tx);
    }
}

/// What peers received and sent in a span of time: strictly after `start_time`, up to and with
/// `stop_time`. Asking again from `next`, or from `stop_time`, counts every byte once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficInfo {
    /// As asked for.
    pub start_time: u64,
    /// The newest time that was counted; `start_time` when there is none.
    pub stop_time: u64,
    /// Where to go on: everything up to this time is in the answer. At least `stop_time`, and later
    /// where nothing that was asked for was counted since.
    #[serde(default)]
    pub next: u64,
    /// Present and true when the answer was too long: the rest is after `stop_time`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Of all networks.
    pub traffic: Traffic,
    /// By public key; `port:<port>` for a network without keys.
    pub networks: BTreeMap<String, NetworkTraffic>,
}

/// What the peers of one network received and sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkTraffic {
    /// Of all its peers.
    pub traffic: Traffic,
    /// By the peer's public key.
    pub devices: BTreeMap<String, DeviceTraffic>,
}

/// What one peer received and sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceTraffic {
    /// In the whole span.
    pub traffic: Traffic,
    /// By the time at which it had been counted.
    pub times: BTreeMap<u64, Traffic>,
}

impl DeviceTraffic {
    /// Adds what had been counted at a time.
    pub fn add(&mut self, time: u64, traffic: Traffic) {
        self.traffic.add(traffic);
        self.times.entry(time).or_default().add(traffic);
    }
}

/// Bytes and connections that were relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Relayed {
    /// Bytes from clients to the network.
    pub bytes_in: u64,
    /// Bytes from the network to clients.
    pub bytes_out: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Relayed {
    /// Adds another span's. Stops at the largest number.
    pub fn add(&mut self, other: Self) {
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.connections = self.connections.saturating_add(other.connections);
    }
}

/// What was relayed in a span of time: strictly after `start_time`, up to and with `stop_time`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoutesTraffic {
    /// As asked for.
    pub start_time: u64,
    /// The newest time that was counted; `start_time` when there is none.
    pub stop_time: u64,
    /// Where to go on: everything up to this time is in the answer. At least `stop_time`, and later
    /// where nothing that was asked for was counted since.
    #[serde(default)]
    pub next: u64,
    /// Present and true when the answer was too long: the rest is after `stop_time`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Of all networks.
    pub traffic: Relayed,
    /// By public key; `port:<port>` for a network without keys.
    pub networks: BTreeMap<String, NetworkRelayed>,
}

/// What was relayed for one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkRelayed {
    /// Of all its routes.
    pub traffic: Relayed,
    /// By the route's name in logs and metrics.
    pub routes: BTreeMap<String, RouteRelayed>,
}

/// What was relayed for one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRelayed {
    /// Of all its clients.
    pub traffic: Relayed,
    /// By the client's address; [`OTHER_CLIENTS`] for those beyond the bound.
    pub clients: BTreeMap<String, ClientRelayed>,
}

/// What was relayed for one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientRelayed {
    /// In the whole span.
    pub traffic: Relayed,
    /// By the public key of the peer that the client was led to, where that is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, Relayed>,
    /// By the time at which it had been counted.
    pub times: BTreeMap<u64, Relayed>,
}
