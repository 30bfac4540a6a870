//! Changes of the desired state.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use control_api::{
    answer::{Applied, Refused},
    state::{Change, Scope},
};
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc::error::TrySendError, oneshot},
    task::JoinHandle,
    time::timeout,
};
use utoipa::IntoParams;

use crate::{
    access::Operator,
    ask::{self, Asked, Everybody, OfGeneration, OfListener, OfNetwork, OfPeer, OfRoute},
    audit::{self, Action},
    body::Document,
    front::{Actor, ChangeRefused, ChangeRequest},
    pending::{Claim, EARLIER_CHANGE, Pending},
    refusal::Refusal,
    shared::Shared,
};

/// How a change is to be made.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Manner {
    /// Whose objects are written or removed; `api` by default.
    owner: Option<String>,
    /// `all`: everybody's, each with its `owner`.
    #[param(inline)]
    owners: Option<Everybody>,
    /// Removes what others have in a network with it.
    #[serde(default)]
    cascade: bool,
    /// Answers with the plan, and changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// Answers when every worker runs the new state, not as soon as it is stored.
    #[serde(default)]
    wait: bool,
}

type Answer = Result<Json<Applied>, Refusal>;

/// What every change is asked with. Whoever may not change anything gets no further.
#[derive(Debug)]
pub(crate) struct Asking {
    actor: Actor,
    action: Action,
    manner: Manner,
    scope: Scope,
    if_match: Option<u64>,
}

impl FromRequestParts<Arc<Shared>> for Asking {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Operator(actor) = Operator::from_request_parts(parts, shared).await?;
        let Asked(manner) = Asked::<Manner>::from_request_parts(parts, shared).await?;
        let scope = Scope {
            whose: ask::whose_change(manner.owner.as_deref(), manner.owners)?,
            cascade: manner.cascade,
        };
        Ok(Self {
            actor,
            action: Action::of(parts).about(&scope.whose),
            manner,
            scope,
            if_match: ask::if_match(&parts.headers)?,
        })
    }
}

/// Makes a state document the whole desired state.
#[utoipa::path(
    post,
    path = "/api/v1/apply",
    tag = "state",
    summary = "Apply a state document",
    description = "The document becomes all that its owner has: networks, routes and peers of the \
        owner that are not in it are removed, and those of others stay. Applying the same document \
        again changes nothing. Also at `POST /api/v1/config.json`. A secret that is written `(kept)` \
        stays as it is.",
    params(Manner, ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "A state document: networks by port, or `{\"networks\": …}`.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the document; nothing changed", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn apply(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    Document { text, memory }: Document,
) -> Answer {
    make(&shared, asking, Change::Replace { text }, memory).await
}

/// Adds or replaces one network.
#[utoipa::path(
    put,
    path = "/api/v1/networks/{port}",
    tag = "state",
    summary = "Add or replace one network",
    description = "The network becomes what the body says; all others stay as they are.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "What stands at the network's port in a state document.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the network; nothing changed", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn put_network(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfNetwork(port): OfNetwork,
    Document { text, memory }: Document,
) -> Answer {
    make(&shared, asking, Change::PutNetwork { port, text }, memory).await
}

/// Changes one network.
#[utoipa::path(
    patch,
    path = "/api/v1/networks/{port}",
    tag = "state",
    summary = "Change one network",
    description = "By JSON Merge Patch (RFC 7396) of the network's part of the document: what is \
        not named stays, `null` removes.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "The patch.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the patch; nothing changed", body = Refused),
        (status = 404, description = "There is no such network", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn patch_network(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfNetwork(port): OfNetwork,
    Document { text, memory }: Document,
) -> Answer {
    make(&shared, asking, Change::PatchNetwork { port, text }, memory).await
}

/// Removes one network.
#[utoipa::path(
    delete,
    path = "/api/v1/networks/{port}",
    tag = "state",
    summary = "Remove one network",
    params(("port" = u16, Path, description = "The network's public WireGuard port."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Others have something in the network; nothing changed", body = Refused),
        (status = 404, description = "There is no such network", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn remove_network(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfNetwork(port): OfNetwork,
) -> Answer {
    make(&shared, asking, Change::RemoveNetwork { port }, None).await
}

/// Adds or replaces one rule.
#[utoipa::path(
    put,
    path = "/api/v1/networks/{port}/routes/{id}",
    tag = "state",
    summary = "Add or replace one route",
    description = "A route with this id is replaced in its place; a new one comes after all others \
        of the network.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("id" = String, Path, description = "The route's id, unique in the gateway."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "A rule as in `routes` of a state document. It has the id of the path, or none.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the route; nothing changed", body = Refused),
        (status = 404, description = "There is no such network, or the id is none", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn put_route(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfRoute(port, id): OfRoute,
    Document { text, memory }: Document,
) -> Answer {
    make(&shared, asking, Change::PutRoute { port, id, text }, memory).await
}

/// Removes one rule.
#[utoipa::path(
    delete,
    path = "/api/v1/networks/{port}/routes/{id}",
    tag = "state",
    summary = "Remove one route",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("id" = String, Path, description = "The route's id."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Another route needs this one; nothing changed", body = Refused),
        (status = 404, description = "There is no such network or route", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn remove_route(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfRoute(port, id): OfRoute,
) -> Answer {
    make(&shared, asking, Change::RemoveRoute { port, id }, None).await
}

/// Adds or replaces one listener.
#[utoipa::path(
    put,
    path = "/api/v1/networks/{port}/listeners/{name}",
    tag = "state",
    summary = "Add or replace one listener of a network",
    description = "A port that cannot be bound degrades the network, and is tried again every second. Connections of a \
        listener that is replaced go on.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("name" = String, Path, description = "The listener's name, unique in the gateway."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "What stands at the listener's name in a state document.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the listener; nothing changed", body = Refused),
        (status = 404, description = "There is no such network, or the name is none", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn put_listener(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfListener(port, name): OfListener,
    Document { text, memory }: Document,
) -> Answer {
    make(
        &shared,
        asking,
        Change::PutListener { port, name, text },
        memory,
    )
    .await
}

/// Removes one listener.
#[utoipa::path(
    delete,
    path = "/api/v1/networks/{port}/listeners/{name}",
    tag = "state",
    summary = "Remove one listener of a network",
    description = "It accepts no more connections. Those that it accepted go on. Listeners belong to the network's owner.",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("name" = String, Path, description = "The listener's name."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 404, description = "There is no such network or listener", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn remove_listener(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfListener(port, name): OfListener,
) -> Answer {
    make(&shared, asking, Change::RemoveListener { port, name }, None).await
}

/// Adds or replaces one peer.
#[utoipa::path(
    put,
    path = "/api/v1/networks/{port}/peers/{*key}",
    tag = "state",
    summary = "Add or replace one peer",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("key" = String, Path, description = "The peer's public key: base64 with `/` as it is or as `%2F`, or URL-safe base64."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    request_body(content = serde_json::Value, description = "What stands at the peer's key in a state document.", content_type = "application/json"),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 400, description = "Everything that is wrong with the peer; nothing changed", body = Refused),
        (status = 404, description = "There is no such network, or it has no device, or the key is none", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn put_peer(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfPeer(port, key): OfPeer,
    Document { text, memory }: Document,
) -> Answer {
    make(&shared, asking, Change::PutPeer { port, key, text }, memory).await
}

/// Removes one peer.
#[utoipa::path(
    delete,
    path = "/api/v1/networks/{port}/peers/{*key}",
    tag = "state",
    summary = "Remove one peer",
    params(("port" = u16, Path, description = "The network's public WireGuard port."),
        ("key" = String, Path, description = "The peer's public key: base64 with `/` as it is or as `%2F`, or URL-safe base64."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 404, description = "There is no such network or peer", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn remove_peer(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfPeer(port, key): OfPeer,
) -> Answer {
    make(&shared, asking, Change::RemovePeer { port, key }, None).await
}

/// Goes back to an earlier generation.
#[utoipa::path(
    post,
    path = "/api/v1/rollback/{generation}",
    tag = "state",
    summary = "Go back to an earlier generation",
    description = "What the owner had then is desired again, as a new generation; what others have stays.",
    params(("generation" = u64, Path, description = "The generation."), Manner,
        ("If-Match" = Option<String>, Header, description = "Only if this is the generation that changed the owner's part last: the `ETag` of its config.")),
    responses(
        (status = 200, description = "What was done, or would be", body = Applied),
        (status = 404, description = "There is no such generation any more", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn roll_back(
    State(shared): State<Arc<Shared>>,
    asking: Asking,
    OfGeneration(generation): OfGeneration,
) -> Answer {
    let Some(kept) = shared.front.desired.generation(generation).await? else {
        let error = format!("there is no generation {generation}, or no longer");
        return Err(Refusal::new(StatusCode::NOT_FOUND, error));
    };
    let text = kept.document;
    make(&shared, asking, Change::Rollback { generation, text }, None).await
}

/// Hands a change to the reconciler and notes what came of it; also when whoever asked hangs up after
/// it was begun. The
/// memory of its document is given back when it is done with, not when nobody waits any more.
async fn make(
    shared: &Arc<Shared>,
    asking: Asking,
    change: Change,
    memory: Option<OwnedSemaphorePermit>,
) -> Answer {
    let (claim, actor) = (Claim::default(), asking.actor.clone());
    let mut pending = Pending {
        task: Some(start(shared, asking, change, memory, claim.clone())),
        claim,
        actor,
        shared: Arc::clone(shared),
    };
    let limit = shared.settings.limits.request_timeout;
    let Some(task) = &mut pending.task else {
        return Err(ChangeRefused::ShuttingDown.into());
    };
    let Ok(made) = timeout(limit, task).await else {
        let seconds = limit.as_secs();
        // What is withdrawn is never begun, and what was begun is told in the next answer.
        return Err(Refusal::unavailable(match pending.claim.withdraw() {
            true => format!(
                "the change was not made: its turn did not come within {seconds} s, and others were first"
            ),
            false => format!(
                "the change is being made and took more than {seconds} s: the next answer to the same \
                 token and address says in `{EARLIER_CHANGE}` what became of it, as the audit log does"
            ),
        }));
    };
    pending.task = None;
    made.unwrap_or_else(|_| Err(Refusal::unavailable("the change was broken off")))
        .map(Json)
}

fn start(
    shared: &Arc<Shared>,
    asking: Asking,
    change: Change,
    memory: Option<OwnedSemaphorePermit>,
    claim: Claim,
) -> JoinHandle<Result<Applied, Refusal>> {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _held = memory;
        let Asking { actor, action, .. } = &asking;
        let (actor, action) = (actor.clone(), action.clone());
        let is_dry = asking.manner.dry_run;
        let answer = hand_over(&shared, asking, change, claim).await;
        let result = match &answer {
            Ok(_) if is_dry => None,
            Ok(applied) => Some(audit::Result {
                generation: Some(applied.generation),
                word: if applied.changed {
                    "applied"
                } else {
                    "unchanged"
                },
                detail: String::new(),
            }),
            Err(refusal) => Some(audit::Result::of(refusal)),
        };
        if let Some(result) = result {
            audit::note(&shared, &actor, action, result);
        }
        answer
    })
}

async fn hand_over(
    shared: &Arc<Shared>,
    asking: Asking,
    change: Change,
    claim: Claim,
) -> Result<Applied, Refusal> {
    let Asking {
        actor,
        manner: Manner { dry_run, wait, .. },
        scope,
        if_match,
        ..
    } = asking;
    let (reply, replied) = oneshot::channel();
    let request = ChangeRequest {
        change,
        actor,
        scope,
        if_match,
        dry_run,
        wait,
        claim,
        reply,
    };
    shared
        .front
        .changes
        .try_send(request)
        .map_err(|error| match error {
            TrySendError::Full(_) => Refusal::unavailable(format!(
                "the change was not made: {} wait for their turn already",
                shared.front.changes.max_capacity()
            )),
            TrySendError::Closed(_) => ChangeRefused::ShuttingDown.into(),
        })?;
    let answer = replied.await.map_err(|_| ChangeRefused::ShuttingDown)?;
    Ok(answer?)
}
