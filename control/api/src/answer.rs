//! What the API answers, as types that the gateway writes and its clients read.
//!
//! Times are seconds since the Unix epoch. A member that is not known is `null` or absent; a reader
//! ignores members that it does not know, so that an older client reads a newer gateway.

mod certificates;
mod degradation;
mod event;
mod history;
mod status;
mod traffic;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    certificates::{CertificateState, CertificateStatus, Certificates, CertificatesView},
    degradation::{Degradation, Reason},
    event::{Event, Happening},
    history::{AuditEntries, AuditEntry, GenerationEntry, Generations},
    status::{
        Backend, CONNECTED_SECONDS, DeviceStatus, GenerationStatus, ListenerStatus, NetworkState,
        NetworkStatus, PeerStatus, RouteStatus, Status, StoreStatus, TargetStatus, WireGuardStatus,
        WorkerStatus,
    },
    traffic::{
        ClientRelayed, DeviceTraffic, NetworkRelayed, NetworkTraffic, OTHER_CLIENTS, Relayed,
        RouteRelayed, RoutesTraffic, Traffic, TrafficInfo,
    },
};
use crate::problem::{Problem, Problems};

/// The answer to a change of the desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// The generation that is desired now; of a dry run, the one that it was compared with.
    pub generation: u64,
    /// Whether the desired state became another one, or would.
    pub changed: bool,
    /// Present and true when nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What is done to get there, in order; empty when everything is so already.
    pub steps: Vec<AppliedStep>,
    /// What of the desired state could not be made so, and is tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degradation>,
    /// What was accepted, and should still be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<RefusedProblem>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedStep {
    /// The verb: `make`, `set`, `add`, `remove` and the like.
    pub op: String,
    /// What it is done to, such as `network-51820/wg51820`.
    pub object: String,
    /// What exactly; never a secret.
    pub detail: String,
}

/// The answer to everything that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// What was refused and why, in one sentence.
    pub error: String,
    /// Everything that is wrong with a document; empty when the document is not the reason.
    #[serde(default)]
    pub problems: Vec<RefusedProblem>,
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedProblem {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that can be said.
    pub hint: Option<String>,
}

impl From<&Problem> for RefusedProblem {
    fn from(problem: &Problem) -> Self {
        Self {
            pointer: problem.pointer.clone(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl Refused {
    /// A refusal that no document is the reason of.
    pub fn because(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            problems: Vec::new(),
        }
    }

    /// A refusal with the errors of a document; its warnings are left out.
    pub fn with_problems(error: impl Into<String>, problems: &Problems) -> Self {
        Self {
            error: error.into(),
            problems: problems.errors().map(RefusedProblem::from).collect(),
        }
    }
}
