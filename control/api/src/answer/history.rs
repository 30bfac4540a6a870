//! What was asked for, by whom, and what came of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The generations that are kept, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Generations {
    /// The generation that is desired; 0 before the first.
    pub desired: u64,
    /// The newest generation that every worker runs.
    pub running: u64,
    /// Without their documents.
    pub generations: Vec<GenerationEntry>,
}

/// A generation of the desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenerationEntry {
    /// Its number; only grows.
    pub generation: u64,
    /// When it was committed.
    pub time: u64,
    /// Whose token asked for it.
    pub actor: String,
    /// By which request.
    pub note: String,
    /// The owners whose parts of the state it changed, as far as the history of each reaches.
    #[serde(default)]
    pub owners: Vec<String>,
}

/// Entries of the audit log, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntries {
    /// The entries.
    pub entries: Vec<AuditEntry>,
}

/// One request that was to change something, showed secrets, or was not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Given when it is appended; only grows.
    pub id: u64,
    /// When.
    pub time: u64,
    /// The name of the token; `-` when no known one was given.
    pub actor: String,
    /// The token's role; `-` when no known one was given.
    pub role: String,
    /// The client's address; over a unix socket `unix:uid=` and its user.
    pub source: String,
    /// The request: its method and path.
    pub action: String,
    /// The generation that came of it.
    pub generation: Option<u64>,
    /// `applied`, `unchanged`, `refused`, `failed`, or `shown` for a look at secrets.
    pub result: String,
    /// Why it was refused or failed; never a secret.
    pub detail: String,
    /// Whose objects the request was about: an owner, or `all`; `-` when that is not known.
    #[serde(default)]
    pub owner: String,
}
