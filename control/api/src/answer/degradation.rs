//! What keeps declared traffic from being served, and what to do about it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something that is declared is not served.
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
pub enum Reason {
    /// A step in the kernel failed: the network is not as desired.
    NetworkFailed,
    /// A network of the stored state is refused: it is left out since the start.
    NetworkRefused,
    /// A namespace that connections are dialed from is not there.
    NamespaceMissing,
    /// No listener takes what a route is for.
    ListenerMissing,
    /// A listener has no port: its address cannot be bound, or its network is refused.
    ListenerNotBound,
    /// There is no certificate for a host whose TLS is terminated.
    CertificateMissing,
    /// There is no certificate, and the last attempt to have one failed.
    CertificateFailed,
    /// The certificate in service has expired.
    CertificateExpired,
    /// TLS with clients or targets cannot be set up as declared.
    TlsFailed,
    /// All targets of a route fail their checks.
    TargetsDown,
    /// The boot file was refused at the last reload.
    BootFileRefused,
    /// Changes and accounts are not written.
    StoreBehind,
    /// A worker does not run the desired state.
    WorkersBehind,
    /// A word of a newer gateway.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// Those that a gateway gives.
    pub const ALL: [Self; 13] = [
        Self::NetworkFailed,
        Self::NetworkRefused,
        Self::NamespaceMissing,
        Self::ListenerMissing,
        Self::ListenerNotBound,
        Self::CertificateMissing,
        Self::CertificateFailed,
        Self::CertificateExpired,
        Self::TlsFailed,
        Self::TargetsDown,
        Self::BootFileRefused,
        Self::StoreBehind,
        Self::WorkersBehind,
    ];

    /// The word in answers, events and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NetworkFailed => "network_failed",
            Self::NetworkRefused => "network_refused",
            Self::NamespaceMissing => "namespace_missing",
            Self::ListenerMissing => "listener_missing",
            Self::ListenerNotBound => "listener_not_bound",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateFailed => "certificate_failed",
            Self::CertificateExpired => "certificate_expired",
            Self::TlsFailed => "tls_failed",
            Self::TargetsDown => "targets_down",
            Self::BootFileRefused => "boot_file_refused",
            Self::StoreBehind => "store_behind",
            Self::WorkersBehind => "workers_behind",
            Self::Unknown => "unknown",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NetworkFailed => "remove what is in the way; it is tried again by itself",
            Self::NetworkRefused => {
                "apply the state again with the network mended, or remove it; until then the store \
                 keeps it as it is, and its hosts are answered 503"
            }
            Self::NamespaceMissing => {
                "make the namespace with `ip netns add NAME`, or correct `netns`; it is looked for \
                 every second"
            }
            Self::ListenerMissing => {
                "declare a listener of that protocol, in the network or in the boot file, or remove the \
                 route"
            }
            Self::ListenerNotBound => {
                "free the address, or give the listener another one: it is tried again every second; \
                 reload the boot file where its network was refused and is applied again"
            }
            Self::CertificateMissing => {
                "declare a source in the network's `tls` or in the boot file's, or wait for the order"
            }
            Self::CertificateFailed => {
                "mend what the reason names; `GET /api/v1/certificates` says when it is tried again"
            }
            Self::CertificateExpired => {
                "put a newer certificate into the file, or see why it is not renewed"
            }
            Self::TlsFailed => "correct the certificates and keys of the route",
            Self::TargetsDown => "see to the targets, or to what their checks expect",
            Self::BootFileRefused => "correct the boot file and run `ringway reload`",
            Self::StoreBehind => "make room or mend the disk; writing is tried again by itself",
            Self::WorkersBehind => "see the log; it is tried again every second",
            Self::Unknown => "see the log",
        }
    }
}

/// Something that is declared and not served as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degradation {
    /// What: `network-51820`, a host, a route, a listener, `store`.
    pub object: String,
    /// The public port of the network that it belongs to; absent for the gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<u16>,
    /// Of which kind.
    #[serde(default)]
    pub reason: Reason,
    /// Why, in one line.
    pub why: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: String,
    /// Since when.
    pub since: Option<u64>,
}

impl Degradation {
    /// Of something that is no network's own.
    pub fn new(reason: Reason, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            network: None,
            reason,
            why: why.into(),
            hint: reason.hint().to_owned(),
            since: None,
        }
    }

    /// The same, of something that belongs to a network.
    #[must_use]
    pub fn of(self, network: Option<u16>) -> Self {
        Self { network, ..self }
    }

    /// The same, since a time.
    #[must_use]
    pub fn since(self, since: u64) -> Self {
        let since = Some(since);
        Self { since, ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        for reason in Reason::ALL {
            let word = json!(reason.word());
            assert_eq!(serde_json::to_value(reason).unwrap(), word);
            assert_eq!(serde_json::from_value::<Reason>(word).unwrap(), reason);
            assert!(!reason.hint().is_empty() && !reason.hint().contains('\n'));
        }
    }

    /// A client reads gateways that are older, and newer ones.
    #[test]
    fn other_versions_are_read() {
        let read = |value| serde_json::from_value::<Degradation>(value).unwrap();
        let older = read(json!({ "object": "store", "why": "full", "since": 5 }));
        assert_eq!((older.reason, older.network), (Reason::Unknown, None));
        let newer = read(json!({ "object": "a", "reason": "moon", "why": "b", "since": null }));
        assert_eq!(newer.reason, Reason::Unknown);
    }
}
