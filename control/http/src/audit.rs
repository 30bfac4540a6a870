//! The audit log: who asked for what, and what came of it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::http::request::Parts;
use control_api::{answer::AuditEntry, state::Whose};

use crate::{
    front::Actor,
    refusal::{Refusal, chain},
    shared::Shared,
};

/// Longest path in an entry: room for a key with every character escaped.
const PATH_BYTES_MAX: usize = 256;
/// Longest detail.
const DETAIL_CHARS_MAX: usize = 512;
/// In the place of a name that is not known.
const NOBODY: &str = "-";

/// A request as the log has it.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    /// Its method and path, without its query.
    request: String,
    /// Whose objects it is about, where that is known.
    owner: String,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub(crate) struct Result {
    pub(crate) generation: Option<u64>,
    pub(crate) word: &'static str,
    pub(crate) detail: String,
}

impl Action {
    pub(crate) fn of(parts: &Parts) -> Self {
        let path = parts.uri.path();
        // A path is ASCII (RFC 3986): it may be cut anywhere.
        let path = path.get(..PATH_BYTES_MAX).unwrap_or(path);
        Self {
            request: format!("{} {path}", parts.method),
            owner: NOBODY.to_owned(),
        }
    }

    /// The same about somebody's objects.
    pub(crate) fn about(self, whose: &Whose) -> Self {
        Self {
            owner: whose.to_string(),
            ..self
        }
    }
}

impl Result {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        let word = if refusal.is_clients() {
            "refused"
        } else {
            "failed"
        };
        Self {
            generation: None,
            word,
            detail: refusal.error().to_owned(),
        }
    }

    /// Also stands for so many attempts that have no entry of their own.
    pub(crate) fn after(mut self, passed_over: u64) -> Self {
        if passed_over > 0 {
            self.detail = format!(
                "{}; {passed_over} refused attempts before it have no entry",
                self.detail
            );
        }
        self
    }
}

/// Notes what somebody did, or tried to. A log that cannot be written does not refuse the request:
/// the store's health shows it.
pub(crate) fn note(shared: &Arc<Shared>, actor: &Actor, action: Action, result: Result) {
    let (name, role) = (actor.name.to_string(), actor.role.word().to_owned());
    append(shared, name, role, &actor.source, action, result);
}

/// Notes what somebody tried whose token is not known.
pub(crate) fn note_stranger(shared: &Arc<Shared>, source: &str, action: Action, result: Result) {
    let (name, role) = (NOBODY.to_owned(), NOBODY.to_owned());
    append(shared, name, role, source, action, result);
}

fn append(
    shared: &Arc<Shared>,
    actor: String,
    role: String,
    source: &str,
    Action { request, owner }: Action,
    result: Result,
) {
    let written = shared.front.audit.append(AuditEntry {
        id: 0,
        time: now(),
        actor,
        role,
        source: source.to_owned(),
        action: request,
        generation: result.generation,
        result: result.word.to_owned(),
        detail: result.detail.chars().take(DETAIL_CHARS_MAX).collect(),
        owner,
    });
    tokio::spawn(async move {
        if let Err(error) = written.await {
            tracing::warn!(error = chain(&error), "no entry in the audit log");
        }
    });
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
