//! How a rule treats its requests.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Auth, Prefixes, Sticky, auth::Checked};
use crate::{
    edit::{FieldEdits, Rewrite},
    field::Fields,
    health::{Check, Ejection},
    pages::Pages,
    retry::Retries,
};

/// What a rule says beside its action. The default changes and forbids nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Fields of requests.
    pub request_edits: FieldEdits,
    /// Fields of responses.
    pub response_edits: FieldEdits,
    /// Path and host of requests.
    pub rewrite: Rewrite,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// Longest content of a request in bytes; `None` is no bound.
    pub body_max: Option<u64>,
    /// What is repeated.
    pub retries: Retries,
    /// Who may come, by name and password.
    pub auth: Option<Auth>,
    /// Who may come, by address; empty is everybody.
    pub allow: Prefixes,
    /// Who may not, allowed or not.
    pub deny: Prefixes,
    /// A cookie that keeps a client with its target.
    pub sticky: Option<Sticky>,
    /// Whether and how targets are asked if they are well.
    pub check: Option<Check>,
    /// When a target that fails requests is left out.
    pub ejection: Ejection,
    /// The value of `Strict-Transport-Security`; written where TLS is spoken and nowhere else (RFC
    /// 6797 section 7.2).
    pub hsts: Option<Arc<str>>,
    /// What the network answers in place of the gateway's own bodies.
    pub pages: Option<Arc<Pages>>,
}

/// How long a rule waits. `None` is as long as the listener does, and for ever where a listener has
/// no such bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to one target.
    pub connect: Option<Duration>,
    /// For the head of the answer, from the last byte of the request on.
    pub answer: Option<Duration>,
    /// For the next byte of content, in either direction.
    pub idle: Option<Duration>,
    /// For the next byte of an upgraded connection, in either direction.
    pub upgraded_idle: Option<Duration>,
    /// For all of it, from the head of the request to the last byte of the answer. An upgraded
    /// connection is not bound by it. No listener has such a bound.
    pub whole: Option<Duration>,
}

/// Why a client may not have what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Its address (403).
    Address,
    /// It gave no name and password (401).
    Unauthorized,
    /// It gave the wrong ones (401).
    BadCredentials,
}

impl Denied {
    /// The word in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Address => "denied_address",
            Self::Unauthorized => "unauthorized",
            Self::BadCredentials => "bad_credentials",
        }
    }
}

impl Policy {
    /// Whether an address may come.
    pub fn lets_in(&self, client: IpAddr) -> bool {
        (self.allow.is_empty() || self.allow.contains(client)) && !self.deny.contains(client)
    }

    /// Whether a client may have what it asks for; the name it gave, where one is needed.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, client: IpAddr, fields: Fields<'_>) -> Result<Option<&str>, Denied> {
        if !self.lets_in(client) {
            return Err(Denied::Address);
        }
        let Some(auth) = &self.auth else {
            return Ok(None);
        };
        match auth.check(fields) {
            Checked::Granted(name) => Ok(Some(name)),
            Checked::Absent => Err(Denied::Unauthorized),
            Checked::Wrong => Err(Denied::BadCredentials),
        }
    }
}
