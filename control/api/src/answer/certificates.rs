//! Certificates, as the gateway has them; never their keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The certificates that the gateway has, and those that it is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificates {
    /// How many there are in all, with what was asked for.
    pub total: usize,
    /// By name, those after `after` and up to the limit.
    pub certificates: Vec<CertificateStatus>,
}

/// The certificates at one time, and what was counted of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificatesView {
    /// All of them, by name.
    pub certificates: Vec<CertificateStatus>,
    /// How many orders ended, by the directory's name and by how: `ok` or `failed`.
    pub orders: BTreeMap<(String, &'static str), u64>,
    /// Orders that are under way.
    pub running: u64,
}

/// One certificate, or one that is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateStatus {
    /// What it is for: a host or `*.domain`. One in files may be for more; this is its first name.
    pub name: String,
    /// The public port of the network that it is for; absent for the gateway's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<u16>,
    /// How it is.
    pub state: CertificateState,
    /// All names that it is for; none while there is no certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The hosts that clients are shown it for; `*` stands for those that have no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Where it comes from: the path of its file, or the name of its ACME directory.
    pub source: String,
    /// Who issued it; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// From when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<u64>,
    /// Until when it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// When it is renewed, or tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// Why the last attempt failed, or why the newest file is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a certificate is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// It is served.
    Ok,
    /// There is none yet.
    #[default]
    Pending,
    /// There is none, and the last attempt failed.
    Failed,
    /// It is served, and the last attempt to replace it failed.
    Stale,
    /// It is served, and no client takes it any more.
    Expired,
}

impl CertificateState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Pending,
        Self::Failed,
        Self::Stale,
        Self::Expired,
    ];

    /// The word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}
