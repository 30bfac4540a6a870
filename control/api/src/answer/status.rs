//! What is desired beside what is.

use std::{collections::BTreeMap, net::SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Degradation;
use crate::state::PublicKey;

/// A peer counts as connected while its last handshake is younger than this. WireGuard makes a new
/// one every 120 s at the latest when there is traffic, and rejects a session after 180 s
/// (REJECT_AFTER_TIME, whitepaper section 6.1).
pub const CONNECTED_SECONDS: u64 = 180;

/// Desired against actual, of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the gateway.
    pub version: String,
    /// When the process began.
    pub started: u64,
    /// Whole seconds since then.
    pub uptime_seconds: u64,
    /// Whether clients are accepted and every worker runs the desired state.
    pub ready: bool,
    /// Which generations there are.
    pub generation: GenerationStatus,
    /// Who carries WireGuard.
    pub wireguard: WireGuardStatus,
    /// Networks of the desired state, by public port.
    pub networks: BTreeMap<u16, NetworkStatus>,
    /// In the order of the boot file.
    pub listeners: Vec<ListenerStatus>,
    /// In the order of their numbers.
    pub workers: Vec<WorkerStatus>,
    /// Whether accounts and state are being written.
    pub store: StoreStatus,
    /// Everything that keeps declared traffic from being served, networks included.
    pub degraded: Vec<Degradation>,
    /// What works, and should still be looked at.
    pub warnings: Vec<String>,
}

/// Which generations there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenerationStatus {
    /// The generation that is desired; 0 before the first.
    pub desired: u64,
    /// The newest generation that every worker runs.
    pub running: u64,
}

/// Who carries WireGuard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WireGuardStatus {
    /// In use for new devices; absent when neither can be.
    pub backend: Option<Backend>,
    /// Why this one, such as that the kernel has no module.
    pub reason: String,
}

/// Who carries the packets of WireGuard devices.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The kernel's module.
    Kernel,
    /// Ringway itself, over a TUN device.
    Userspace,
}

impl Backend {
    /// The word in files, answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        }
    }
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkStatus {
    /// `network-<port>`.
    pub name: String,
    /// The namespace that its connections are dialed from: a name, or `host`.
    pub namespace: String,
    /// How it is.
    pub state: NetworkState,
    /// Why it is not `ok`.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Absent in a network without a device.
    pub public_key: Option<PublicKey>,
    /// The device as it is; absent when there is none.
    pub device: Option<DeviceStatus>,
    /// Peers of the desired state, by public key.
    pub peers: BTreeMap<PublicKey, PeerStatus>,
    /// What it serves.
    pub routes: Vec<RouteStatus>,
    /// Connections that are open now.
    pub connections: u64,
    /// Bytes relayed from clients to it.
    pub bytes_in: u64,
    /// Bytes relayed from it to clients.
    pub bytes_out: u64,
}

/// How a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    /// As desired, and served.
    Ok,
    /// Being made so.
    Pending,
    /// Something that is declared could not be made so, or is not served.
    Degraded,
}

impl NetworkState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Pending, Self::Degraded];

    /// The word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Degraded => "degraded",
        }
    }
}

/// A WireGuard device as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceStatus {
    /// `wg<port>`.
    pub name: String,
    /// Who carries its packets.
    pub backend: Backend,
    /// Whether it carries traffic.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// With the lengths of their prefixes.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// Its UDP port; 0 when it has none.
    pub listen_port: u16,
}

/// One peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerStatus {
    /// Where its last authenticated packet came from, or what is declared.
    #[schema(value_type = Option<String>)]
    pub endpoint: Option<SocketAddr>,
    /// Absent before the first.
    pub last_handshake: Option<u64>,
    /// Whether the last handshake is younger than 180 s.
    pub connected: bool,
    /// Bytes received from it since Ringway knows it; never goes back.
    pub rx: u64,
    /// Bytes sent to it since Ringway knows it; never goes back.
    pub tx: u64,
    /// Which sources are believed from it, and which destinations are sent to it.
    #[schema(value_type = Vec<String>)]
    pub allowed_ips: Vec<IpNet>,
}

/// One route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteStatus {
    /// As in logs and metrics.
    pub route: String,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections that were ever admitted.
    pub opened: u64,
    /// Bytes relayed from clients to it.
    pub bytes_in: u64,
    /// Bytes relayed from it to clients.
    pub bytes_out: u64,
    /// Targets that failed, or are down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetStatus>,
}

/// A target that failed, or is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetStatus {
    /// Where in its network.
    pub target: String,
    /// Whether it fails its checks now.
    pub down: bool,
    /// How it failed last: a word as in the records.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<u64>,
}

/// One listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenerStatus {
    /// As in the boot file.
    pub name: String,
    /// The address that is bound.
    pub bind: String,
    /// `tls` or `tcp`.
    pub protocol: String,
    /// Connections taken off its queue.
    pub accepted: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// Its number, from 0.
    pub worker: u16,
    /// The generation that it runs.
    pub generation: u64,
    /// Connections that are open on it now.
    pub connections: u64,
    /// Connections that it took off its listeners' queues.
    pub accepted: u64,
    /// Bytes that it relayed from clients.
    pub bytes_in: u64,
    /// Bytes that it relayed to clients.
    pub bytes_out: u64,
}

/// Whether accounts and state are being written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// Whether the last write succeeded. While it does not, accounts wait in memory and traffic
    /// goes on.
    pub ok: bool,
    /// Since when it fails.
    pub since: Option<u64>,
    /// Why it fails.
    pub error: Option<String>,
    /// Bytes of the database on disk, its write-ahead log included.
    pub bytes: u64,
}
