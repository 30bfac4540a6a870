//! What is desired, and what is.

use std::{num::NonZeroU16, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use control_api::{
    answer::{Generations, Refused, Status},
    boot::Role,
    state::{EditError, Network},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    access::{self, Reader},
    ask::{Asked, OfNetwork, OfRoute},
    audit::{self, Action},
    front::{ChangeRefused, View},
    refusal::Refusal,
    shared::Shared,
};

/// Generations in one answer when nothing is asked for, and the most.
const GENERATIONS_DEFAULT: u32 = 100;
const GENERATIONS_MAX: u32 = 10_000;

type Shown = ([(HeaderName, String); 1], Json<Value>);

/// How the desired state is to be shown.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Showing {
    /// Shows secrets; for admins.
    #[serde(default)]
    secrets: bool,
}

/// Shows the desired state.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "state",
    summary = "Show the desired state",
    description = "The state document as applied, with `(kept)` in the place of each secret: it can \
        be posted back as it is. `ETag` has its generation, for `If-Match`.",
    params(Showing),
    responses(
        (status = 200, description = "Networks by port", body = serde_json::Value),
        (status = 403, description = "Secrets are for admins", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn config(
    State(shared): State<Arc<Shared>>,
    Reader(actor): Reader,
    action: Action,
    Asked(Showing { secrets }): Asked<Showing>,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let document = if secrets {
        access::demand(&shared, &actor, Role::Admin, action.clone())?;
        let result = audit::Result {
            generation: Some(view.generation),
            word: "shown",
            detail: "with secrets".to_owned(),
        };
        audit::note(&shared, &actor, action, result);
        view.desired.render_with_secrets()
    } else {
        view.desired.render_masked()
    };
    Ok(shown(&view, document))
}

/// A query that has nothing to say.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Shows one network.
#[utoipa::path(
    get,
    path = "/api/v1/networks/{port}",
    tag = "state",
    summary = "Show one network",
    description = "What stands at the network's port in the state document, with `(kept)` in the \
        place of each secret.",
    params(("port" = u16, Path, description = "The network's public WireGuard port.")),
    responses(
        (status = 200, description = "The network", body = serde_json::Value),
        (status = 404, description = "There is no such network", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn network(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(Nothing {}): Asked<Nothing>,
    OfNetwork(port): OfNetwork,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let network = find_network(&view, port)?;
    Ok(shown(&view, network.render_masked()))
}

/// Shows one rule.
#[utoipa::path(
    get,
    path = "/api/v1/networks/{port}/routes/{id}",
    tag = "state",
    summary = "Show one route",
    description = "The route as in the state document, with `(kept)` in the place of each secret.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("id" = String, Path, description = "The route's id.")),
    responses(
        (status = 200, description = "The route", body = serde_json::Value),
        (status = 404, description = "There is no such network or route", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn route(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(Nothing {}): Asked<Nothing>,
    OfRoute(port, id): OfRoute,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let Some(route) = find_network(&view, port)?.route(&id) else {
        let error = EditError::UnknownRoute { port, id };
        return Err(ChangeRefused::Edit(error).into());
    };
    Ok(shown(&view, route.render_masked()))
}

fn find_network(view: &View, port: NonZeroU16) -> Result<&Network, Refusal> {
    let found = view.desired.networks.get(&port);
    found.ok_or_else(|| ChangeRefused::Edit(EditError::UnknownNetwork(port)).into())
}

/// A part of the desired state, with its generation for `If-Match`.
fn shown(view: &View, part: Value) -> Shown {
    let tag = (header::ETAG, format!("\"{}\"", view.generation));
    ([tag], Json(part))
}

/// What of the status is to be shown.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// Only the network of this port.
    network: Option<u16>,
}

/// Shows what is desired beside what is.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "state",
    summary = "Show desired against actual",
    params(Part),
    responses(
        (status = 200, description = "Everything, as of a second ago at most", body = Status),
        (status = 404, description = "There is no such network", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(Part { network }): Asked<Part>,
) -> Result<Json<Status>, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let mut status = view.status.clone();
    if let Some(port) = network {
        status.networks.retain(|known, _| *known == port);
        if status.networks.is_empty() {
            let error = format!("there is no network {port}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, error));
        }
    }
    status.uptime_seconds = audit::now().saturating_sub(status.started);
    if shared.front.tokens.borrow().is_empty() {
        let warning = "no token is configured: every client of the API is an admin";
        status.warnings.push(warning.to_owned());
    }
    Ok(Json(status))
}

/// How many generations are asked for.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HowMany {
    /// The number of generations, newest first; 100 by default, 10,000 at most.
    limit: Option<u32>,
}

/// Lists the generations that can be gone back to.
#[utoipa::path(
    get,
    path = "/api/v1/generations",
    tag = "state",
    summary = "List generations",
    params(HowMany),
    responses(
        (status = 200, description = "The newest first", body = Generations),
        (status = 503, description = "The store cannot be read", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn generations(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(HowMany { limit }): Asked<HowMany>,
) -> Result<Json<Generations>, Refusal> {
    let limit = limit.unwrap_or(GENERATIONS_DEFAULT).min(GENERATIONS_MAX);
    let generations = shared.front.store.generations(limit).await?;
    let view = Arc::clone(&shared.front.view.borrow());
    Ok(Json(Generations {
        desired: view.generation,
        running: view.running_generation,
        generations,
    }))
}
