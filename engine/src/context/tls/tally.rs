//! What is counted of handshakes with clients.

use std::collections::BTreeMap;

use engine_tls::{Cause, session::Agreed};

/// What is counted of a listener's handshakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTally {
    /// Those that were done, by what was agreed on.
    pub done: BTreeMap<Handshake, u64>,
    /// Those that failed, by why.
    pub failed: BTreeMap<Cause, u64>,
}

/// What a handshake agreed on, as far as it is told apart in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handshake {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The key exchange's group by its IANA name; `none` when TLS 1.2 resumed a session.
    pub group: &'static str,
    /// Whether it resumed an earlier session.
    pub resumed: bool,
}

impl From<Agreed<'_>> for Handshake {
    fn from(agreed: Agreed<'_>) -> Self {
        Self {
            version: agreed.version,
            group: agreed.group.unwrap_or("none"),
            resumed: agreed.resumed,
        }
    }
}

impl TlsTally {
    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (handshake, count) in &other.done {
            *self.done.entry(*handshake).or_default() += count;
        }
        for (cause, count) in &other.failed {
            *self.failed.entry(*cause).or_default() += count;
        }
    }

    /// Counts a handshake that was done.
    pub(crate) fn count_done(&mut self, agreed: Agreed<'_>) {
        *self.done.entry(agreed.into()).or_default() += 1;
    }

    /// Counts one that failed.
    pub(crate) fn count_failed(&mut self, cause: Cause) {
        *self.failed.entry(cause).or_default() += 1;
    }
}
