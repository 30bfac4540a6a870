//! What happens, as it happens.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Reason;
use crate::state::PublicKey;

/// One event: `{"id", "time", "kind", …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Only grows, also over restarts; what `Last-Event-ID` takes.
    pub id: u64,
    /// When.
    pub time: u64,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// A peer's first handshake after 180 s without one.
    PeerConnected {
        /// The network's public port.
        network: u16,
        /// Who.
        peer: PublicKey,
        /// From where.
        #[schema(value_type = Option<String>)]
        endpoint: Option<SocketAddr>,
    },
    /// A peer's last handshake became older than 180 s, or the peer was removed.
    PeerDisconnected {
        /// The network's public port.
        network: u16,
        /// Who.
        peer: PublicKey,
    },
    /// A peer's packets come from somewhere else.
    EndpointChanged {
        /// The network's public port.
        network: u16,
        /// Who.
        peer: PublicKey,
        /// From where now.
        #[schema(value_type = String)]
        endpoint: SocketAddr,
    },
    /// A network is not as desired and could not be made so.
    NetworkDegraded {
        /// The network's public port.
        network: u16,
        /// Why.
        reasons: Vec<String>,
    },
    /// A network is as desired again.
    NetworkRecovered {
        /// The network's public port.
        network: u16,
    },
    /// Something that is declared is not served. A network that could not be made so has an event of
    /// its own.
    Degraded {
        /// What: a host, a route, a listener, `store`.
        object: String,
        /// The public port of the network that it belongs to; absent for the gateway's own.
        network: Option<u16>,
        /// Of which kind.
        reason: Reason,
        /// Why, in one line.
        why: String,
    },
    /// It is served again, or no longer declared.
    Recovered {
        /// What.
        object: String,
        /// The public port of the network that it belongs to; absent for the gateway's own.
        network: Option<u16>,
        /// What kept it from being served.
        reason: Reason,
    },
    /// A certificate was obtained, for the first time or in place of an older one.
    CertificateObtained {
        /// The public port of the network that it is for; absent for the gateway's own.
        network: Option<u16>,
        /// What it is for.
        name: String,
        /// The ACME directory that it is from.
        directory: String,
        /// Who issued it.
        issuer: String,
        /// Until when it is good.
        not_after: u64,
        /// Whether there was one before.
        renewed: bool,
    },
    /// A certificate could not be obtained; it is tried again.
    CertificateFailed {
        /// The public port of the network that it is for; absent for the gateway's own.
        network: Option<u16>,
        /// What it is for.
        name: String,
        /// The ACME directory that it is from.
        directory: String,
        /// Why.
        reason: String,
        /// When it is tried again.
        retry_at: u64,
    },
    /// A certificate in files was replaced, and the new one is served.
    CertificateLoaded {
        /// The certificate's file.
        file: String,
        /// What it is for.
        names: Vec<String>,
        /// Until when it is good.
        not_after: u64,
    },
    /// A file is no good certificate; the one from before stays.
    CertificateRefused {
        /// The certificate's file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Clients asked for as many names without a certificate as are asked about in an hour
    /// (`acme.on_demand.names_per_hour`). Those that had a name refused wait; a part is kept for
    /// others. Said once an hour.
    OnDemandSpent {
        /// How many that is.
        names_per_hour: u32,
    },
    /// Every worker runs a new generation.
    StateApplied {
        /// Which.
        generation: u64,
        /// Who asked for it.
        actor: String,
        /// Whose part of the state it changed: an owner, or `all`.
        #[serde(default)]
        owner: String,
    },
}

impl Happening {
    /// The owner whose part of the desired state it is about.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::StateApplied { owner, .. } => Some(owner),
            Self::PeerConnected { .. }
            | Self::PeerDisconnected { .. }
            | Self::EndpointChanged { .. }
            | Self::NetworkDegraded { .. }
            | Self::NetworkRecovered { .. }
            | Self::Degraded { .. }
            | Self::Recovered { .. }
            | Self::CertificateObtained { .. }
            | Self::CertificateFailed { .. }
            | Self::CertificateLoaded { .. }
            | Self::CertificateRefused { .. }
            | Self::OnDemandSpent { .. } => None,
        }
    }

    /// The word in `kind`, and the name of the server-sent event.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::PeerConnected { .. } => "peer_connected",
            Self::PeerDisconnected { .. } => "peer_disconnected",
            Self::EndpointChanged { .. } => "endpoint_changed",
            Self::NetworkDegraded { .. } => "network_degraded",
            Self::NetworkRecovered { .. } => "network_recovered",
            Self::Degraded { .. } => "degraded",
            Self::Recovered { .. } => "recovered",
            Self::CertificateObtained { .. } => "certificate_obtained",
            Self::CertificateFailed { .. } => "certificate_failed",
            Self::CertificateLoaded { .. } => "certificate_loaded",
            Self::CertificateRefused { .. } => "certificate_refused",
            Self::OnDemandSpent { .. } => "on_demand_spent",
            Self::StateApplied { .. } => "state_applied",
        }
    }
}
