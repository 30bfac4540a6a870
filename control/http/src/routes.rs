//! What is answered where.
#![expect(
    unused_qualifications,
    reason = "what utoipa derives names every type in full"
)]

pub(crate) mod certificates;
pub(crate) mod change;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod journal;
pub(crate) mod probe;
pub(crate) mod state;
pub(crate) mod traffic;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{access::Aside, pending::EARLIER_CHANGE, refusal::Refusal, shared::Shared};

/// Every path, as the function that answers it says it, with what OpenAPI says of it.
pub(crate) fn paths() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(probe::healthz))
        .routes(routes!(probe::readyz))
        .routes(routes!(probe::metrics))
        .routes(routes!(documents::docs))
        .routes(routes!(documents::openapi))
        .routes(routes!(documents::schema))
        .routes(routes!(change::apply))
        .routes(routes!(state::config))
        .routes(routes!(state::status))
        .routes(routes!(certificates::list))
        .routes(routes!(state::generations))
        .routes(routes!(change::roll_back))
        .routes(routes!(
            state::network,
            change::put_network,
            change::patch_network,
            change::remove_network
        ))
        .routes(routes!(
            state::route,
            change::put_route,
            change::remove_route
        ))
        .routes(routes!(
            state::listener,
            change::put_listener,
            change::remove_listener
        ))
        .routes(routes!(change::put_peer, change::remove_peer))
        .routes(routes!(traffic::peers))
        .routes(routes!(traffic::routes))
        .routes(routes!(events::follow))
        .routes(routes!(journal::audit))
}

/// Older names of some paths, which OpenAPI does not list.
fn older_paths() -> Router<Arc<Shared>> {
    let config = get(state::config).post(change::apply);
    Router::new()
        .route("/api/v1/schema.json", get(documents::schema))
        .route("/api/v1/config.json", config)
        .route("/api/v1/status.json", get(state::status))
        .route("/api/v1/certificates.json", get(certificates::list))
        .route("/api/v1/generations.json", get(state::generations))
        .route("/api/v1/traffic.json", get(traffic::peers))
        .route("/api/v1/traffic/routes.json", get(traffic::routes))
        .route("/api/v1/audit.json", get(journal::audit))
}

/// What answers requests.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let (paths, _) = paths().split_for_parts();
    paths
        .merge(older_paths())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(with_one_host))
        .layer(middleware::map_response(harden))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), counted))
        .with_state(shared)
}

async fn unknown_path() -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "there is nothing here; /api/docs lists what there is",
    )
}

async fn wrong_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path takes other methods; /api/docs lists them",
    )
}

async fn counted(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let aside = Aside::default();
    request.extensions_mut().insert(aside.clone());
    let mut response = next.run(request).await;
    if let Some(outcome) = aside.0.get() {
        response
            .headers_mut()
            .insert(EARLIER_CHANGE, outcome.clone());
    }
    shared.tally.answered(response.status());
    response
}

/// Refuses requests that do not say whom they are for, or say it twice (RFC 9112 section 3.2):
/// whoever is between may have gone by the other one.
async fn with_one_host(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let is_needed = request.version() >= Version::HTTP_11;
    if second.is_some() || (is_needed && first.is_none()) {
        let error = "a request has one `Host`, and only one of HTTP/1.0 may have none";
        return Refusal::bad_request(error).into_response();
    }
    next.run(request).await
}

/// Answers are for whoever asked: nobody keeps them, and a browser takes them for nothing else than
/// what they say they are.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}
