//! The audit log.

use std::sync::Arc;

use axum::{Json, extract::State};
use control_api::answer::{AuditEntries, Refused};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{access::Reader, ask::Asked, refusal::Refusal, shared::Shared};

/// Entries in one answer when nothing is asked for, and the most.
const ENTRIES_DEFAULT: u32 = 100;
const ENTRIES_MAX: u32 = 1000;

/// Which entries are asked for.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Only entries with a smaller number: the last one of the page before.
    before: Option<u64>,
    /// The number of entries; 100 by default, 1000 at most.
    limit: Option<u32>,
}

/// Shows who changed what.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "history",
    summary = "Show the audit log",
    description = "Every change that was asked for, every request that was not allowed, and every \
        look at secrets.",
    params(Page),
    responses(
        (status = 200, description = "The newest first", body = AuditEntries),
        (status = 503, description = "The store cannot be read", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn audit(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(Page { before, limit }): Asked<Page>,
) -> Result<Json<AuditEntries>, Refusal> {
    let limit = limit.unwrap_or(ENTRIES_DEFAULT).min(ENTRIES_MAX);
    let entries = shared.front.audit.entries(before, limit).await?;
    Ok(Json(AuditEntries { entries }))
}
