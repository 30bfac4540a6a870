//! What is desired, and what is.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use control_api::{
    answer::{Generations, Refused, Status},
    boot::Role,
    place::NetworkKey,
    state::{EditError, Network, Whose},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    access::{self, Reader},
    ask::{self, Asked, Everybody, OfListener, OfNetwork, OfRoute},
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
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Showing {
    /// Whose part; that of `api` by default.
    owner: Option<String>,
    /// `all`: everything, each object with its `owner`.
    #[param(inline)]
    owners: Option<Everybody>,
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
    description = "What an owner has of the desired state, as it was applied, with `(kept)` in the \
        place of each secret: it can be posted back as it is. `ETag` has the generation that changed \
        it last, for `If-Match`.",
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
    Asked(showing): Asked<Showing>,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let whose = ask::whose(showing.owner.as_deref(), showing.owners)?;
    let document = if showing.secrets {
        let action = action.about(&whose);
        access::demand(&shared, &actor, Role::Admin, action.clone())?;
        let result = audit::Result {
            generation: Some(view.generation),
            word: "shown",
            detail: "with secrets".to_owned(),
        };
        audit::note(&shared, &actor, action, result);
        view.desired.render_part_with_secrets(&whose)
    } else {
        view.desired.render_part_masked(&whose)
    };
    Ok(shown(&view, &whose, document))
}

/// Whose part of something is to be shown.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Owners {
    /// Whose part; that of `api` by default.
    owner: Option<String>,
    /// `all`: everything, each object with its `owner`.
    #[param(inline)]
    owners: Option<Everybody>,
}

impl Owners {
    fn whose(&self) -> Result<Whose, Refusal> {
        ask::whose(self.owner.as_deref(), self.owners)
    }
}

/// Shows one network.
#[utoipa::path(
    get,
    path = "/api/v1/networks/{port}",
    tag = "state",
    summary = "Show one network",
    description = "What stands at the network's port in the owner's state document, with `(kept)` in \
        the place of each secret.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."), Owners),
    responses(
        (status = 200, description = "The network", body = serde_json::Value),
        (status = 404, description = "There is no such network", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn network(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(owners): Asked<Owners>,
    OfNetwork(port): OfNetwork,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let whose = owners.whose()?;
    let network = find_network(&view, port)?;
    let Some(part) = network.render_masked(&whose) else {
        let error = format!(
            "`{whose}` has nothing in network {port}, which is of `{}`",
            network.owner
        );
        return Err(Refusal::new(StatusCode::NOT_FOUND, error));
    };
    Ok(shown(&view, &whose, part))
}

/// Shows one rule.
#[utoipa::path(
    get,
    path = "/api/v1/networks/{port}/routes/{id}",
    tag = "state",
    summary = "Show one route",
    description = "The route as in the state document, with `(kept)` in the place of each secret.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("id" = String, Path, description = "The route's id."), Owners),
    responses(
        (status = 200, description = "The route", body = serde_json::Value),
        (status = 404, description = "There is no such network or route", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn route(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(owners): Asked<Owners>,
    OfRoute(port, id): OfRoute,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let whose = owners.whose()?;
    let route = find_network(&view, port)?.route(&id);
    let Some(route) = route.filter(|route| whose.has(&route.owner)) else {
        let error = EditError::UnknownRoute { port, id };
        return Err(ChangeRefused::Edit(error).into());
    };
    Ok(shown(&view, &whose, route.render_masked()))
}

/// Shows one listener.
#[utoipa::path(
    get,
    path = "/api/v1/networks/{port}/listeners/{name}",
    tag = "state",
    summary = "Show one listener of a network",
    description = "The listener as in the state document.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("name" = String, Path, description = "The listener's name."), Owners),
    responses(
        (status = 200, description = "The listener", body = serde_json::Value),
        (status = 404, description = "There is no such network or listener", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn listener(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(owners): Asked<Owners>,
    OfListener(port, name): OfListener,
) -> Result<Shown, Refusal> {
    let view = Arc::clone(&shared.front.view.borrow());
    let whose = owners.whose()?;
    let network = find_network(&view, port)?;
    let listener = network.listeners.get(&name);
    // They are the network's owner's.
    let Some(listener) = listener.filter(|_| whose.has(&network.owner)) else {
        let error = EditError::UnknownListener { port, name };
        return Err(ChangeRefused::Edit(error).into());
    };
    Ok(shown(&view, &whose, listener.render()))
}

fn find_network(view: &View, port: NetworkKey) -> Result<&Network, Refusal> {
    let found = view.desired.networks.get(&port);
    found.ok_or_else(|| ChangeRefused::Edit(EditError::UnknownNetwork(port)).into())
}

/// A part of the desired state, with the generation that changed what its owner has, for `If-Match`.
fn shown(view: &View, whose: &Whose, part: Value) -> Shown {
    let tag = (header::ETAG, format!("\"{}\"", view.generation_of(whose)));
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
    // It may be made now, of all networks: not on the thread that all requests share.
    let status = tokio::task::spawn_blocking(move || Status::clone(&view.status)).await;
    let made = status.map_err(|_| Refusal::unavailable("the status could not be made"));
    let mut status = made?;
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
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HowMany {
    /// Only those that changed the part of this owner.
    owner: Option<String>,
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
    Asked(HowMany { owner, limit }): Asked<HowMany>,
) -> Result<Json<Generations>, Refusal> {
    let limit = limit.unwrap_or(GENERATIONS_DEFAULT).min(GENERATIONS_MAX);
    let generations = shared.front.desired.generations(owner, limit).await?;
    let view = Arc::clone(&shared.front.view.borrow());
    Ok(Json(Generations {
        desired: view.generation,
        running: view.running_generation,
        generations,
    }))
}
